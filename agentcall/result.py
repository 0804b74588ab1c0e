"""What a run gave, and why it ended."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, Literal, TypeVar

from agentcall.errors import AgentCallError
from agentcall.messages import Assistant, Message, ToolCall, ToolResult, Usage

Output = TypeVar("Output", covariant=True)

StopReason = Literal[
    "final",
    "max_requests",
    "max_tool_calls",
    "max_tokens",
    "loop",
    "timeout",
    "cancelled",
    "approval",
    "error",
]


class NoOutput(AgentCallError, LookupError):
    """The run ended without an output of the type that was asked for."""


@dataclass(frozen=True, slots=True)
class Missing:
    """Stands where an output would be, and says why there is none."""

    reason: str


@dataclass(frozen=True)  # no slots: a subscripted generic sets an attribute on what it makes
class RunResult(Generic[Output]):
    """What a run gave.

    `messages` is the whole conversation and may be handed to the next run; `start` is where this
    run's own messages begin in it.
    """

    answer: Output | Missing
    messages: tuple[Message, ...]
    start: int
    usage: Usage
    stop_reason: StopReason
    run_id: str
    pending: tuple[ToolCall, ...] = ()

    @property
    def output(self) -> Output:
        """The answer. Raises NoOutput if the run ended without one of the right type."""
        if isinstance(self.answer, Missing):
            raise NoOutput(
                f"the run has no output ({self.stop_reason}): {self.answer.reason}. "
                "result.text holds what the model said last."
            )
        return self.answer

    @property
    def text(self) -> str:
        """What the model said last, as text."""
        said = (m.text for m in reversed(self.messages) if isinstance(m, Assistant) and m.text)
        return next(said, "")

    @property
    def new_messages(self) -> tuple[Message, ...]:
        """The messages of this run alone, the prompt included."""
        return self.messages[self.start :]

    @property
    def tool_calls(self) -> tuple[tuple[ToolCall, ToolResult | None], ...]:
        """Each tool call of this run with its result; None for one that was not carried out."""
        new = self.new_messages
        results = {m.call_id: m for m in new if isinstance(m, ToolResult)}
        asked = (call for m in new if isinstance(m, Assistant) for call in m.calls)
        return tuple((call, results.get(call.id)) for call in asked)

    def __str__(self) -> str:
        return str(self.answer) if not isinstance(self.answer, Missing) else self.text
