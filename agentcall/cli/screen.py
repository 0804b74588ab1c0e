"""What a person sees of a run beside its answer, on standard error: cards, lines or nothing."""

from __future__ import annotations

import sys
from typing import Any, Protocol

from agentcall.cli.answer import Answer
from agentcall.cli.cards import Cards
from agentcall.cli.lines import Lines
from agentcall.cli.plain import is_terminal
from agentcall.cli.run import RunOptions
from agentcall.cli.tally import Tally
from agentcall.events import Event, TextDelta, ToolCallRefused
from agentcall.messages import ToolCall, ToolResult
from agentcall.result import RunResult


class Notes(Protocol):
    """Shows what happens beside the answer."""

    def see(self, event: Event) -> None:
        """Something happened."""
        ...

    def refused(self, call: ToolCall, result: ToolResult) -> None:
        """A call got an answer without being carried out."""
        ...

    def end(self, result: RunResult[Any], usage: str) -> None:
        """The run is over; `usage` says what it took."""
        ...

    def clear(self) -> None:
        """Takes away what moves, so that others may write."""
        ...


class Silence:
    """Shows nothing."""

    def see(self, event: Event) -> None:
        """Nothing."""

    def refused(self, call: ToolCall, result: ToolResult) -> None:
        """Nothing."""

    def end(self, result: RunResult[Any], usage: str) -> None:
        """Nothing."""

    def clear(self) -> None:
        """Nothing."""


def notes_for(options: RunOptions) -> Notes:
    """Cards on a terminal, else plain lines."""
    if options.quiet:
        return Silence()
    whole = options.verbose
    return Cards(whole=whole) if is_terminal(sys.stderr) else Lines(whole=whole)


class Screen:
    """The answer and the notes of one run, which may share a terminal."""

    def __init__(self, answer: Answer, notes: Notes) -> None:
        self._answer = answer
        self._notes = notes
        self._tally = Tally()
        self._seen: set[str] = set()

    def see(self, event: Event) -> None:
        """Shows an event; text before notes, as a line has to end before a card begins."""
        self._tally.see(event)
        if isinstance(event, TextDelta):
            self._notes.clear()
        self._answer.see(event)
        self._notes.see(event)
        if isinstance(event, ToolCallRefused) and event.call.id not in self._seen:
            self._notes.refused(event.call, event.result)

    def decided(self, call: ToolCall) -> None:
        """A person has decided about a call, and need not be told what became of it."""
        self._seen.add(call.id)

    def end(self, result: RunResult[Any], seconds: float) -> None:
        """Shows how the run ended and what it took."""
        self._notes.end(result, self._tally.line(result.usage, seconds))

    def close(self) -> None:
        """Leaves the terminal as it was."""
        self._notes.clear()
