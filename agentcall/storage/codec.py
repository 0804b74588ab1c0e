"""The JSON form of what sessions and journals store, and its checksums.

Messages have the form of `agentcall.messages` and results that of `RunResult.to_json`. A journal
stores many snapshots of one growing conversation, so its records contain only the messages that
the earlier ones do not: `{"after": COUNT, "messages": [...]}`.

Readers raise UsageError, KeyError, TypeError or ValueError for JSON of another form.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields, replace
from hashlib import blake2b
from typing import Any, TypeAlias

from agentcall.approvals import Approved, Decision, Denied, Edited
from agentcall.dialects.answer_parts import MalformedCallPart, ToolCallPart
from agentcall.messages import (
    JSON,
    Message,
    ToolResult,
    encode_json,
    from_json,
    load_messages,
    to_json,
    usage_from_json,
    usage_to_json,
)
from agentcall.result import ContextCut, RunResult, run_result_to_json
from agentcall.runtime.checkpoint import RunCheckpoint
from agentcall.runtime.turn import ModelTurn

JSONObject: TypeAlias = Mapping[str, Any]  # Any: JSON, checked by the function that reads it
AnyResult: TypeAlias = RunResult[Any]  # Any: the type of the output does not matter here

_VIEW_FIELDS = ("cuts", "lengths")
"""Fields of a checkpoint that few have."""


def compute_digest(*parts: str | float | None) -> str:
    """Return a checksum of the parts in their order: BLAKE2b, 16 bytes, in hexadecimal digits."""
    encoded = [str(part).encode("utf-8", "surrogatepass") for part in parts]
    data = b"".join([b"%d:%b" % (len(part), part) for part in encoded])
    return blake2b(data, digest_size=16).hexdigest()


def turn_to_json(turn: ModelTurn) -> dict[str, JSON]:
    """Return the JSON form of a model's turn: its fields."""
    parts = {name: [asdict(part) for part in getattr(turn, name)] for name in ("calls", "broken")}
    return {**turn._asdict(), **parts, "usage": usage_to_json(turn.usage)}


def turn_from_json(wire: JSONObject) -> ModelTurn:
    """Read a model's turn."""
    usage = usage_from_json(wire["usage"])
    values: dict[str, Any] = {**wire, "usage": usage}  # Any: fields of a tuple
    values["calls"] = tuple(ToolCallPart(**part) for part in wire["calls"])
    values["broken"] = tuple(MalformedCallPart(**part) for part in wire["broken"])
    return ModelTurn(**values)


def checkpoint_to_json(checkpoint: RunCheckpoint, known: Sequence[Message]) -> dict[str, JSON]:
    """Return the JSON form of a checkpoint: its fields, without the messages that are known."""
    values = {field.name: getattr(checkpoint, field.name) for field in fields(checkpoint)}
    messages = _new_messages_to_json(checkpoint.messages, known)
    wire = {**values, "usage": usage_to_json(checkpoint.usage), "messages": messages}
    wire["cuts"] = [cut.to_json() for cut in checkpoint.cuts]
    return {name: value for name, value in wire.items() if value or name not in _VIEW_FIELDS}


def checkpoint_from_json(wire: JSONObject, known: Sequence[Message]) -> RunCheckpoint:
    """Read a checkpoint, given the messages that were known when it was written."""
    usage = usage_from_json(wire["usage"])
    values: dict[str, Any] = {**wire, "usage": usage}  # Any: fields of a class
    values["messages"] = _new_messages_from_json(wire["messages"], known)
    values["cuts"] = tuple(map(ContextCut.from_json, wire.get("cuts", ())))
    values["lengths"] = {call_id: tuple(pair) for call_id, pair in wire.get("lengths", {}).items()}
    return RunCheckpoint(**values)


def result_to_json(result: AnyResult, known: Sequence[Message]) -> dict[str, JSON]:
    """Return the JSON form of a result, without the messages that are known already."""
    return {
        **run_result_to_json(replace(result, messages=())),
        "text": result.text,
        "messages": _new_messages_to_json(result.messages, known),
    }


def result_from_json(wire: JSONObject, known: Sequence[Message]) -> AnyResult:
    """Read a result, given the messages that were known when it was written."""
    messages = _new_messages_from_json(wire["messages"], known)
    text = encode_json({**wire, "messages": []})
    return replace(RunResult[Any].from_json(text), messages=messages)


def _new_messages_to_json(messages: Sequence[Message], known: Sequence[Message]) -> dict[str, JSON]:
    after = len(known) if tuple(messages[: len(known)]) == tuple(known) else 0
    return {"after": after, "messages": [to_json(message) for message in messages[after:]]}


def _new_messages_from_json(wire: JSONObject, known: Sequence[Message]) -> tuple[Message, ...]:
    return (*known[: wire["after"]], *load_messages(wire["messages"]))


def decision_to_json(decision: Decision | bool) -> dict[str, JSON]:
    """Return the JSON form of a person's decision about a call."""
    match decision:
        case Approved(always):
            return {"approve": True, "always": always}
        case Edited():
            return {"edit": decision.arguments_json}
        case Denied(reason):
            return {"deny": reason}
        case _:
            return {"approve": True, "always": None} if decision else {"deny": ""}


def decision_from_json(wire: JSONObject) -> Decision:
    """Read a person's decision about a call."""
    if "edit" in wire:
        return Edited(wire["edit"])
    return Denied(wire["deny"]) if "deny" in wire else Approved(wire["always"])


def tool_result_from_json(wire: JSONObject) -> ToolResult:
    """Read a tool result."""
    message = from_json(wire)
    if not isinstance(message, ToolResult):
        raise TypeError(f"{message!r} is not a tool result")
    return message
