"""How far a run has come: the conversation, what it used, and the result that this makes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from agentcall.budget import Budget
from agentcall.events import ContextTrimmed
from agentcall.history import completed
from agentcall.messages import Assistant, Message, ToolResult, Usage, User
from agentcall.origin import Origin
from agentcall.result import Missing, Paused, PendingCall, RunResult, StopReason
from agentcall.steps import Point
from agentcall.tool import Tool
from agentcall.transcript import Transcript
from agentcall.trim import Shelf

_CLOSING = (
    "For this question no more tools can be called. "
    "Give your final answer to it now, with what you know."
)
_MUCH = 4_000
_LETTERS_A_TOKEN = 40
"""Far more than any text has: a prompt that grew by less did not grow by the new text."""


class Progress:
    """What a run has come to so far; `closed` says why its tools are closed, if they are."""

    def __init__(self, origin: Origin, budget: Budget, agent: str) -> None:
        self.run_id = origin.run_id
        self.transcript = Transcript(origin.messages)
        self.budget = budget
        self.turns = origin.turns
        self.closed: StopReason | None = None
        self.agent = agent
        self._origin = origin
        self._shelf = Shelf()
        self._prompt = 0
        self._counted = 0

    def point(self) -> Point:
        """Where the run stands."""
        return Point(
            messages=self._shelf.restored(self.transcript),
            usage=self.budget.used,
            turns=self.turns,
            closed=self.closed,
            prompt=self._prompt,
            counted=self._counted,
            agent=self.agent,
        )

    def go_on(self, point: Point) -> None:
        """Remembers what the messages of a point do not say."""
        self.closed = point.closed
        self._prompt, self._counted = point.prompt, point.counted

    def hand_over(self, agent: str) -> None:
        """Another agent goes on, whose prompts are not to be compared with those before."""
        self.agent = agent
        self._prompt = 0

    def trim(self) -> Sequence[ContextTrimmed]:
        """Shortens the largest tool results; nothing where there is nothing to shorten."""
        messages, cuts = self._shelf.shortened(tuple(self.transcript))
        if cuts:
            self.transcript = Transcript(messages)
            self._prompt = 0
        return cuts

    def was_cut(self, usage: Usage) -> bool:
        """Whether the server has left a part of the conversation out, without a word.

        A prompt that was given much new text has to cost more tokens than the one before it.
        """
        prompt = usage.input_tokens // max(usage.requests, 1)
        size = len(self.transcript)
        new = sum(_letters(self.transcript[place]) for place in range(self._counted, size))
        before, self._prompt, self._counted = self._prompt, prompt, size
        much = new >= _MUCH and before > 0 and prompt > 0
        return much and prompt - before < new // _LETTERS_A_TOKEN

    def reader(self) -> Tool:
        """The tool with which the model reads what was shortened."""
        return self._shelf.reader()

    def close(self, reason: StopReason) -> None:
        """Closes the tools and asks for the answer; the first reason stays."""
        if self.closed is None:
            self.closed = reason
            self.transcript.append(User(_CLOSING))

    def result(
        self,
        reason: StopReason,
        answer: object,
        *,
        known: Mapping[str, ToolResult] | None = None,
        pending: tuple[PendingCall, ...] = (),
        paused: tuple[Paused, ...] = (),
    ) -> RunResult[Any]:  # Any: the agent knows its output's type
        """The result with this answer; `known` are results that came too late to be sent."""
        waiting = [each.call for each in pending] + [each.call for each in paused]
        return RunResult(
            answer=answer,
            messages=completed(self._shelf.restored(self.transcript), known, waiting=waiting),
            start=self._origin.start,
            usage=self.budget.used,
            stop_reason=reason,
            run_id=self.run_id,
            pending=pending,
            turns=self.turns,
            agent=self.agent,
            grants=self._origin.grants,
            paused=paused,
        )

    def best(self, why: str, known: Mapping[str, ToolResult]) -> str | Missing:
        """What comes nearest to an answer in words.

        What the model said last without a call; else, of a model that does not answer when its
        tools are closed, what its last tool gave.
        """
        new = completed(self.transcript, known)[self._origin.start :]
        said = [m.text for m in new if isinstance(m, Assistant) and m.text and not m.calls]
        if self.closed is not None:
            said = said or [m.text for m in new if isinstance(m, ToolResult) and not m.is_error]
        return said[-1] if said else Missing(why)


def _letters(message: Message) -> int:
    """How many characters of a tool's result are no blanks."""
    if not isinstance(message, ToolResult):
        return 0
    return len(message.text) - message.text.count(" ") - message.text.count("\n")
