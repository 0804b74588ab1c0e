"""Runs a program of a model up to its next tool calls, in the sandbox pydantic-monty.

https://github.com/pydantic/monty: an interpreter in a process of its own, without files, network,
environment or packages. Rules:
1. A program is run from its start each time, with the results that its calls had: it continues in
   another process as in this one, and nothing of an interpreter's memory is ever loaded.
2. So a program always does the same: its clock shows the time at which it began, and its random
   numbers are drawn from that time.
3. A call that failed raises an exception in the program, which may catch it.
4. Calls inside one `await`, as with asyncio.gather, are made at the same time.
"""

from __future__ import annotations

import ast
import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias, cast

import orjson

from agentcall.dialects.code import ANSWER, FunctionSet, Program, ToolFunction
from agentcall.errors import MissingExtra
from agentcall.messages import ToolResult
from agentcall.tools.serialize import serialize

if TYPE_CHECKING:
    from pydantic_monty import FunctionSnapshot, Monty, MontySession, SyncSnapshot

MAX_SECONDS = 10.0
"""Of the program itself, without its calls."""
MAX_MEMORY = 100_000_000
MAX_OUTPUT_CHARS = 50_000
MAX_CALLS = 200
"""Calls of one program."""
_GRACE_SECONDS = 5.0
_MAX_TRACEBACK_CHARS = 2_000


class ProgramCall(NamedTuple):
    """A call that a program makes; `arguments` is JSON."""

    name: str
    arguments: str

    def normalize(self) -> ProgramCall:
        """Return the call with its arguments in an order that equal calls share."""
        value: object = orjson.loads(self.arguments)
        text = orjson.dumps(value, option=orjson.OPT_SORT_KEYS).decode()
        return self._replace(arguments=text)


@dataclass(frozen=True, slots=True)
class ProgramCalls:
    """The program waits for the results of these calls."""

    calls: tuple[ProgramCall, ...]


@dataclass(frozen=True, slots=True)
class ProgramEnd:
    """The program has ended; `text` is what it printed, or else its last value."""

    text: str


@dataclass(frozen=True, slots=True)
class ProgramFailure:
    """The program has failed; the reason is for the model."""

    reason: str


ProgramStep: TypeAlias = ProgramCalls | ProgramEnd | ProgramFailure


class CallOutcome(NamedTuple):
    """A call that was made earlier: the name of its tool, and its result."""

    name: str
    result: ToolResult


class ProgramAbandoned(Exception):
    """The calls that were made are not those of the program."""


def run_program(
    program: Program,
    functions: FunctionSet,
    outcomes: Sequence[CallOutcome],
    recall: Callable[[ProgramCall], ToolResult | None],
) -> ProgramStep:
    """Run a program with the outcomes of its calls so far, up to the next one.

    recall: returns the result of an equal call of an earlier program, which is not made again.
    Blocks. Raises ProgramAbandoned, and MissingExtra without pydantic-monty.
    """
    try:
        from pydantic_monty import CollectString, MontyError
    except ImportError as error:
        raise MissingExtra.for_feature("code mode", "python", error) from None

    printed = CollectString(MAX_OUTPUT_CHARS)
    began = datetime.fromisoformat(program.began)
    session = _get_pool().checkout(
        limits={
            "max_feed_duration_secs": MAX_SECONDS,
            "max_memory": MAX_MEMORY,
            "max_suspensions": 10 * MAX_CALLS,
        },
        os_policy={
            "datetime": began,
            "sleep": "zero",
            "random_start": {"seed": int(began.timestamp() * 1e6)},
        },
        print_flush_interval=0.1,
    )
    try:
        with session as worker:
            run = _Run(program, functions, outcomes, recall)
            step = run.execute(worker, printed)
    except MontyError as error:
        return ProgramFailure(_explain_error(error, program, functions, printed.output))
    if isinstance(step, ProgramEnd):
        return ProgramEnd(printed.output.strip() or step.text)
    return step


@cache
def _get_pool() -> Monty:
    """Return the interpreters of this process, each in a process of its own."""
    import atexit

    from pydantic_monty import Monty

    pool = Monty(request_timeout=MAX_SECONDS + _GRACE_SECONDS)
    pool.__enter__()
    atexit.register(pool.__exit__, None, None, None)
    return pool


class _Run:
    """One execution of a program."""

    def __init__(
        self,
        program: Program,
        functions: FunctionSet,
        outcomes: Sequence[CallOutcome],
        recall: Callable[[ProgramCall], ToolResult | None],
    ) -> None:
        self._code = program.code
        self._functions = functions
        self._outcomes = list(outcomes)
        self._recall = recall
        self._awaited = _find_awaited_calls(program.code)
        self._futures: dict[int, ProgramCall] = {}
        self._count = 0

    def execute(self, session: MontySession, printed: Any) -> ProgramStep:  # Any: CollectString
        """Run to the next calls, or to the end. Raises MontyError."""
        from pydantic_monty import FunctionSnapshot, FutureSnapshot, MontyComplete

        snapshot: SyncSnapshot = session.feed_start(self._code, print_callback=printed)
        while not isinstance(snapshot, MontyComplete):
            if isinstance(snapshot, FunctionSnapshot):
                if snapshot.is_os_function:
                    snapshot = snapshot.resume_not_handled()
                    continue
                step = self._take_call(snapshot)
                if not isinstance(step, dict):
                    return step
                snapshot = snapshot.resume(cast("Any", step))
            elif isinstance(snapshot, FutureSnapshot):
                waiting = self._settle(sorted(snapshot.pending_call_ids))
                if isinstance(waiting, ProgramCalls):
                    return waiting
                snapshot = snapshot.resume(cast("Any", waiting))
            else:
                function = self._functions.by_name.get(snapshot.variable_name)
                if function is None:
                    snapshot = snapshot.resume()
                else:  # the function itself as a value, such as in map(get_price, items)
                    snapshot = snapshot.resume(value=_make_stub(function.name))
        value: object = snapshot.output
        is_result = value is None or _ends_with_call(self._code, self._functions)
        return ProgramEnd("" if is_result else _format_value(value))

    def _take_call(self, snapshot: FunctionSnapshot) -> ProgramStep | dict[str, object]:
        """Return what the call gives the program, or the step that ends this execution."""
        name = str(snapshot.function_name)
        function = self._functions.by_name.get(name)
        if function is None:
            known = ", ".join(self._functions.by_name)
            error = NameError(f"name {name!r} is not defined; the functions are {known}")
            return {"exception": error}
        self._count += 1
        if self._count > MAX_CALLS:
            return {"exception": RuntimeError(f"a program may make at most {MAX_CALLS} calls")}
        try:
            arguments = function.bind(snapshot.args, snapshot.kwargs)
            encoded = serialize(arguments)
        except (TypeError, ValueError) as error:
            return {"exception": TypeError(str(error))}
        if name == ANSWER and function is self._functions.answer:
            return ProgramEnd(serialize(self._functions.unwrap_answer(arguments)))
        call = ProgramCall(function.tool.name, encoded)
        if self._is_awaited(snapshot):
            self._futures[snapshot.call_id] = call
            return {"future": ...}
        result = self._find_result(call)
        return ProgramCalls((call,)) if result is None else _settle_call(function, result)

    def _settle(self, pending: Sequence[int]) -> ProgramCalls | dict[int, dict[str, object]]:
        """Return what calls that were awaited together give, or those that are to be made."""
        calls = [self._futures[call_id] for call_id in pending]
        results = [self._find_result(call) for call in calls]
        missing = [call for call, result in zip(calls, results, strict=True) if result is None]
        if missing:
            return ProgramCalls(tuple(missing))
        by_tool = {item.tool.name: item for item in self._functions.by_name.values()}
        return {
            call_id: _settle_call(by_tool[call.name], cast("ToolResult", result))
            for call_id, call, result in zip(pending, calls, results, strict=True)
        }

    def _find_result(self, call: ProgramCall) -> ToolResult | None:
        """Return the result of a call: of this program, or of an equal call of an earlier one."""
        recalled = self._recall(call)
        if recalled is not None:
            return recalled
        if not self._outcomes:
            return None
        outcome = self._outcomes.pop(0)
        if outcome.name != call.name:
            raise ProgramAbandoned(f"it calls {call.name}, and {outcome.name} was called")
        return outcome.result

    def _is_awaited(self, snapshot: FunctionSnapshot) -> bool:
        position = snapshot.position
        return any(start <= position.start and position.end <= end for start, end in self._awaited)


def _find_awaited_calls(code: str) -> list[tuple[int, int]]:
    """Return where the `await` expressions of a program are, in bytes."""
    if "await" not in code:
        return []
    with suppress(SyntaxError, ValueError, RecursionError, MemoryError):
        lines = code.encode().splitlines(keepends=True)
        starts = [0]
        for line in lines:
            starts.append(starts[-1] + len(line))
        return [
            (
                starts[node.lineno - 1] + node.col_offset,
                starts[cast("int", node.end_lineno) - 1] + cast("int", node.end_col_offset),
            )
            for node in ast.walk(ast.parse(code))
            if isinstance(node, ast.Await)
        ]
    return []


def _ends_with_call(code: str, functions: FunctionSet) -> bool:
    """Whether the last line of a program is a call of a tool, whose result is not the answer."""
    last = ast.parse(code).body[-1]
    call = last.value if isinstance(last, ast.Expr) else None
    call = call.value if isinstance(call, ast.Await) else call
    return (
        isinstance(call, ast.Call)
        and isinstance(call.func, ast.Name)
        and (call.func.id in functions)
    )


def _make_stub(name: str) -> Callable[..., None]:
    def stub(*_args: object, **_kwargs: object) -> None:
        raise AssertionError("the interpreter stops before a call")

    stub.__name__ = stub.__qualname__ = name
    return stub


def _settle_call(function: ToolFunction, result: ToolResult) -> dict[str, object]:
    """Return the value or the exception that a call gives the program."""
    if result.is_error:
        return {"exception": RuntimeError(f"{function.name} failed: {result.text}")}
    return {"return_value": _parse_result(function, result.text)}


def _parse_result(function: ToolFunction, text: str) -> object:
    """Return the value of a result: text if the tool returns text, else what its JSON says."""
    if function.return_type in (str, None, type(None)):
        return text
    try:
        value: object = json.loads(text)
    except ValueError:
        return text
    return value


def _format_value(value: object) -> str:
    with suppress(RecursionError, ValueError):
        return str(value)[:MAX_OUTPUT_CHARS]
    return ""


def _explain_error(error: Exception, program: Program, functions: FunctionSet, printed: str) -> str:
    """Explain to the model why its program failed: its traceback, and how to call what failed."""
    display = getattr(error, "display", None)
    text = str(display()) if callable(display) else f"the interpreter ended: {error}"
    text = text.replace('File "<python-input-0>", ', "").strip()[-_MAX_TRACEBACK_CHARS:]
    last = text.splitlines()[-1] if text else ""
    lines = [text]
    if printed.strip():
        lines.insert(0, f"It printed: {printed.strip()[-_MAX_TRACEBACK_CHARS:]}")
    frames: Mapping[str, ToolFunction] = functions.by_name
    failed = [item for name, item in frames.items() if f"{name}(" in _get_line(error, program)]
    if "cannot suspend" in last:
        lines.append("Call it in a for loop instead.")
    lines += [f"def {item.signature}" for item in failed if item.signature not in last]
    return "\n".join(lines)


def _get_line(error: Exception, program: Program) -> str:
    """Return the line of the program in which it failed; empty if it is not known."""
    traceback = getattr(error, "traceback", None)
    if not callable(traceback):
        return ""
    frames = cast("Sequence[Any]", traceback())  # Any: Frame
    source = program.code.splitlines()
    numbers = [int(frame.line) for frame in frames]
    return source[numbers[-1] - 1] if numbers and 0 < numbers[-1] <= len(source) else ""
