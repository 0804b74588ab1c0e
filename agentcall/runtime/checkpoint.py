"""The seam through which a run makes every model request and every tool call.

The default executes each step and records nothing. Another implementation may record the steps
and continue a run that was interrupted. The keys of the steps are `run:turn` for a model request
and `run:turn:index` for a tool call, and they stay the same when the run is resumed. The id of a
nested run (of an agent as a tool) is the key of its call.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple, Protocol

from agentcall.messages import Message, ToolCall, ToolResult, Usage
from agentcall.runtime.prompts import UNKNOWN_OUTCOME

if TYPE_CHECKING:  # `Agent` imports this file when it is created, and a run the others
    from agentcall.result import ContextCut, StopReason
    from agentcall.runtime.planned_call import PlannedCall
    from agentcall.runtime.turn import ModelTurn

INTERRUPTED = "it was started before and interrupted; its outcome is unknown"
"""Why an interrupted call waits, if its tool declares `after_crash="ask"`."""


class RecordedCall(NamedTuple):
    """A call that an earlier process started; `result` is None if the process ended before it.

    sent: the messages that it sent to the model.
    """

    call: ToolCall
    result: ToolResult | None
    sent: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class RunCheckpoint:
    """The state of a run when it asks for its turn number `turns`.

    messages: the whole conversation, whatever was trimmed.
    close_reason: why the tools are closed, if they are.
    faults: the number of invalid answers in a row.
    trims: how often the conversation was shortened, in checkpoints of older versions.
    prompt_tokens, counted_messages: the tokens of the last request, and the messages in it.
    agent: the name of the agent that continues.
    hidden_tools: the tools that were not offered with the request.
    cuts, lengths: what the model gets of the messages (`ContextView`).
    held: whether the next answer has to be an output, after one that was not.
    """

    messages: tuple[Message, ...]
    usage: Usage
    turns: int
    close_reason: StopReason | None = None
    faults: int = 0
    trims: int = 0
    prompt_tokens: int = 0
    counted_messages: int = 0
    agent: str = ""
    hidden_tools: tuple[str, ...] = ()
    cuts: tuple[ContextCut, ...] = ()
    lengths: Mapping[str, tuple[int, int]] = field(default_factory=dict[str, tuple[int, int]])
    held: bool = False


class StepExecutor(Protocol):
    """Executes the steps of runs."""

    def load_checkpoint(self, run_id: str) -> RunCheckpoint | None:
        """Return the state in which an earlier process left this run."""
        ...

    def find_recorded_call(self, key: str) -> RecordedCall | None:
        """Return the call that an earlier process started, unless it is to be executed again."""
        ...

    async def save_checkpoint(self, run_id: str, checkpoint: RunCheckpoint) -> None:
        """Save the state before a turn that contains messages which a process may not get again."""
        ...

    async def call_model(
        self,
        key: str,
        request: Callable[[], Awaitable[ModelTurn]],
        checkpoint: Callable[[], RunCheckpoint],
    ) -> ModelTurn:
        """Return the model's turn; `checkpoint` creates the state before it."""
        ...

    async def call_tool(
        self, step: PlannedCall, call: Callable[[], Awaitable[ToolResult]]
    ) -> ToolResult:
        """Return the result of a tool call."""
        ...


class InProcessExecutor:
    """Executes each step and records nothing."""

    def load_checkpoint(self, run_id: str) -> RunCheckpoint | None:
        """Return None: there is no earlier process."""
        return None

    def find_recorded_call(self, key: str) -> RecordedCall | None:
        """Return None: there is no earlier process."""
        return None

    async def save_checkpoint(self, run_id: str, checkpoint: RunCheckpoint) -> None:
        """Do nothing."""

    async def call_model(
        self,
        key: str,
        request: Callable[[], Awaitable[ModelTurn]],
        checkpoint: Callable[[], RunCheckpoint],
    ) -> ModelTurn:
        """Ask the model."""
        return await request()

    async def call_tool(
        self, step: PlannedCall, call: Callable[[], Awaitable[ToolResult]]
    ) -> ToolResult:
        """Execute the call."""
        return await call()


def create_unknown_result(call: ToolCall) -> ToolResult:
    """Create the result of a call that was started and never finished."""
    return ToolResult(call.id, call.name, UNKNOWN_OUTCOME, is_error=True, assessed=True)
