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
    from agentcall.tool import Marks
    from agentcall.turn import Turn


class ToolStep(NamedTuple):
    """A tool call that is to be carried out, its key, and what its tool declares."""

    key: str
    call: ToolCall
    marks: Marks


class Past(NamedTuple):
    """A call that an earlier process began; `result` is None where it left none."""

    call: ToolCall
    result: ToolResult | None


@dataclass(frozen=True, slots=True)
class Point:
    """Where a run stands when it asks for its turn number `turns`.

    closed: why the tools are closed, if they are. faults: answers in a row that were no good.
    trims: how often the conversation was shortened; `messages` are whole all the same. prompt and
    counted: the tokens of the last request and the messages that were counted with it. agent: the
    name of the agent that goes on.
    """

    messages: tuple[Message, ...]
    usage: Usage
    turns: int
    closed: StopReason | None = None
    faults: int = 0
    trims: int = 0
    prompt: int = 0
    counted: int = 0
    agent: str = ""


class Steps(Protocol):
    """Carries out the steps of runs."""

    def reached(self, run_id: str) -> Point | None:
        """Where an earlier process came to in this run."""
        ...

    def past(self, key: str) -> Past | None:
        """What an earlier process began under this key, unless it is to be done again."""
        ...

    async def model(
        self, key: str, ask: Callable[[], Awaitable[Turn]], point: Callable[[], Point]
    ) -> Turn:
        """The model's turn, in a run that stands at `point`."""
        ...

    async def tool(self, step: ToolStep, call: Callable[[], Awaitable[ToolResult]]) -> ToolResult:
        """The result of a tool call."""
        ...


class Direct:
    """Carries each step out, and keeps nothing."""

    def reached(self, run_id: str) -> Point | None:
        """Nowhere."""
        return None

    def past(self, key: str) -> Past | None:
        """Nothing."""
        return None

    async def model(
        self, key: str, ask: Callable[[], Awaitable[Turn]], point: Callable[[], Point]
    ) -> Turn:
        """Asks."""
        return await ask()

    async def tool(self, step: ToolStep, call: Callable[[], Awaitable[ToolResult]]) -> ToolResult:
        """Calls."""
        return await call()


CUT_OFF = "it was begun before, and cut off; its outcome is unknown"
"""Why a call waits that its tool wants a person asked about."""

UNKNOWN = (
    "This call was begun, and then the program that ran it was cut off. Its outcome is unknown: it "
    "may have done its work, wholly or in part, or not at all. It was not carried out again. Do "
    "not call it again before you know what became of it; if you cannot find out, say so."
)


def unknown_outcome(call: ToolCall) -> ToolResult:
    """What the model is told of a call that was begun and left no result."""
    return ToolResult(call.id, call.name, UNKNOWN, is_error=True, assessed=True)
