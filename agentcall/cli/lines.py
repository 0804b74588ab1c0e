"""One plain line for each thing that happens in a run: for logs and pipes."""

from __future__ import annotations

import sys
from typing import Any

from agentcall.calltext import call_line
from agentcall.cli.endings import ending
from agentcall.cli.tally import lasted
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
from agentcall.plaintext import line_of
from agentcall.result import RunResult

_ARGUMENTS, _RESULT = 200, 200


class Lines:
    """Writes lines to standard error."""

    def __init__(self, *, whole: bool = False) -> None:
        self._whole = whole
        self._dialect = ""

    def see(self, event: Event) -> None:
        """Writes what is worth a line."""
        match event:
            case DialectChosen(dialect, reason) if self._whole and dialect != self._dialect:
                self._dialect = dialect
                _write(f"dialect: {dialect} ({reason})")
            case ToolCallFinished(call, result, seconds):
                self._write_call(call, result, f" ({lasted(seconds)})")
            case ToolCallRepaired(call, rule, before, after):
                change = f": {before} -> {after}" if self._whole else ""
                _write(f"repaired: {call.name}: {rule}{change}")
            case LoopDetected(call, reason):
                _write(f"loop: {call.name}: {reason}")
            case AnswerDiscarded(reason):
                _write(f"taken back: {reason}")
            case HandedOver(agent, other):
                _write(f"handed over: {agent} to {other}")
            case Nested(agent, _, inner):
                self._see_nested(agent, inner)
            case ContextTrimmed(call_id, before, after):
                _write(f"trimmed: the result of {call_id} from {before} to {after} characters")
            case _:
                pass

    def _see_nested(self, agent: str, event: Event) -> None:
        match event:
            case Nested(other, _, inner):
                self._see_nested(f"{agent}/{other}", inner)
            case ToolCallFinished(call, result, seconds):
                self._write_call(call, result, f" ({lasted(seconds)})", f"{agent}: ")
            case _:
                pass

    def refused(self, call: ToolCall, result: ToolResult) -> None:
        """Says which call was not carried out, and why."""
        shown = call_line(call, _ARGUMENTS)
        _write(f"not called: {shown}: {line_of(result.text, self._limit)}")

    def end(self, result: RunResult[Any], usage: str) -> None:
        """Says how it ended and what it took."""
        if words := ending(result):
            _write(words)
        _write(usage)

    def clear(self) -> None:
        """Nothing moves here."""

    def _write_call(self, call: ToolCall, result: ToolResult, took: str, agent: str = "") -> None:
        sign = "error:" if result.is_error else "->"
        text = line_of(result.text, self._limit)
        _write(f"tool: {agent}{call_line(call, _ARGUMENTS)} {sign} {text}{took}")

    @property
    def _limit(self) -> int | None:
        return None if self._whole else _RESULT


def _write(line: str) -> None:
    sys.stderr.write(line_of(line) + "\n")
    sys.stderr.flush()
