"""The console script in a process of its own, with pipes or on a terminal, for tests.

The process is forked off one that has imported what the script needs, a second cheaper for each
test; tests of the start itself run `SCRIPT`.
"""

from __future__ import annotations

import atexit
import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from tempfile import TemporaryFile

from zygote import Zygote

from agentcall.testing import FakeServer, RecordedRequest, Reply, say

SCRIPT = str(Path(sys.executable).with_name("agentcall"))
TOOLS = """
import time
from agentcall import Agent, ToolRegistry, tool

done = []

@tool
def add(a: int, b: int) -> int:
    "Adds two whole numbers."
    return a + b

@tool
def mul(a: int, b: int) -> int:
    "Multiplies two whole numbers."
    return a * b

@tool
def lines(count: int) -> str:
    "Gives many lines."
    return "\\n".join(f"line {n} \\x1b[31mred\\x1b[0m" for n in range(count))

@tool(requires_approval=True)
def delete(path: str) -> str:
    "Deletes a file."
    return f"deleted {path}"

@tool
def fail() -> str:
    "Fails."
    raise ValueError("no disk")

@tool
def nap(seconds: float) -> str:
    "Sleeps."
    time.sleep(seconds)
    return "slept"

def _private(x: int) -> int:
    return x

registry = ToolRegistry(add, mul)
agent = Agent(tools=[add], instructions="Mind the sums.")
word = "no tool"
"""


_IMPORTED = (
    "agentcall.cli", "agentcall.cli.run", "agentcall.cli.resume", "agentcall.cli.load",
    "agentcall.cli.durable", "agentcall.cli.batch", "agentcall.cli.sessions",
    "agentcall.cli.runs", "agentcall.dialects.parsers", "agentcall.models.http_chat",
    "agentcall_tools", "aiohttp", "pydantic.type_adapter", "rich.markdown",
    "typer._click.decorators",
)  # fmt: skip


def environment(**more: str) -> dict[str, str]:
    """A plain environment: no model, no colour forced, a wide terminal."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("AGENTCALL", "COV"))}
    kept = {k: v for k, v in kept.items() if k not in ("NO_COLOR", "FORCE_COLOR", "COLUMNS")}
    return {**kept, "TERM": "xterm-256color", "PROMPT_TOOLKIT_NO_CPR": "1", **more}


def kept_in(folder: Path) -> dict[str, str]:
    """Variables by which everything that is kept is kept in the folder."""
    return {"XDG_DATA_HOME": str(folder / "data"), "XDG_STATE_HOME": str(folder / "state")}


def agentcall(
    *words: str,
    cwd: Path,
    stdin: str | bytes | None = None,
    env: Mapping[str, str] | None = None,
    seconds: float = 60.0,
) -> subprocess.CompletedProcess[str]:
    """What `agentcall WORDS` gives, with pipes instead of a terminal."""
    given = stdin.encode() if isinstance(stdin, str) else stdin or b""
    with TemporaryFile() as fed, TemporaryFile() as out, TemporaryFile() as err:
        fed.write(given)
        fed.seek(0)
        child = zygote().start(
            "agentcall.cli", words, cwd=cwd, env=environment(**{**kept_in(cwd), **(env or {})}),
            files=(fed.fileno(), out.fileno(), err.fileno()),
        )  # fmt: skip
        try:
            code = child.wait(seconds)
        except TimeoutError:
            child.kill()
            raise
        out.seek(0), err.seek(0)
        return subprocess.CompletedProcess(words, code, out.read().decode(), err.read().decode())


@contextmanager
def served(*words: str, cwd: Path) -> Generator[str, None, None]:
    """The URL of `agentcall serve WORDS`, which is ended afterwards."""
    process = subprocess.Popen(
        [SCRIPT, "serve", *words, "--port", "0"],
        cwd=cwd,
        env=environment(),
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stderr is not None
        yield re.findall(r"http://\S+", process.stderr.readline())[0]
    finally:
        process.terminate()
        process.communicate(timeout=10)


@cache
def zygote() -> Zygote:
    """The one of this test process."""
    made = Zygote(*_IMPORTED)
    atexit.register(made.close)
    return made


@contextmanager
def model_of(*replies: Reply) -> Generator[FakeServer, None, None]:
    """A server that plays the replies, the last one for ever; what it is probed with is no turn."""
    left = list(replies)

    def answer(request: RecordedRequest) -> Reply:
        if request.body.get("max_tokens") == 1:
            return say("x")
        return left.pop(0) if len(left) > 1 else left[0]

    with FakeServer(answer) as server:
        yield server


def asked(server: FakeServer) -> list[RecordedRequest]:
    """The requests that were turns of a run."""
    return [request for request in server.requests if request.body.get("max_tokens") != 1]


class Terminal:
    """A command on a terminal of 100 columns: what it shows, and what a person types."""

    def __init__(self, *words: str, cwd: Path, stdin: int | None = None) -> None:
        self._master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 100, 0, 0))
        self.process = zygote().start(
            "agentcall.cli", words, cwd=cwd, env=environment(**kept_in(cwd)), on_terminal=True,
            files=(slave if stdin is None else stdin, slave, slave),
        )  # fmt: skip
        os.close(slave)
        self.raw = b""

    def wait_for(self, words: str, seconds: float = 30.0, times: int = 1) -> str:
        """What is shown, once `words` are in it so many times."""
        end = time.monotonic() + seconds
        while self.text.count(words) < times:
            gone = not self._read(0.1) and self.process.poll() is not None
            if gone or time.monotonic() > end:
                raise AssertionError(f"{words!r} never came; there was:\n{self.text}")
        return self.text

    def type(self, keys: str) -> None:
        """Types."""
        os.write(self._master, keys.encode())

    def end(self, seconds: float = 30.0) -> int:
        """The exit code, once the command has ended by itself."""
        end = time.monotonic() + seconds
        while self.process.poll() is None and time.monotonic() < end:
            self._read(0.05)
        while self._read(0.05):
            pass
        return self.process.wait(timeout=5.0)

    @property
    def text(self) -> str:
        """What was shown, without styles and cursor movements."""
        plain = re.sub(rb"\x1b\[[0-9;?]*[A-Za-z]", b"", self.raw)
        return plain.decode(errors="replace").replace("\r\n", "\n")

    def close(self) -> None:
        """Ends what is left."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait()
        os.close(self._master)

    def _read(self, seconds: float) -> bool:
        ready, _, _ = select.select([self._master], [], [], seconds)
        try:
            data = os.read(self._master, 65536) if ready else b""
        except OSError:  # the other end is closed
            data = b""
        self.raw += data
        return bool(data)
