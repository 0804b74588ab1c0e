"""What a person has approved once and for all: a tool, or one call to the letter.

What was approved in a clean conversation has to be approved once more when untrusted content has
come in: whoever approved it approved what the user's words would lead to.

What a person decides about a tool call that waits for approval.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

from agentcall.errors import UsageError
from agentcall.messages import JSON, ToolCall, encode_json


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


@dataclass(frozen=True, slots=True)
class ApprovalRule:
    """Calls that need not be asked about again.

    agent: whose tool it is, as a path of names: the tool of another agent is another tool.
    arguments: the JSON text that was shown; None for whatever arguments.
    tainted: whether untrusted content was in the conversation when the approved call was asked for;
        if not, calls that are asked for after such content came in are not covered.
    """

    agent: str
    tool: str
    arguments: str | None = None
    tainted: bool = False

    def matches(self, call: ToolCall, agent: str, *, tainted: bool) -> bool:
        """Whether the call is one of those, byte for byte where the arguments were approved.

        tainted: whether untrusted content has been read by now.
        """
        if (self.agent, self.tool) != (agent, call.name) or (tainted and not self.tainted):
            return False
        return self.arguments is None or self.arguments == call.arguments


def has_matching_rule(
    rules: Iterable[ApprovalRule], call: ToolCall, agent: str, *, tainted: bool
) -> bool:
    """Whether any of the grants covers the call; `tainted` as of the conversation before it."""
    return any(grant.matches(call, agent, tainted=tainted) for grant in rules)


def approval_rule_to_json(rule: ApprovalRule) -> dict[str, JSON]:
    """The JSON form of a grant; `grant_from` reads it."""
    return {
        "agent": rule.agent,
        "tool": rule.tool,
        "arguments": rule.arguments,
        "tainted": rule.tainted,
    }


def approval_rule_from_json(wire: Mapping[str, JSON]) -> ApprovalRule:
    """The grant that a JSON form says. Raises ValueError, KeyError."""
    arguments = wire["arguments"]
    if arguments is not None and not isinstance(arguments, str):
        raise ValueError(f"the arguments of a grant are {arguments!r}")
    tainted = wire.get("tainted") is True
    return ApprovalRule(str(wire["agent"]), str(wire["tool"]), arguments, tainted)
