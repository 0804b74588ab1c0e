"""The JSON form of what records hold: turns of the model, and where a run stood."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from agentcall.approval import Approved, Decision, Denied, Edited
from agentcall.dialects.parts import Broken, Called
from agentcall.durable.record import Body
from agentcall.messages import JSON, Message, ToolCall, ToolResult, Usage, from_json, load, to_json
from agentcall.result import RunResult, result_json
from agentcall.steps import Point
from agentcall.turn import Turn


def turn_json(turn: Turn) -> dict[str, JSON]:
    """The JSON form of a turn."""
    return {
        "text": turn.text,
        "thinking": turn.thinking,
        "calls": [asdict_of(called) for called in turn.calls],
        "broken": [asdict_of(broken) for broken in turn.broken],
        "finish": turn.finish,
        "usage": asdict(turn.usage),
    }


def asdict_of(part: Called | Broken) -> dict[str, JSON]:
    """The fields of a part of an answer."""
    return asdict(part)


def turn_from(wire: Body) -> Turn:
    """The turn that a JSON form says."""
    return Turn(
        text=wire["text"],
        thinking=wire["thinking"],
        calls=tuple(Called(**called) for called in wire["calls"]),
        broken=tuple(Broken(**broken) for broken in wire["broken"]),
        finish=wire["finish"],
        usage=Usage(**wire["usage"]),
    )


def messages_json(messages: Sequence[Message], known: Sequence[Message]) -> dict[str, JSON]:
    """The messages behind those that are known already; all of them if they are other ones."""
    same = len(known) if tuple(messages[: len(known)]) == tuple(known) else 0
    return {"after": same, "messages": [to_json(message) for message in messages[same:]]}


def messages_from(wire: Body, known: Sequence[Message]) -> tuple[Message, ...]:
    """All the messages."""
    return (*known[: wire["after"]], *load(wire["messages"]))


def point_json(point: Point, known: Sequence[Message]) -> dict[str, JSON]:
    """The JSON form of a point, its messages after the known ones."""
    return {
        **messages_json(point.messages, known),
        "usage": asdict(point.usage),
        "turns": point.turns,
        "closed": point.closed,
        "faults": point.faults,
        "trims": point.trims,
        "prompt": point.prompt,
        "counted": point.counted,
        "agent": point.agent,
    }


def point_from(wire: Body, known: Sequence[Message]) -> Point:
    """The point that a JSON form says."""
    return Point(
        messages=messages_from(wire, known),
        usage=Usage(**wire["usage"]),
        turns=wire["turns"],
        closed=wire["closed"],
        faults=wire["faults"],
        trims=wire["trims"],
        prompt=wire["prompt"],
        counted=wire["counted"],
        agent=wire["agent"],
    )


def result_body(
    result: RunResult[Any],  # Any: the output's type does not matter here
    known: Sequence[Message],
) -> dict[str, JSON]:
    """The body of a record that holds a result, its messages after the known ones."""
    wire = result_json(result)
    del wire["messages"]
    return {"result": {**wire, "said": messages_json(result.messages, known)}}


def decision_json(decision: Decision | bool) -> dict[str, JSON]:
    """The JSON form of what a person decided about a call."""
    match decision:
        case Approved(always):
            return {"approve": True, "always": always}
        case Edited():
            return {"edit": decision.text}
        case Denied(reason):
            return {"deny": reason}
        case _:
            return {"approve": True, "always": None} if decision else {"deny": ""}


def decision_from(wire: Body) -> Decision:
    """The decision that a JSON form says."""
    if "edit" in wire:
        return Edited(wire["edit"])
    return Denied(wire["deny"]) if "deny" in wire else Approved(wire["always"])


def call_from(wire: Body) -> ToolCall:
    """The tool call that a JSON form says."""
    function = wire["function"]
    return ToolCall(wire["id"], function["name"], function["arguments"])


def result_from(wire: Body) -> ToolResult:
    """The tool result that a JSON form says."""
    message = from_json(wire)
    if not isinstance(message, ToolResult):
        raise TypeError(f"{message!r} is no tool result")
    return message
