"""What a person decides about a tool call that waits for approval."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

from agentcall.errors import ArgumentsError, UsageError
from agentcall.messages import JSON, Assistant, Message, ToolCall, encoded
from agentcall.registry import ToolRegistry
from agentcall.result import RunResult


@dataclass(frozen=True, slots=True)
class Approved:
    """The call is carried out as it is."""


@dataclass(frozen=True, slots=True)
class Edited:
    """The call is carried out with these arguments instead: JSON text, or a mapping.

    They are validated before anything is carried out, and take the place of the model's own in the
    conversation.
    """

    arguments: str | Mapping[str, JSON]

    @property
    def text(self) -> str:
        """The arguments as JSON text."""
        if isinstance(self.arguments, str):
            return self.arguments
        return encoded(dict(self.arguments)).decode()


@dataclass(frozen=True, slots=True)
class Denied:
    """The call is not carried out; the model is told why."""

    reason: str = ""


Decision: TypeAlias = Approved | Edited | Denied


Verdict: TypeAlias = Approved | Denied


@dataclass(frozen=True, slots=True)
class Decided:
    """What a resumed run begins with: edits are in the calls already."""

    messages: tuple[Message, ...]
    pending: tuple[ToolCall, ...]
    verdicts: Mapping[str, Verdict]


def decided(
    result: RunResult[Any],  # Any: the output's type does not matter here
    decisions: Mapping[str, Decision | bool],
    registry: ToolRegistry,
) -> Decided:
    """What follows from decisions about the calls that wait.

    Raises UsageError for a call that does not wait, and for edited arguments that do not fit.
    """
    waiting = {call.id: call for call in result.pending}
    unknown = [identity for identity in decisions if identity not in waiting]
    if unknown or not waiting:
        asked = f"{unknown[0]!r} does not wait" if unknown else "none waits"
        known = ", ".join(waiting) or "none"
        raise UsageError(f"of the calls of this result {asked} for approval; waiting: {known}")
    edited = {
        identity: _edited(waiting[identity], decision, registry)
        for identity, decision in decisions.items()
        if isinstance(decision, Edited)
    }
    return Decided(
        tuple(_with_edits(message, edited) for message in result.messages),
        tuple(edited.get(call.id, call) for call in result.pending),
        {identity: _verdict(decision) for identity, decision in decisions.items()},
    )


def _edited(call: ToolCall, decision: Edited, registry: ToolRegistry) -> ToolCall:
    text = decision.text
    try:
        registry[call.name].parse(text)
    except ArgumentsError as error:
        raise UsageError(f"the edited arguments of {call.id!r} do not fit: {error}") from error
    return replace(call, arguments=text)


def _with_edits(message: Message, edited: Mapping[str, ToolCall]) -> Message:
    if not isinstance(message, Assistant) or not edited:
        return message
    return replace(message, calls=tuple(edited.get(call.id, call) for call in message.calls))


def _verdict(decision: Decision | bool) -> Verdict:
    if isinstance(decision, bool):
        return Approved() if decision else Denied()
    return decision if isinstance(decision, Denied) else Approved()


def denied_words(decision: Denied) -> str:
    """What the model is told of a call that was denied."""
    reason = f": {decision.reason}" if decision.reason else ""
    return f"A person refused this call{reason}. It was not carried out; do not claim that it was."
