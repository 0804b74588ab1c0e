"""The JSON form of what records hold: turns of the model, and where a run stood."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from agentcall.approvals import Approved, Decision, Denied, Edited
from agentcall.dialects.base import MalformedCallPart, ToolCallPart
from agentcall.durable.journal import RecordBody
from agentcall.messages import (
    JSON,
    Message,
    ToolCall,
    ToolResult,
    Usage,
    from_json,
    load_messages,
    to_json,
)
from agentcall.result import RunResult, run_result_to_json
from agentcall.runtime.checkpoint import RunCheckpoint
from agentcall.runtime.turn import ModelTurn


def dump_turn(turn: ModelTurn) -> dict[str, JSON]:
    """The JSON form of a turn."""
    return {
        "text": turn.text,
        "thinking": turn.thinking,
        "calls": [dump_part(called) for called in turn.calls],
        "broken": [dump_part(broken) for broken in turn.broken],
        "finish": turn.finish,
        "usage": asdict(turn.usage),
    }


def dump_part(part: ToolCallPart | MalformedCallPart) -> dict[str, JSON]:
    """The fields of a part of an answer."""
    return asdict(part)


def parse_turn(wire: RecordBody) -> ModelTurn:
    """The turn that a JSON form says."""
    return ModelTurn(
        text=wire["text"],
        thinking=wire["thinking"],
        calls=tuple(ToolCallPart(**called) for called in wire["calls"]),
        broken=tuple(MalformedCallPart(**broken) for broken in wire["broken"]),
        finish=wire["finish"],
        usage=Usage(**wire["usage"]),
    )


def dump_messages(messages: Sequence[Message], known: Sequence[Message]) -> dict[str, JSON]:
    """The messages behind those that are known already; all of them if they are other ones."""
    same = len(known) if tuple(messages[: len(known)]) == tuple(known) else 0
    return {"after": same, "messages": [to_json(message) for message in messages[same:]]}


def parse_messages(wire: RecordBody, known: Sequence[Message]) -> tuple[Message, ...]:
    """All the messages."""
    return (*known[: wire["after"]], *load_messages(wire["messages"]))


def dump_checkpoint(point: RunCheckpoint, known: Sequence[Message]) -> dict[str, JSON]:
    """The JSON form of a point, its messages after the known ones."""
    return {
        **dump_messages(point.messages, known),
        "usage": asdict(point.usage),
        "turns": point.turns,
        "closed": point.close_reason,
        "faults": point.faults,
        "trims": point.trims,
        "prompt": point.prompt_tokens,
        "counted": point.counted_messages,
        "agent": point.agent,
    }


def parse_checkpoint(wire: RecordBody, known: Sequence[Message]) -> RunCheckpoint:
    """The point that a JSON form says."""
    return RunCheckpoint(
        messages=parse_messages(wire, known),
        usage=Usage(**wire["usage"]),
        turns=wire["turns"],
        close_reason=wire["closed"],
        faults=wire["faults"],
        trims=wire["trims"],
        prompt_tokens=wire["prompt"],
        counted_messages=wire["counted"],
        agent=wire["agent"],
    )


def build_result_body(
    result: RunResult[Any],  # Any: the output's type does not matter here
    known: Sequence[Message],
) -> dict[str, JSON]:
    """The body of a record that holds a result, its messages after the known ones."""
    wire = run_result_to_json(result)
    del wire["messages"]
    return {"result": {**wire, "said": dump_messages(result.messages, known)}}


def dump_decision(decision: Decision | bool) -> dict[str, JSON]:
    """The JSON form of what a person decided about a call."""
    match decision:
        case Approved(always):
            return {"approve": True, "always": always}
        case Edited():
            return {"edit": decision.arguments_json}
        case Denied(reason):
            return {"deny": reason}
        case _:
            return {"approve": True, "always": None} if decision else {"deny": ""}


def parse_decision(wire: RecordBody) -> Decision:
    """The decision that a JSON form says."""
    if "edit" in wire:
        return Edited(wire["edit"])
    return Denied(wire["deny"]) if "deny" in wire else Approved(wire["always"])


def parse_call(wire: RecordBody) -> ToolCall:
    """The tool call that a JSON form says."""
    function = wire["function"]
    return ToolCall(wire["id"], function["name"], function["arguments"])


def parse_tool_result(wire: RecordBody) -> ToolResult:
    """The tool result that a JSON form says."""
    message = from_json(wire)
    if not isinstance(message, ToolResult):
        raise TypeError(f"{message!r} is no tool result")
    return message
