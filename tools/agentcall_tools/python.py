"""Runs a model's Python in the sandbox pydantic-monty: https://github.com/pydantic/monty.

Rules: each call runs in a new process, in an interpreter without files, network, environment, or
imports beyond a few harmless modules. The interpreter stops the code at a limit on time, memory or
output.
"""

from agentcall import tool
from agentcall.errors import MissingExtra

MAX_PRINTED = 20_000
MAX_CODE_LENGTH = 50_000
_GRACE_SECONDS = 5.0


class PythonError(ValueError):
    """The code did not finish; the message has its output and its traceback."""


class Python:
    """The tool `run_python` with other limits: `Agent(tools=[Python(seconds=30)])`.

    seconds: how long the code may run.
    memory: how many bytes its values may take.
    """

    def __init__(self, *, seconds: float = 5.0, memory: int = 100_000_000) -> None:
        self._seconds = seconds
        self._memory = memory
        self.run_python = tool(timeout=seconds + 15)(self.run_python)

    @tool(idempotent=True, read_only=True, timeout=20)
    def run_python(self, code: str) -> str:
        """Runs a Python program and returns what it prints and the value of its last expression.

        It has the language and modules such as math, re, json, datetime and statistics; no files,
        no network, no packages. Nothing is kept from one call to the next.

        Args:
            code: The whole program, for example "import math\\nmath.comb(49, 6)".
        """
        if len(code) > MAX_CODE_LENGTH:
            raise PythonError(
                f"the code has {len(code)} characters, at most {MAX_CODE_LENGTH} are run"
            )
        try:
            from pydantic_monty import CollectString, Monty, MontyError
        except ImportError as error:
            raise MissingExtra.for_feature("run_python", "python", error) from None

        printed = CollectString(MAX_PRINTED)
        try:
            # Not pydantic-monty's asyncio API, which sometimes aborts at the interpreter's exit.
            with (
                Monty(max_processes=1, request_timeout=self._seconds + _GRACE_SECONDS) as pool,
                pool.checkout(
                    limits={"max_feed_duration_secs": self._seconds, "max_memory": self._memory},
                    os_policy={"sleep": "zero"},
                    print_flush_interval=0.1,
                ) as session,
            ):
                value: object = session.feed_run(code, print_callback=printed)
        except MontyError as error:
            raise PythonError(_join_output(printed.output, _format_error(error))) from None
        return (
            _join_output(printed.output, "" if value is None else _format_value(value))
            or "(no output)"
        )


def _join_output(printed: str, last: str) -> str:
    """Append a last line to the printed output."""
    return f"{printed.rstrip()}\n{last}" if printed.strip() and last else printed.rstrip() or last


def _format_error(error: Exception) -> str:
    """Return the traceback, or another reason why the code ended."""
    display = getattr(error, "display", None)
    text = str(display()) if callable(display) else f"the sandbox ended: {error}"
    if text.endswith(f"> {MAX_PRINTED} bytes"):
        return f"the code prints more than {MAX_PRINTED} bytes"
    return text[-4_000:]


def _format_value(value: object) -> str:
    try:
        text = repr(value)
    except (RecursionError, ValueError) as error:  # too deep, or an integer of too many digits
        return f"(the value of the last expression cannot be shown: {error})"
    if len(text) > MAX_PRINTED:
        return f"{text[:MAX_PRINTED]}... ({len(text)} characters in all)"
    return text


run_python = Python().run_python
