"""How far a run has come: the conversation, what it used, and the result that this makes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from agentcall.events import ContextTrimmed
from agentcall.history import completed
from agentcall.messages import Assistant, Message, ToolCall, ToolResult, Usage, User
from agentcall.result import Missing, RunResult, StopReason
from agentcall.tool import Tool
from agentcall.transcript import Transcript
from agentcall.trim import Shelf

_CLOSING = (
    "For this question no more tools can be called. "
    "Give your final answer to it now, with what you know."
)


class Progress:
    """What a run has come to so far; `closed` says why its tools are closed, if they are."""

    def __init__(
        self, run_id: str, messages: Sequence[Message], start: int, usage: Usage, turns: int
    ) -> None:
        self.run_id = run_id
        self.transcript = Transcript(messages)
        self.usage = usage
        self.turns = turns
        self.closed: StopReason | None = None
        self._start = start
        self._shelf = Shelf()

    def count_calls(self, made: int) -> None:
        """Puts down how many tool calls were made."""
        used = self.usage
        self.usage = Usage(
            used.requests, used.input_tokens, used.output_tokens, used.cached_tokens, made
        )

    def trim(self) -> Sequence[ContextTrimmed]:
        """Shortens the largest tool results; nothing where there is nothing to shorten."""
        messages, cuts = self._shelf.shortened(tuple(self.transcript))
        if cuts:
            self.transcript = Transcript(messages)
        return cuts

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
        pending: tuple[ToolCall, ...] = (),
    ) -> RunResult[Any]:  # Any: the agent knows its output's type
        """The result with this answer; `known` are results that came too late to be sent."""
        return RunResult(
            answer=answer,
            messages=completed(self._shelf.restored(self.transcript), known, waiting=pending),
            start=self._start,
            usage=self.usage,
            stop_reason=reason,
            run_id=self.run_id,
            pending=pending,
            turns=self.turns,
        )

    def best(self, why: str, known: Mapping[str, ToolResult]) -> str | Missing:
        """What comes nearest to an answer in words.

        What the model said last without a call; else, of a model that does not answer when its
        tools are closed, what its last tool gave.
        """
        new = completed(self.transcript, known)[self._start :]
        said = [m.text for m in new if isinstance(m, Assistant) and m.text and not m.calls]
        if self.closed is not None:
            said = said or [m.text for m in new if isinstance(m, ToolResult) and not m.is_error]
        return said[-1] if said else Missing(why)
