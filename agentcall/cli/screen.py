"""What a person sees of a run beside its answer, on standard error: cards, lines or nothing."""

from __future__ import annotations

import sys
from typing import Any, Protocol

from agentcall.cli.answer import AnswerWriter
from agentcall.cli.cards import CardDisplay
from agentcall.cli.lines import LineDisplay
from agentcall.cli.plain import is_terminal
from agentcall.cli.run import RunOptions
from agentcall.cli.tally import UsageSummary
from agentcall.events import Event, TextDelta, ToolCallRefused
from agentcall.messages import ToolCall, ToolResult
from agentcall.result import RunResult


class ActivityDisplay(Protocol):
    """Shows what happens beside the answer."""

    def handle(self, event: Event) -> None:
        """Something happened."""
        ...

    def show_refusal(self, call: ToolCall, result: ToolResult) -> None:
        """A call got an answer without being carried out."""
        ...

    def end(self, result: RunResult[Any], usage: str) -> None:
        """The run is over; `usage` says what it took."""
        ...

    def clear(self) -> None:
        """Takes away what moves, so that others may write."""
        ...


class SilentDisplay:
    """Shows nothing."""

    def handle(self, event: Event) -> None:
        """Nothing."""

    def show_refusal(self, call: ToolCall, result: ToolResult) -> None:
        """Nothing."""

    def end(self, result: RunResult[Any], usage: str) -> None:
        """Nothing."""

    def clear(self) -> None:
        """Nothing."""


def choose_display(options: RunOptions) -> ActivityDisplay:
    """Cards on a terminal, else plain lines."""
    if options.quiet:
        return SilentDisplay()
    whole = options.verbose
    return CardDisplay(verbose=whole) if is_terminal(sys.stderr) else LineDisplay(verbose=whole)


class RunDisplay:
    """The answer and the notes of one run, which may share a terminal."""

    def __init__(self, writer: AnswerWriter, display: ActivityDisplay) -> None:
        self._writer = writer
        self._display = display
        self._summary = UsageSummary()
        self._decided_ids: set[str] = set()

    def handle(self, event: Event) -> None:
        """Shows an event; text before notes, as a line has to end before a card begins."""
        self._summary.record(event)
        if isinstance(event, TextDelta):
            self._display.clear()
        self._writer.handle(event)
        self._display.handle(event)
        if isinstance(event, ToolCallRefused) and event.call.id not in self._decided_ids:
            self._display.show_refusal(event.call, event.result)

    def skip_refusal(self, call: ToolCall) -> None:
        """A person has decided about a call, and need not be told what became of it."""
        self._decided_ids.add(call.id)

    def end(self, result: RunResult[Any], seconds: float) -> None:
        """Shows how the run ended and what it took."""
        self._display.end(result, self._summary.format(result.usage, seconds))

    def close(self) -> None:
        """Leaves the terminal as it was."""
        self._display.clear()
