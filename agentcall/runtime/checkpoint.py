"""The seam through which a run makes every model request and every tool call.

The default awaits. Another implementation may record, and go on where an earlier process was cut
off: keys are `run:turn` for a model request and `run:turn:index` for a tool call, the same when a
run is resumed. A run within a run (an agent that is a tool) has the key of its call for a run id.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Protocol

from agentcall.messages import Message, ToolCall, ToolResult, Usage

if TYPE_CHECKING:
    from agentcall.result import StopReason
    from agentcall.runtime.turn import ModelTurn
    from agentcall.tools.tool import ToolOptions


class ToolStep(NamedTuple):
    """A tool call that is to be carried out, its key, and what its tool declares."""

    key: str
    call: ToolCall
    marks: ToolOptions


class RecordedCall(NamedTuple):
    """A call that an earlier process began; `result` is None where it left none."""

    call: ToolCall
    result: ToolResult | None


@dataclass(frozen=True, slots=True)
class RunCheckpoint:
    """Where a run stands when it asks for its turn number `turns`.

    closed: why the tools are closed, if they are. faults: answers in a row that were no good.
    trims: how often the conversation was shortened; `messages` are whole all the same. prompt and
    counted: the tokens of the last request and the messages that were counted with it. agent: the
    name of the agent that goes on.
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


class StepExecutor(Protocol):
    """Carries out the steps of runs."""

    def load_checkpoint(self, run_id: str) -> RunCheckpoint | None:
        """Where an earlier process came to in this run."""
        ...

    def find_recorded_call(self, key: str) -> RecordedCall | None:
        """What an earlier process began under this key, unless it is to be done again."""
        ...

    async def call_model(
        self,
        key: str,
        request: Callable[[], Awaitable[ModelTurn]],
        checkpoint: Callable[[], RunCheckpoint],
    ) -> ModelTurn:
        """The model's turn, in a run that stands at `point`."""
        ...

    async def call_tool(
        self, step: ToolStep, call: Callable[[], Awaitable[ToolResult]]
    ) -> ToolResult:
        """The result of a tool call."""
        ...


class InProcessExecutor:
    """Carries each step out, and keeps nothing."""

    def load_checkpoint(self, run_id: str) -> RunCheckpoint | None:
        """Nowhere."""
        return None

    def find_recorded_call(self, key: str) -> RecordedCall | None:
        """Nothing."""
        return None

    async def call_model(
        self,
        key: str,
        request: Callable[[], Awaitable[ModelTurn]],
        checkpoint: Callable[[], RunCheckpoint],
    ) -> ModelTurn:
        """Asks."""
        return await request()

    async def call_tool(
        self, step: ToolStep, call: Callable[[], Awaitable[ToolResult]]
    ) -> ToolResult:
        """Calls."""
        return await call()


INTERRUPTED = "it was begun before, and cut off; its outcome is unknown"
"""Why a call waits that its tool wants a person asked about."""

UNKNOWN_OUTCOME = (
    "This call was begun, and then the program that ran it was cut off. Its outcome is unknown: it "
    "may have done its work, wholly or in part, or not at all. It was not carried out again. Do "
    "not call it again before you know what became of it; if you cannot find out, say so."
)


def create_unknown_result(call: ToolCall) -> ToolResult:
    """What the model is told of a call that was begun and left no result."""
    return ToolResult(call.id, call.name, UNKNOWN_OUTCOME, is_error=True, assessed=True)
