"""The events of a run: frozen values, in the order in which they happen."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Generic, Literal, TypeAlias

from typing_extensions import TypeVar

from agentcall.display import to_single_line
from agentcall.messages import (
    JSON,
    ToolCall,
    ToolResult,
    Usage,
    hide_image_data,
    to_json,
    tool_call_to_json,
    usage_to_json,
)
from agentcall.result import RunResult, run_result_to_json
from agentcall.tools.serialize import serialize, to_json_value

Output = TypeVar("Output", covariant=True, default=Any)  # Any: of any agent


@dataclass(frozen=True, slots=True)
class RunStarted:
    """A run has started."""

    run_id: str


@dataclass(frozen=True, slots=True)
class DialectChosen:
    """The dialect of the model, and why it was chosen."""

    dialect: str
    reason: str


@dataclass(frozen=True, slots=True)
class ServerAdapted:
    """The server refuses a form of request; `name` is what it is sent instead, `reason` says why.

    Emitted once in each run: when it is learned, or at the first request if it was known before.
    """

    name: str
    reason: str


@dataclass(frozen=True, slots=True)
class ModelProgress:
    """What happens before the model answers: `fetching` its file, `loading` it, or `reading`.

    done, total: bytes of the file, or tokens of the conversation; 0 if they are not known.
    """

    stage: Literal["fetching", "loading", "reading"]
    done: int = 0
    total: int = 0

    def format(self) -> str:
        """Return it in words: `fetching 34 %`, `loading`, `reading 128 of 450 tokens`."""
        match self.stage:
            case "fetching" if self.total:
                return f"fetching {self.done * 100 // self.total} %"
            case "reading" if self.total:
                return f"reading {self.done:,} of {self.total:,} tokens"
            case stage:
                return stage


@dataclass(frozen=True, slots=True)
class TextDelta:
    """A piece of the model's answer, as it arrives."""

    text: str


@dataclass(frozen=True, slots=True)
class PartialOutput:
    """The beginning of a typed output, as far as the model has written it.

    value: of the output type. The next one, and the output itself, differ from it only by growing.
        AnswerDiscarded revokes it: the next answer begins anew.
    """

    value: object


@dataclass(frozen=True, slots=True)
class ThinkingDelta:
    """A piece of the model's thinking, as it arrives."""

    text: str


@dataclass(frozen=True, slots=True)
class ModelAnswered:
    """A request to the model has ended; its usage and duration.

    writing: the seconds between the first part of the answer and its end.
    """

    usage: Usage
    seconds: float
    writing: float


@dataclass(frozen=True, slots=True)
class AnswerDiscarded:
    """The text of the current answer that was streamed so far is not valid.

    Either the model is asked again; or the end of the text showed that it was thinking, and it
    follows again as ThinkingDelta and TextDelta.
    """

    reason: str


@dataclass(frozen=True, slots=True)
class ToolCallRepaired:
    """A call was repaired: what the model wrote, and what it became."""

    call: ToolCall
    rule: str
    before: str
    after: str


@dataclass(frozen=True, slots=True)
class ToolCallDenied:
    """The policy does not allow the call; the model reads the reason."""

    call: ToolCall
    reason: str = ""


@dataclass(frozen=True, slots=True)
class ApprovalRequested:
    """The call waits until a person approves or denies it; `reason` says why."""

    call: ToolCall
    reason: str = ""


@dataclass(frozen=True, slots=True)
class ToolCallRefused:
    """A call is not executed; the model reads the result instead."""

    call: ToolCall
    result: ToolResult


@dataclass(frozen=True, slots=True)
class ToolCallStarted:
    """A call has started."""

    call: ToolCall


@dataclass(frozen=True, slots=True)
class ToolProgress:
    """A tool reports progress with `RunContext.emit`; `value` is any value, JSON if possible."""

    call: ToolCall
    value: object

    def format(self, limit: int | None = None) -> str:
        """Return the value as one line of at most `limit` characters."""
        return to_single_line(serialize(self.value), limit)


@dataclass(frozen=True, slots=True)
class ToolCallFinished:
    """A call has ended, successfully or with an error, after `seconds`.

    exception: what the tool raised; its JSON form is the name of its type.
    """

    call: ToolCall
    result: ToolResult
    seconds: float
    exception: BaseException | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class LoopDetected:
    """The model repeats a call or an error; `reason` says which, and the consequence."""

    call: ToolCall
    reason: str


@dataclass(frozen=True, slots=True)
class ContextTrimmed:
    """A tool result was shortened to fit the model's window; sizes in characters."""

    call_id: str
    before: int
    after: int


@dataclass(frozen=True, slots=True)
class MessagesOmitted:
    """The oldest messages were left out of the requests to fit the model's window.

    count: how many. They are still in the result and in the session.
    """

    count: int


@dataclass(frozen=True, slots=True)
class ContextCompacted:
    """The conversation was compacted by the rule of the session or the agent.

    before, after: how many messages the model gets. All are still in the result and in the session.
    """

    before: int
    after: int


@dataclass(frozen=True, slots=True)
class HandedOver:
    """Another agent continues the conversation; the names of both."""

    before: str
    after: str


@dataclass(frozen=True, slots=True)
class MessageReceived:
    """A message that was sent to the run is part of its next request."""

    text: str


@dataclass(frozen=True, slots=True)
class RunBlocked:
    """A check or a hook ends the run; what it had streamed is not valid if AnswerDiscarded came."""

    reason: str


@dataclass(frozen=True, slots=True)
class Nested:
    """An event in the run of an agent as a tool: its name, the id of its call."""

    agent: str
    call_id: str
    event: Event


@dataclass(frozen=True, slots=True)
class RunFinished(Generic[Output]):
    """A run has ended."""

    result: RunResult[Output]


ProgressEvent: TypeAlias = (
    RunStarted
    | DialectChosen
    | ServerAdapted
    | ModelProgress
    | TextDelta
    | PartialOutput
    | ThinkingDelta
    | ModelAnswered
    | AnswerDiscarded
    | ToolCallRepaired
    | ToolCallDenied
    | ApprovalRequested
    | ToolCallRefused
    | ToolCallStarted
    | ToolProgress
    | ToolCallFinished
    | LoopDetected
    | ContextTrimmed
    | MessagesOmitted
    | ContextCompacted
    | HandedOver
    | MessageReceived
    | RunBlocked
    | Nested
)
"""What happens until a run ends."""

Event: TypeAlias = ProgressEvent | RunFinished

Emit: TypeAlias = Callable[[Event], None]


def event_to_json(event: Event) -> dict[str, JSON]:
    """Return the JSON form of an event: its fields, and `type`, the name of its class.

    It is for logs and displays: an image is only described.
    """
    if isinstance(event, ToolProgress):
        return {
            "type": "ToolProgress",
            "call": tool_call_to_json(event.call),
            "value": to_json_value(event.value),
        }
    fields: dict[str, JSON] = {"type": type(event).__name__}
    if isinstance(event, PartialOutput):
        return {**fields, "value": to_json_value(event.value)}
    for name in type(event).__slots__:
        fields[name] = _value_to_json(getattr(event, name))
    return fields


def _value_to_json(
    value: str
    | float
    | ToolCall
    | ToolResult
    | Usage
    | RunResult[Any]
    | BaseException
    | Event
    | None,
) -> JSON:
    match value:
        case None | str() | int() | float():
            return value
        case ToolCall():
            return tool_call_to_json(value)
        case ToolResult():
            return to_json(hide_image_data(value))
        case Usage():
            return usage_to_json(value)
        case RunResult():
            return run_result_to_json(_hide_images(value))
        case BaseException():
            return type(value).__name__
        case _:
            return event_to_json(value)


def _hide_images(result: RunResult[Any]) -> RunResult[Any]:
    paused = (replace(call, result=_hide_images(call.result)) for call in result.paused)
    messages = tuple(map(hide_image_data, result.messages))
    return replace(result, messages=messages, paused=tuple(paused))
