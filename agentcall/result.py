"""The result of a run, and why it ended."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Generic, Literal, NamedTuple, TypeAlias, TypeVar, cast, get_args

import orjson

from agentcall.approvals import (
    Answer,
    ApprovalRule,
    Question,
    approval_rule_from_json,
    approval_rule_to_json,
    question_from_json,
    question_to_json,
)
from agentcall.errors import AgentCallError, ToolError, UsageError, get_attached_result
from agentcall.messages import (
    JSON,
    Assistant,
    Message,
    ToolCall,
    ToolResult,
    Usage,
    User,
    encode_json,
    load_messages,
    pair_calls,
    to_json,
    tool_call_from_json,
    tool_call_to_json,
    usage_from_json,
    usage_to_json,
)
from agentcall.settings import Limits, ModelSettings
from agentcall.tools.serialize import to_json_value

Output = TypeVar("Output", covariant=True)

StopReason = Literal[
    "final",
    "max_requests",
    "max_tool_calls",
    "max_tokens",
    "content_filter",
    "loop",
    "timeout",
    "cancelled",
    "approval",
    "blocked",
    "error",
]
"""Why a run ended; docs/stopping.md has a table. `tests/test_result.py` names what handles them."""


class NoOutput(AgentCallError, LookupError):
    """The run ended without an output of the agent's output type."""


@dataclass(frozen=True, slots=True)
class MissingOutput:
    """Replaces the output of a run that has none; `reason` says why."""

    reason: str


class ToolCallRecord(NamedTuple):
    """A tool call of a run and its result, which is None while it waits for approval."""

    call: ToolCall
    result: ToolResult | None

    @property
    def id(self) -> str:
        """The id of the call."""
        return self.call.id

    @property
    def name(self) -> str:
        """The name of the tool."""
        return self.call.name

    @property
    def arguments(self) -> str:
        """The arguments as JSON text; see `args`."""
        return self.call.arguments

    @property
    def args(self) -> dict[str, Any]:  # Any: a value of JSON
        """The arguments as a dict."""
        return self.call.args

    @property
    def text(self) -> str:
        """The text of the result, as the model reads it; empty without a result."""
        return "" if self.result is None else self.result.text

    @property
    def data(self) -> Any:  # Any: the application knows its type
        """What the tool gave the application (`Result(data=...)`); None without any.

        Of a result that was saved it is the JSON value, and None if the data have none: then
        `result.unsaved_data` is the name of their type.
        """
        return None if self.result is None else self.result.data

    @property
    def seconds(self) -> float | None:
        """How long the call took; None if it was not executed."""
        return None if self.result is None else self.result.seconds

    @property
    def succeeded(self) -> bool:
        """Whether the call has a result that is not an error."""
        return self.result is not None and not self.result.is_error


@dataclass(frozen=True, slots=True)
class PendingCall:
    """A call that waits for the decision of a person.

    agent: the name of the agent that made the call.
    reason: why a person has to decide; empty if only the tool's `requires_approval` says so.
    question: what the tool asks the person. `Edited(values)` answers it, `Approved()` says yes to a
        question without values, and `Denied(reason)` gives the call up.
    answers: to the questions that the call asked before; it is made again with all of them.
    definition: the digest of the tool's definition, if that is from outside, such as an MCP server.
    """

    call: ToolCall
    agent: str
    reason: str = ""
    question: Question | None = None
    answers: tuple[Answer, ...] = ()
    definition: str = ""

    def __str__(self) -> str:
        reason = f": {self.reason}" if self.reason else ""
        awaited = "approval" if self.question is None else "an answer"
        return f"{self.call.name} waits for {awaited}{reason}"


@dataclass(frozen=True, slots=True)
class PausedAgentCall:
    """A call of an agent as a tool, and the result with which the agent's run waits."""

    call: ToolCall
    result: RunResult[Any]  # Any: there is no output yet

    @property
    def pending(self) -> tuple[PendingCall, ...]:
        """The calls that wait in the agent's run; their ids are prefixed by the agent's call."""
        return tuple(map(self._prefix_call_id, self.result.pending))

    def _prefix_call_id(self, pending: PendingCall) -> PendingCall:
        call = pending.call
        return replace(pending, call=replace(call, id=f"{self.call.id}/{call.id}"))


@dataclass(frozen=True, slots=True)
class ToolFailure:
    """A tool raised an exception, which the model read as an error message.

    agent: the name of the agent that made the call.
    """

    call: ToolCall
    exception: BaseException
    agent: str = "agent"


ToolErrorHandler: TypeAlias = Callable[[ToolFailure], str | None]
"""Decides about a tool's exception: returns the text for the model (None: the usual one) or raises,
which ends the run."""


def raise_tool_error(failure: ToolFailure) -> None:
    """Raise a tool's exception, which ends the run: `Agent(on_tool_error="raise")`."""
    if isinstance(failure.exception, Exception):
        raise failure.exception
    # SystemExit and its like would end the event loop, and not only the run.
    name = type(failure.exception).__name__
    raise ToolError(f"{failure.call.name} raised {name}") from failure.exception


@dataclass(frozen=True, slots=True)
class SavedOverrides:
    """The arguments with which a run changed its agent, as far as they are data.

    unsaved: the names of those that are not, such as `tools`.
    """

    limits: Limits | None = None
    instructions: str | None = None
    model: str | None = None
    unsaved: tuple[str, ...] = ()

    def to_json(self) -> dict[str, JSON]:
        """Return the JSON form."""
        values = {name: getattr(self, name) for name in ("instructions", "model")}
        values["limits"] = None if self.limits is None else asdict(self.limits)
        values["unsaved"] = list(self.unsaved) or None
        return {name: value for name, value in values.items() if value is not None}

    @classmethod
    def from_json(cls, wire: Mapping[str, Any]) -> SavedOverrides:  # Any: checked when it is made
        """Return what `to_json` returned. Raises TypeError and UsageError."""
        limits = Limits(**wire["limits"]) if "limits" in wire else None
        names = tuple(map(str, wire.get("unsaved", ())))
        return cls(limits, wire.get("instructions"), wire.get("model"), names)


class ContextCut(NamedTuple):
    """Messages from `start` to `end` of a conversation that the model gets `head` in place of."""

    start: int
    end: int
    head: tuple[Message, ...] = ()

    def to_json(self) -> list[JSON]:
        """Return the JSON form."""
        return [self.start, self.end, [to_json(message) for message in self.head]]

    @classmethod
    def from_json(cls, wire: Sequence[Any]) -> ContextCut:  # Any: checked when it is made
        """Return what `to_json` returned. Raises ValueError, TypeError and UsageError."""
        start, end, head = wire
        return cls(int(start), int(end), load_messages(head))


@dataclass(frozen=True)  # no slots: a subscripted generic sets an attribute on what it makes
class RunResult(Generic[Output]):
    """The result of a run.

    answer: the output, or why there is none; see `output`.
    messages: the whole conversation, which may be passed to the next run.
    start: the index of this run's first message.
    turns: the number of the model's turns.
    pending: the calls that wait for approval, including those of agents as tools.
    paused: the calls of these agents.
    agent: the name of the agent that answered.
    approval_rules: the calls that were approved always.
    settings: the model settings that the run was started with.
    overrides: the arguments with which the run changed its agent: `limits`, `tools`, ...
    undelivered: messages that were sent to the run and did not reach the model before it ended; if
        it waits for approval, a resumed run delivers them.
    notes: for a person, what a crash left unknown and what has changed since.
    cuts: the messages that the model did not get any more, of a run that waits for approval.
    tool_errors: the exceptions that tools raised in this run, including those of agents as tools.
        Not in the JSON form.
    """

    answer: Output | MissingOutput
    messages: tuple[Message, ...]
    start: int
    usage: Usage
    stop_reason: StopReason
    run_id: str
    pending: tuple[PendingCall, ...] = ()
    turns: int = 0
    notes: tuple[str, ...] = ()
    agent: str = "agent"
    approval_rules: tuple[ApprovalRule, ...] = ()
    paused: tuple[PausedAgentCall, ...] = ()
    tool_errors: tuple[ToolFailure, ...] = field(default=(), compare=False)
    settings: ModelSettings | None = None
    overrides: SavedOverrides | None = None
    cuts: tuple[ContextCut, ...] = ()
    undelivered: tuple[User, ...] = ()

    @property
    def own_pending(self) -> tuple[PendingCall, ...]:
        """The calls that wait, without those of agents as tools."""
        nested = {pending.call.id for paused in self.paused for pending in paused.pending}
        return tuple(pending for pending in self.pending if pending.call.id not in nested)

    def get_agent_path(self, call_id: str) -> str:
        """Return the agent that made a call that waits, as names of tools joined by slashes.

        Empty for the run's own agent.
        """
        for paused in self.paused:
            nested_id = call_id.removeprefix(f"{paused.call.id}/")
            if nested_id != call_id:
                return f"{paused.call.name}/{paused.result.get_agent_path(nested_id)}".rstrip("/")
        return ""

    @property
    def output(self) -> Output:
        """The output. Raises NoOutput if the run ended without one."""
        if isinstance(self.answer, MissingOutput):
            raise NoOutput(
                f"the run has no output ({self.stop_reason}): {self.answer.reason}. result.text is "
                "the last text of the model, result.last_tool_result that of a tool."
            )
        return self.answer

    @property
    def text(self) -> str:
        """The last text of the model in this run."""
        texts = (m.text for m in reversed(self.new_messages) if isinstance(m, Assistant) and m.text)
        return next(texts, "")

    @property
    def ended_by_call(self) -> bool:
        """Whether the output is that of a call which ended the run, and not a text of the model."""
        last = self.messages[-1] if self.messages else None
        return isinstance(last, ToolResult) and not isinstance(self.answer, MissingOutput)

    @property
    def last_tool_result(self) -> str | None:
        """The text of the last tool result of this run that is not an error; None without one.

        For a run without an output, such as one that ended in a loop.
        """
        results = (m for m in reversed(self.new_messages) if isinstance(m, ToolResult))
        return next((result.text for result in results if not result.is_error), None)

    @property
    def new_messages(self) -> tuple[Message, ...]:
        """The messages of this run, including the prompt."""
        return self.messages[self.start :]

    @property
    def tool_calls(self) -> tuple[ToolCallRecord, ...]:
        """The tool calls of this run, with their results."""
        return tuple(map(ToolCallRecord._make, pair_calls(self.new_messages)))

    def to_json(self) -> str:
        """Return the result as JSON text, to save it until a decision; see `from_json`."""
        return encode_json(run_result_to_json(self)).decode()

    @classmethod
    def from_json(cls, text: str | bytes) -> RunResult[Any]:  # Any: the type is not in the text
        """Return the result that `to_json` wrote; a typed output is returned as its JSON value.

        Raises UsageError for any other text.
        """
        try:
            return _run_result_from_json(cast("Mapping[str, JSON]", orjson.loads(text)))
        except orjson.JSONDecodeError as error:
            raise UsageError(f"this is not the result of a run: it is not JSON ({error})") from None
        except KeyError as error:
            raise UsageError(f"this is not the result of a run: it has no {error}") from None
        except (ValueError, TypeError, AttributeError) as error:
            raise UsageError(f"this is not the result of a run: {error}") from error

    def __str__(self) -> str:
        return str(self.answer) if not isinstance(self.answer, MissingOutput) else self.text


def result_of(error: BaseException) -> RunResult[Any] | None:  # Any: known to the agent
    """Return what a run had achieved when this error or Ctrl-C ended it; None if it ended none."""
    result: RunResult[Any] | None = get_attached_result(error)
    return result if isinstance(result, RunResult) else None


def run_result_to_json(result: RunResult[Any]) -> dict[str, JSON]:
    """Return the JSON form of a result; its key `missing` says why there is no output."""
    answer = result.answer
    wire: dict[str, JSON] = {
        "run_id": result.run_id,
        "stop_reason": result.stop_reason,
        "output": None if isinstance(answer, MissingOutput) else to_json_value(answer),
        "text": result.text,
        "usage": usage_to_json(result.usage),
        "messages": [to_json(message) for message in result.messages],
        "pending": [_pending_call_to_json(pending) for pending in result.pending],
        "start": result.start,
        "turns": result.turns,
        "agent": result.agent,
        "grants": [approval_rule_to_json(rule) for rule in result.approval_rules],
        "paused": [
            {"call": tool_call_to_json(paused.call), "result": run_result_to_json(paused.result)}
            for paused in result.paused
        ],
    }
    if result.settings is not None:
        wire["settings"] = result.settings.to_json()
    if result.overrides is not None:
        wire["overrides"] = result.overrides.to_json()
    if result.cuts:
        wire["cuts"] = [cut.to_json() for cut in result.cuts]
    if result.undelivered:
        wire["undelivered"] = [to_json(message) for message in result.undelivered]
    if result.notes:
        wire["notes"] = list(result.notes)
    if isinstance(answer, MissingOutput):
        wire["missing"] = answer.reason
    return wire


def _run_result_from_json(
    wire: Mapping[str, Any],
) -> RunResult[Any]:  # Any: checked by the constructors
    if wire["stop_reason"] not in get_args(StopReason):
        raise ValueError(f"stop_reason is {wire['stop_reason']!r}")
    return RunResult(
        answer=MissingOutput(wire["missing"]) if "missing" in wire else wire["output"],
        messages=load_messages(wire["messages"]),
        start=int(wire["start"]),
        usage=usage_from_json(wire["usage"]),
        stop_reason=wire["stop_reason"],
        run_id=str(wire["run_id"]),
        pending=tuple(map(_pending_call_from_json, wire["pending"])),
        turns=int(wire["turns"]),
        notes=tuple(wire.get("notes", ())),
        agent=str(wire["agent"]),
        approval_rules=tuple(map(approval_rule_from_json, wire["grants"])),
        paused=tuple(
            PausedAgentCall(
                tool_call_from_json(paused["call"]), _run_result_from_json(paused["result"])
            )
            for paused in wire["paused"]
        ),
        settings=ModelSettings.from_json(wire["settings"]) if "settings" in wire else None,
        undelivered=_read_undelivered(wire.get("undelivered", ())),
        overrides=SavedOverrides.from_json(wire["overrides"]) if "overrides" in wire else None,
        cuts=tuple(map(ContextCut.from_json, wire.get("cuts", ()))),
    )


def _read_undelivered(wire: Any) -> tuple[User, ...]:  # Any: as above
    messages = load_messages(wire)
    return tuple(message for message in messages if isinstance(message, User))


def _pending_call_to_json(pending: PendingCall) -> dict[str, JSON]:
    wire: dict[str, JSON] = {
        "call": tool_call_to_json(pending.call),
        "agent": pending.agent,
        "reason": pending.reason,
    }
    if pending.question is not None:
        wire["question"] = question_to_json(pending.question)
    if pending.definition:
        wire["definition"] = pending.definition
    if pending.answers:
        wire["answers"] = [
            {**question_to_json(answer.question), "values": answer.values}
            for answer in pending.answers
        ]
    return wire


def _pending_call_from_json(wire: Mapping[str, Any]) -> PendingCall:  # Any: as above
    question = wire.get("question")
    return PendingCall(
        tool_call_from_json(wire["call"]),
        str(wire["agent"]),
        str(wire["reason"]),
        None if question is None else question_from_json(question),
        tuple(
            Answer(question_from_json(answer), answer["values"])
            for answer in wire.get("answers", ())
        ),
        str(wire.get("definition", "")),
    )
