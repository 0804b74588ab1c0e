"""What a run gave, and why it ended."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Generic, Literal, TypeVar, cast, get_args

import orjson

from agentcall.approvals import ApprovalRule, approval_rule_from_json, approval_rule_to_json
from agentcall.errors import AgentCallError, UsageError, get_attached_result
from agentcall.messages import (
    JSON,
    Assistant,
    Message,
    ToolCall,
    ToolResult,
    Usage,
    encode_json,
    load_messages,
    pair_calls,
    to_json,
    tool_call_from_json,
    tool_call_to_json,
)
from agentcall.tools.serialize import to_json_value

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
class MissingOutput:
    """Stands where an output would be, and says why there is none."""

    reason: str


@dataclass(frozen=True, slots=True)
class PendingCall:
    """A call that waits until a person has decided about it.

    agent: the name of the agent that asked for it.
    reason: why a person has to decide; empty where the tool's own mark says all there is to say.
    """

    call: ToolCall
    agent: str
    reason: str = ""

    def __str__(self) -> str:
        reason = f": {self.reason}" if self.reason else ""
        return f"{self.call.name} waits for approval{reason}"


@dataclass(frozen=True, slots=True)
class PausedAgentCall:
    """A call of a tool that is an agent, and what its own run waits with."""

    call: ToolCall
    result: RunResult[Any]  # Any: there is no output yet

    @property
    def pending(self) -> tuple[PendingCall, ...]:
        """The calls that the agent waits for, each with an id that begins with that of its own."""
        return tuple(map(self._prefix_call_id, self.result.pending))

    def _prefix_call_id(self, pending: PendingCall) -> PendingCall:
        call = pending.call
        return replace(pending, call=replace(call, id=f"{self.call.id}/{call.id}"))


@dataclass(frozen=True)  # no slots: a subscripted generic sets an attribute on what it makes
class RunResult(Generic[Output]):
    """What a run gave.

    `messages` is the whole conversation and may be handed to the next run; `start` is where this
    run's own messages begin in it, `turns` how often the model took its turn. `pending` are the
    calls that wait for approval, each with its reason, those of agents that are tools included;
    `paused` are the calls of these agents. `agent` is the name of the agent that answered, `grants`
    what was approved always. `notes` tell a person what a crash left unknown, and what has changed
    since.
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

    @property
    def own_pending(self) -> tuple[PendingCall, ...]:
        """The calls that wait and are not those of an agent that is a tool."""
        below = {each.call.id for paused in self.paused for each in paused.pending}
        return tuple(each for each in self.pending if each.call.id not in below)

    def get_agent_path(self, call_id: str) -> str:
        """Which agent asks for a call that waits: the names of tools, joined by slashes; "" for
        the run's own agent."""
        for paused in self.paused:
            inside = call_id.removeprefix(f"{paused.call.id}/")
            if inside != call_id:
                return f"{paused.call.name}/{paused.result.get_agent_path(inside)}".rstrip("/")
        return ""

    @property
    def output(self) -> Output:
        """The answer. Raises NoOutput if the run ended without one of the right type."""
        if isinstance(self.answer, MissingOutput):
            raise NoOutput(
                f"the run has no output ({self.stop_reason}): {self.answer.reason}. "
                "result.text holds what the model said last."
            )
        return self.answer

    @property
    def text(self) -> str:
        """What the model said last in this run, as text."""
        said = (m.text for m in reversed(self.new_messages) if isinstance(m, Assistant) and m.text)
        return next(said, "")

    @property
    def new_messages(self) -> tuple[Message, ...]:
        """The messages of this run alone, the prompt included."""
        return self.messages[self.start :]

    @property
    def tool_calls(self) -> tuple[tuple[ToolCall, ToolResult | None], ...]:
        """Each tool call of this run with its result; None for one that waits for approval."""
        return pair_calls(self.new_messages)

    def to_json(self) -> str:
        """The result as JSON text, to be kept until somebody has decided; see `from_json`."""
        return encode_json(run_result_to_json(self)).decode()

    @classmethod
    def from_json(cls, text: str | bytes) -> RunResult[Any]:  # Any: the type is not in the text
        """The result that `to_json` wrote; a typed output comes back as its JSON value.

        Raises UsageError if it is no such text.
        """
        try:
            return _run_result_from_json(cast("Mapping[str, JSON]", orjson.loads(text)))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise UsageError(f"this is no result of a run: {error!r}") from error

    def __str__(self) -> str:
        return str(self.answer) if not isinstance(self.answer, MissingOutput) else self.text


def result_of(error: BaseException) -> RunResult[Any] | None:  # Any: known to the agent
    """What a run had come to when this error, Ctrl-C or cancellation ended it; None for no run."""
    found: RunResult[Any] | None = get_attached_result(error)
    return found if isinstance(found, RunResult) else None


def run_result_to_json(result: RunResult[Any]) -> dict[str, JSON]:
    """The JSON form of a result; `missing` says why there is no output."""
    answer = result.answer
    wire: dict[str, JSON] = {
        "run_id": result.run_id,
        "stop_reason": result.stop_reason,
        "output": None if isinstance(answer, MissingOutput) else to_json_value(answer),
        "text": result.text,
        "usage": asdict(result.usage),
        "messages": [to_json(message) for message in result.messages],
        "pending": [_pending_call_to_json(pending) for pending in result.pending],
        "start": result.start,
        "turns": result.turns,
        "agent": result.agent,
        "grants": [approval_rule_to_json(grant) for grant in result.approval_rules],
        "paused": [
            {"call": tool_call_to_json(paused.call), "result": run_result_to_json(paused.result)}
            for paused in result.paused
        ],
    }
    if result.notes:
        wire["notes"] = list(result.notes)
    if isinstance(answer, MissingOutput):
        wire["missing"] = answer.reason
    return wire


def _run_result_from_json(
    wire: Mapping[str, Any],
) -> RunResult[Any]:  # Any: checked by what is made of it
    if wire["stop_reason"] not in get_args(StopReason):
        raise ValueError(f"stop_reason is {wire['stop_reason']!r}")
    return RunResult(
        answer=MissingOutput(wire["missing"]) if "missing" in wire else wire["output"],
        messages=load_messages(wire["messages"]),
        start=int(wire["start"]),
        usage=Usage(**wire["usage"]),
        stop_reason=wire["stop_reason"],
        run_id=str(wire["run_id"]),
        pending=tuple(map(_pending_call_from_json, wire["pending"])),
        turns=int(wire["turns"]),
        notes=tuple(wire.get("notes", ())),
        agent=str(wire["agent"]),
        approval_rules=tuple(approval_rule_from_json(grant) for grant in wire["grants"]),
        paused=tuple(
            PausedAgentCall(
                tool_call_from_json(paused["call"]), _run_result_from_json(paused["result"])
            )
            for paused in wire["paused"]
        ),
    )


def _pending_call_to_json(pending: PendingCall) -> dict[str, JSON]:
    return {
        "call": tool_call_to_json(pending.call),
        "agent": pending.agent,
        "reason": pending.reason,
    }


def _pending_call_from_json(wire: Mapping[str, Any]) -> PendingCall:  # Any: as above
    return PendingCall(tool_call_from_json(wire["call"]), str(wire["agent"]), str(wire["reason"]))
