"""What a person decides about a tool call that waits for approval."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

from agentcall.errors import UsageError
from agentcall.messages import JSON, encode_json


@dataclass(frozen=True, slots=True)
class Approved:
    """The call is carried out as it is.

    always: what is approved from now on, in this run and in its session: whatever call of the
        "tool", or the very same "call", to the letter; None for this one alone.
    """

    always: Literal["tool", "call"] | None = None

    def __post_init__(self) -> None:
        if self.always not in (None, "tool", "call"):
            raise UsageError(f"Approved(always={self.always!r}): use 'tool', 'call' or None")


@dataclass(frozen=True, slots=True)
class Edited:
    """The call is carried out with these arguments instead: JSON text, or a mapping.

    They are validated before anything is carried out, and take the place of the model's own in the
    conversation.
    """

    arguments: str | Mapping[str, JSON]

    @property
    def arguments_json(self) -> str:
        """The arguments as JSON text."""
        if isinstance(self.arguments, str):
            return "{}" if self.arguments.strip() in ("", "null") else self.arguments
        try:
            return encode_json(dict(self.arguments)).decode()
        except TypeError as error:
            raise UsageError(f"the edited arguments are no JSON: {error}") from error


@dataclass(frozen=True, slots=True)
class Denied:
    """The call is not carried out; the model is told why."""

    reason: str = ""


Decision: TypeAlias = Approved | Edited | Denied


FinalDecision: TypeAlias = Approved | Denied


def format_denial(decision: Denied) -> str:
    """What the model is told of a call that was denied."""
    reason = f": {decision.reason}" if decision.reason else ""
    return f"A person refused this call{reason}. It was not carried out; do not claim that it was."
