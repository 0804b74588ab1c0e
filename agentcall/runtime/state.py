"""How far a run has come: the conversation, what it used, and the result that this makes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from agentcall.events import ContextTrimmed
from agentcall.messages import (
    Assistant,
    Message,
    ToolResult,
    Transcript,
    Usage,
    User,
    fill_missing_results,
)
from agentcall.result import MissingOutput, PausedAgentCall, PendingCall, RunResult, StopReason
from agentcall.runtime.budget import Budget
from agentcall.runtime.checkpoint import RunCheckpoint
from agentcall.runtime.context import RunInput
from agentcall.runtime.context_window import OffloadedResults
from agentcall.tools.tool import Tool

_FINAL_ANSWER_PROMPT = (
    "For this question no more tools can be called. "
    "Give your final answer to it now, with what you know."
)
_MIN_NEW_CHARS = 4_000
_MAX_CHARS_PER_TOKEN = 40
"""Far more than any text has: a prompt that grew by less did not grow by the new text."""


class RunState:
    """What a run has come to so far; `closed` says why its tools are closed, if they are."""

    def __init__(self, run_input: RunInput, budget: Budget, agent: str) -> None:
        self.run_id = run_input.run_id
        self.transcript = Transcript(run_input.messages)
        self.budget = budget
        self.turns = run_input.turns
        self.close_reason: StopReason | None = None
        self.agent = agent
        self._input = run_input
        self._offloaded = OffloadedResults()
        self._prompt_tokens = 0
        self._counted_messages = 0

    def create_checkpoint(self) -> RunCheckpoint:
        """Where the run stands."""
        return RunCheckpoint(
            messages=self._offloaded.restore(self.transcript),
            usage=self.budget.used,
            turns=self.turns,
            close_reason=self.close_reason,
            prompt_tokens=self._prompt_tokens,
            counted_messages=self._counted_messages,
            agent=self.agent,
        )

    def restore(self, checkpoint: RunCheckpoint) -> None:
        """Remembers what the messages of a point do not say."""
        self.close_reason = checkpoint.close_reason
        self._prompt_tokens, self._counted_messages = (
            checkpoint.prompt_tokens,
            checkpoint.counted_messages,
        )

    def switch_agent(self, agent: str) -> None:
        """Another agent goes on, whose prompts are not to be compared with those before."""
        self.agent = agent
        self._prompt_tokens = 0

    def trim(self) -> Sequence[ContextTrimmed]:
        """Shortens the largest tool results; nothing where there is nothing to shorten."""
        messages, cuts = self._offloaded.shorten(tuple(self.transcript))
        if cuts:
            self.transcript = Transcript(messages)
            self._prompt_tokens = 0
        return cuts

    def is_context_cut(self, usage: Usage) -> bool:
        """Whether the server has left a part of the conversation out, without a word.

        A prompt that was given much new text has to cost more tokens than the one before it.
        """
        prompt = usage.input_tokens // max(usage.requests, 1)
        size = len(self.transcript)
        new = sum(
            _count_characters(self.transcript[place])
            for place in range(self._counted_messages, size)
        )
        before, self._prompt_tokens, self._counted_messages = self._prompt_tokens, prompt, size
        much = new >= _MIN_NEW_CHARS and before > 0 and prompt > 0
        return much and prompt - before < new // _MAX_CHARS_PER_TOKEN

    def create_reader_tool(self) -> Tool:
        """The tool with which the model reads what was shortened."""
        return self._offloaded.create_reader_tool()

    def close_tools(self, reason: StopReason) -> None:
        """Closes the tools and asks for the answer; the first reason stays."""
        if self.close_reason is None:
            self.close_reason = reason
            self.transcript.append(User(_FINAL_ANSWER_PROMPT))

    def build_result(
        self,
        reason: StopReason,
        answer: object,
        *,
        results: Mapping[str, ToolResult] | None = None,
        pending: tuple[PendingCall, ...] = (),
        paused: tuple[PausedAgentCall, ...] = (),
    ) -> RunResult[Any]:  # Any: the agent knows its output's type
        """The result with this answer; `known` are results that came too late to be sent."""
        waiting = [each.call for each in pending] + [each.call for each in paused]
        return RunResult(
            answer=answer,
            messages=fill_missing_results(
                self._offloaded.restore(self.transcript), results, pending=waiting
            ),
            start=self._input.start,
            usage=self.budget.used,
            stop_reason=reason,
            run_id=self.run_id,
            pending=pending,
            turns=self.turns,
            agent=self.agent,
            approval_rules=self._input.approval_rules,
            paused=paused,
        )

    def find_best_answer(self, why: str, results: Mapping[str, ToolResult]) -> str | MissingOutput:
        """What comes nearest to an answer in words.

        What the model said last without a call; else, of a model that does not answer when its
        tools are closed, what its last tool gave.
        """
        new = fill_missing_results(self.transcript, results)[self._input.start :]
        said = [m.text for m in new if isinstance(m, Assistant) and m.text and not m.calls]
        if self.close_reason is not None:
            said = said or [m.text for m in new if isinstance(m, ToolResult) and not m.is_error]
        return said[-1] if said else MissingOutput(why)


def _count_characters(message: Message) -> int:
    """How many characters of a tool's result are no blanks."""
    if not isinstance(message, ToolResult):
        return 0
    return len(message.text) - message.text.count(" ") - message.text.count("\n")
