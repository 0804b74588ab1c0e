"""Decisions about tool calls that wait for approval, and rules for calls that need no further one;
and questions that a tool asks a person.

A call that was approved always in a clean conversation has to be approved again after untrusted
content has come in: the person approved what the user's own words would lead to.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from agentcall.errors import UsageError
from agentcall.messages import JSON, ToolCall, encode_json


@dataclass(frozen=True, slots=True)
class Approved:
    """Execute the call as it is.

    always: what is approved from now on, in this run and in its session: any call of the "tool",
        or the same "call", to the letter; None approves this call only.
    """

    always: Literal["tool", "call"] | None = None

    def __post_init__(self) -> None:
        if self.always not in (None, "tool", "call"):
            raise UsageError(f"Approved(always={self.always!r}): use 'tool', 'call' or None")


@dataclass(frozen=True, slots=True)
class Edited:
    """Execute the call with these arguments instead: JSON text, or a mapping.

    They are validated before any call is executed, and replace the model's own in the conversation.
    For a call that asks a person a `Question`, they are the answer, and the call keeps its own.
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
            raise UsageError(f"the edited arguments are not JSON: {error}") from error


@dataclass(frozen=True, slots=True)
class Denied:
    """Do not execute the call; the model reads the reason."""

    reason: str = ""


Decision: TypeAlias = Approved | Edited | Denied
FinalDecision: TypeAlias = Approved | Denied
"""A decision whose edit is already in the conversation."""


@dataclass(frozen=True, slots=True)
class Question:
    """What a tool asks a person during a call.

    schema: the JSON Schema of the answer, an object; None for a question of yes or no.
    url: a page that the person is asked to visit; nothing opens it.
    """

    text: str
    schema: Mapping[str, JSON] | None = None
    url: str = ""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a person answered to a question; no values for a yes."""

    question: Question
    values: Mapping[str, JSON]


def question_to_json(question: Question) -> dict[str, JSON]:
    """Return the JSON form of a question."""
    return {"text": question.text, "schema": question.schema, "url": question.url}


def question_from_json(wire: Mapping[str, Any]) -> Question:  # Any: checked by its readers
    """Return the question of a JSON form."""
    return Question(str(wire["text"]), wire.get("schema"), str(wire.get("url", "")))


@dataclass(frozen=True, slots=True)
class ApprovalRule:
    """Calls that need no further approval.

    agent: the agent with the tool, as a path of names: the tool of another agent is another tool.
    arguments: the JSON text that was approved; None for any arguments.
    tainted: whether untrusted content was in the conversation when the approved call was made; if
        not, the rule does not cover calls that are made after such content came in.
    definition: the digest of the tool's definition when it was approved, if that is from outside:
        the rule does not cover a tool whose server has changed it.
    """

    agent: str
    tool: str
    arguments: str | None = None
    tainted: bool = False
    definition: str = ""

    def matches(self, call: ToolCall, agent: str, *, tainted: bool, definition: str = "") -> bool:
        """Whether the rule covers the call; approved arguments are compared byte for byte.

        tainted: whether untrusted content was in the conversation before the call.
        definition: the digest of the tool's definition, if that is from outside.
        """
        if (self.agent, self.tool) != (agent, call.name) or (tainted and not self.tainted):
            return False
        if self.definition != definition:
            return False
        return self.arguments is None or self.arguments == call.arguments


def has_matching_rule(
    rules: Iterable[ApprovalRule],
    call: ToolCall,
    agent: str,
    *,
    tainted: bool,
    definition: str = "",
) -> bool:
    """Whether any of the rules covers the call."""
    return any(rule.matches(call, agent, tainted=tainted, definition=definition) for rule in rules)


def approval_rule_to_json(rule: ApprovalRule) -> dict[str, JSON]:
    """Return the JSON form of a rule."""
    wire: dict[str, JSON] = {
        "agent": rule.agent,
        "tool": rule.tool,
        "arguments": rule.arguments,
        "tainted": rule.tainted,
    }
    return {**wire, "definition": rule.definition} if rule.definition else wire


def approval_rule_from_json(wire: Mapping[str, JSON]) -> ApprovalRule:
    """Return the rule of a JSON form. Raises ValueError, KeyError."""
    arguments = wire["arguments"]
    if arguments is not None and not isinstance(arguments, str):
        raise ValueError(f"the arguments of an approval rule are {arguments!r}")
    tainted = wire.get("tainted") is True
    definition = str(wire.get("definition", ""))
    return ApprovalRule(str(wire["agent"]), str(wire["tool"]), arguments, tainted, definition)
