"""One plain line for each thing that happens in a run: for logs and pipes."""

from __future__ import annotations

import sys
from typing import Any

from agentcall.cli.endings import describe_ending
from agentcall.cli.tally import format_duration
from agentcall.display import format_call, to_single_line
from agentcall.events import (
    AnswerDiscarded,
    ContextTrimmed,
    DialectChosen,
    Event,
    HandedOver,
    LoopDetected,
    Nested,
    ToolCallFinished,
    ToolCallRepaired,
)
from agentcall.messages import ToolCall, ToolResult
from agentcall.result import RunResult

_MAX_ARGUMENTS, _MAX_RESULT = 200, 200


class LineDisplay:
    """Writes lines to standard error."""

    def __init__(self, *, verbose: bool = False) -> None:
        self._verbose = verbose
        self._dialect = ""

    def handle(self, event: Event) -> None:
        """Writes what is worth a line."""
        match event:
            case DialectChosen(dialect, reason) if self._verbose and dialect != self._dialect:
                self._dialect = dialect
                _write_line(f"dialect: {dialect} ({reason})")
            case ToolCallFinished(call, result, seconds):
                self._write_call(call, result, f" ({format_duration(seconds)})")
            case ToolCallRepaired(call, rule, before, after):
                change = f": {before} -> {after}" if self._verbose else ""
                _write_line(f"repaired: {call.name}: {rule}{change}")
            case LoopDetected(call, reason):
                _write_line(f"loop: {call.name}: {reason}")
            case AnswerDiscarded(reason):
                _write_line(f"taken back: {reason}")
            case HandedOver(agent, other):
                _write_line(f"handed over: {agent} to {other}")
            case Nested(agent, _, inner):
                self._handle_nested_event(agent, inner)
            case ContextTrimmed(call_id, before, after):
                _write_line(f"trimmed: the result of {call_id} from {before} to {after} characters")
            case _:
                pass

    def _handle_nested_event(self, agent: str, event: Event) -> None:
        match event:
            case Nested(other, _, inner):
                self._handle_nested_event(f"{agent}/{other}", inner)
            case ToolCallFinished(call, result, seconds):
                self._write_call(call, result, f" ({format_duration(seconds)})", f"{agent}: ")
            case _:
                pass

    def show_refusal(self, call: ToolCall, result: ToolResult) -> None:
        """Says which call was not carried out, and why."""
        shown = format_call(call, _MAX_ARGUMENTS)
        _write_line(f"not called: {shown}: {to_single_line(result.text, self._limit)}")

    def end(self, result: RunResult[Any], usage: str) -> None:
        """Says how it ended and what it took."""
        if words := describe_ending(result):
            _write_line(words)
        _write_line(usage)

    def clear(self) -> None:
        """Nothing moves here."""

    def _write_call(self, call: ToolCall, result: ToolResult, took: str, agent: str = "") -> None:
        sign = "error:" if result.is_error else "->"
        text = to_single_line(result.text, self._limit)
        _write_line(f"tool: {agent}{format_call(call, _MAX_ARGUMENTS)} {sign} {text}{took}")

    @property
    def _limit(self) -> int | None:
        return None if self._verbose else _MAX_RESULT


def _write_line(line: str) -> None:
    sys.stderr.write(to_single_line(line) + "\n")
    sys.stderr.flush()
