"""What a person decides about a tool call that waits for approval."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias


@dataclass(frozen=True, slots=True)
class Approved:
    """The call is carried out as it is."""


@dataclass(frozen=True, slots=True)
class Edited:
    """The call is carried out with these JSON arguments instead; they are validated again."""

    arguments: str


@dataclass(frozen=True, slots=True)
class Denied:
    """The call is not carried out; the model is told why."""

    reason: str = ""


Decision: TypeAlias = Approved | Edited | Denied


def denied_words(decision: Denied) -> str:
    """What the model is told of a call that was denied."""
    reason = f": {decision.reason}" if decision.reason else ""
    return f"A person refused this call{reason}. It was not carried out; do not claim that it was."
