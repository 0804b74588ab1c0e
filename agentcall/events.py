"""What happens in a run: frozen values, in the order in which they happen."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, TypeAlias

from agentcall.messages import JSON, ToolCall, ToolResult, Usage, to_json, tool_call_to_json
from agentcall.result import RunResult, run_result_to_json


@dataclass(frozen=True, slots=True)
class RunStarted:
    """A run begins."""

    run_id: str


@dataclass(frozen=True, slots=True)
class DialectChosen:
    """The dialect that is spoken with the model, and why that one."""

    dialect: str
    reason: str


@dataclass(frozen=True, slots=True)
class TextDelta:
    """A piece of the model's answer, as it arrives."""

    text: str


@dataclass(frozen=True, slots=True)
class ThinkingDelta:
    """A piece of the model's thinking, as it arrives."""

    text: str


@dataclass(frozen=True, slots=True)
class ModelAnswered:
    """A request to the model has ended: what it used, and the seconds it took.

    writing: the seconds of them after the answer's first part had come.
    """

    usage: Usage
    seconds: float
    writing: float


@dataclass(frozen=True, slots=True)
class AnswerDiscarded:
    """The text streamed of the current answer is void.

    The model is asked again; or the text was thinking, as its end showed, and what it really was
    follows as ThinkingDelta and TextDelta.
    """

    reason: str


@dataclass(frozen=True, slots=True)
class ToolCallRepaired:
    """What the model wrote was mended before it was carried out."""

    call: ToolCall
    rule: str
    before: str
    after: str


@dataclass(frozen=True, slots=True)
class ToolCallDenied:
    """The policy does not allow the call; the model is told the reason."""

    call: ToolCall
    reason: str = ""


@dataclass(frozen=True, slots=True)
class ApprovalRequested:
    """The run stops here until somebody approves or denies the call; `reason` says why."""

    call: ToolCall
    reason: str = ""


@dataclass(frozen=True, slots=True)
class ToolCallRefused:
    """A call is not carried out; the result is what the model is told instead."""

    call: ToolCall
    result: ToolResult


@dataclass(frozen=True, slots=True)
class ToolCallStarted:
    """A tool begins its work."""

    call: ToolCall


@dataclass(frozen=True, slots=True)
class ToolCallFinished:
    """A tool has ended, well or with an error; `seconds` it took."""

    call: ToolCall
    result: ToolResult
    seconds: float


@dataclass(frozen=True, slots=True)
class LoopDetected:
    """The model repeats itself; what was done about it."""

    call: ToolCall
    reason: str


@dataclass(frozen=True, slots=True)
class ContextTrimmed:
    """Tool results were shortened to fit the model's window; sizes in characters."""

    call_id: str
    before: int
    after: int


@dataclass(frozen=True, slots=True)
class HandedOver:
    """The conversation goes on with another agent; the names of both."""

    before: str
    after: str


@dataclass(frozen=True, slots=True)
class Nested:
    """Something happened in the run of an agent that is a tool: its name, the id of its call."""

    agent: str
    call_id: str
    event: Event


@dataclass(frozen=True, slots=True)
class RunFinished:
    """A run has ended."""

    result: RunResult[Any]  # Any: the agent knows its output's type


Event: TypeAlias = (
    RunStarted
    | DialectChosen
    | TextDelta
    | ThinkingDelta
    | ModelAnswered
    | AnswerDiscarded
    | ToolCallRepaired
    | ToolCallDenied
    | ApprovalRequested
    | ToolCallRefused
    | ToolCallStarted
    | ToolCallFinished
    | LoopDetected
    | ContextTrimmed
    | HandedOver
    | Nested
    | RunFinished
)

Emit: TypeAlias = Callable[[Event], None]


def event_to_json(event: Event) -> dict[str, JSON]:
    """The JSON form of an event: its fields, and `type`, the name of its class."""
    fields: dict[str, JSON] = {"type": type(event).__name__}
    for name in type(event).__slots__:
        fields[name] = _value_to_json(getattr(event, name))
    return fields


def _value_to_json(
    value: str | float | ToolCall | ToolResult | Usage | RunResult[Any] | Event | None,
) -> JSON:
    match value:
        case None | str() | int() | float():
            return value
        case ToolCall():
            return tool_call_to_json(value)
        case ToolResult():
            return to_json(value)
        case Usage():
            return asdict(value)
        case RunResult():
            return run_result_to_json(value)
        case _:
            return event_to_json(value)
