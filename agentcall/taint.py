"""Whether untrusted content is in a conversation.

Rules:
1. Untrusted is what a tool marked `untrusted` gave, what a tool gave as `Untrusted(...)`, and what
   the application marks: messages, and the parts of their content.
2. From then on the conversation is tainted: the model has read the content, and anything that it
   asks for may be what the content wants. So its own messages carry the mark from then on, too, and
   a history of which the content itself was cut off is still tainted.
3. The marks stand in the messages, so that they are kept wherever messages are: in a result that
   waits for approval, in a session, in a journal, in another process.
4. What is not known counts as untrusted. A message from elsewhere has no marks of ours (`assessed`
   is False): the result of a tool is trusted if the agent knows the tool and trusts it, an answer
   of the model if the agent has no tool that could have brought untrusted content in.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, replace
from typing import Protocol

from agentcall.messages import Assistant, Message, System, ToolResult, Untrusted, User


@dataclass(slots=True)
class EnclosingCall:
    """The tool call in which code runs, for an agent that a tool runs by itself.

    tainted: whether the run that made the call had read untrusted content. has_read: whether a run
    that was made in it has.
    """

    tainted: bool
    has_read_untrusted: bool = False


enclosing_call: ContextVar[EnclosingCall | None] = ContextVar("call_around", default=None)
"""The innermost tool call in which code runs; None outside of any."""


class ToolTrust(Protocol):
    """An agent's word on what its tools may bring into a conversation."""

    def is_trusted_tool(self, name: str) -> bool:
        """Whether the agent knows the tool of this name, and its results are never untrusted."""
        ...

    def is_untrusted_tool(self, name: str) -> bool:
        """Whether the agent knows a tool of this name that is marked untrusted."""
        ...

    @property
    def can_read_untrusted_content(self) -> bool:
        """Whether any of its tools may bring untrusted content in."""
        ...


def is_tainted(messages: Iterable[Message]) -> bool:
    """Whether untrusted content is in the conversation, by the marks of its messages."""
    return any(map(has_taint, messages))


def has_taint(message: Message) -> bool:
    """Whether the message holds untrusted content, or was written after some was read."""
    if not isinstance(message, User):
        return message.untrusted
    if message.tainted or isinstance(message.content, str):
        return message.tainted
    return any(part.untrusted for part in message.content)


def find_untrusted_sources(messages: Iterable[Message]) -> tuple[str, ...]:
    """Where the untrusted content came from: names of tools, "user", "system".

    "assistant" where nothing but the model's own messages shows that there was some.
    """
    found = dict.fromkeys(_name_source(message) for message in messages if has_taint(message))
    if len(found) > 1:
        found.pop("assistant", None)
    return tuple(found)


def _name_source(message: Message) -> str:
    match message:
        case ToolResult():
            return message.name or "a tool without a name"
        case User():
            return "user"
        case Assistant():
            return "assistant"
        case System():
            return "system"


def clear_provenance(messages: Iterable[Message]) -> tuple[Message, ...]:
    """The messages without a word on what is trusted in them, as a client may have written it."""
    return tuple(
        replace(message, assessed=False)
        if isinstance(message, (Assistant, ToolResult))
        else message
        for message in messages
    )


def mark_messages(messages: Iterable[Message], *, tainted: bool) -> tuple[Message, ...]:
    """Messages that stand for others, with the mark of those."""
    return tuple(_mark_message(message, tainted) for message in messages)


def _mark_message(message: Message, tainted: bool) -> Message:
    match message:
        case User():
            return replace(message, tainted=message.tainted or tainted)
        case System():
            return replace(message, untrusted=message.untrusted or tainted)
        case _:
            return replace(message, untrusted=message.untrusted or tainted, assessed=True)


def assess_messages(messages: Sequence[Message], trust: ToolTrust) -> Sequence[Message]:
    """The messages, each with a mark where it is untrusted, or may be as far as the judge knows.

    A result without a name gets that of the call that it answers: OpenAI's form has it there alone.
    """
    return tuple(_assess_each(messages, trust))


def _assess_each(messages: Iterable[Message], trust: ToolTrust) -> Iterator[Message]:
    calls: dict[str, list[str]] = {}
    for message in messages:
        if isinstance(message, Assistant):
            calls = {call.id: [] for call in message.calls}
            for call in message.calls:
                calls[call.id].append(call.name)
            yield _assess_answer(message, trust)
        elif isinstance(message, ToolResult):
            yield _assess_result(message, calls, trust)
        else:
            yield message


def _assess_answer(message: Assistant, trust: ToolTrust) -> Assistant:
    if message.assessed:
        return message
    return replace(
        message, untrusted=message.untrusted or trust.can_read_untrusted_content, assessed=True
    )


def _assess_result(
    message: ToolResult, calls: Mapping[str, Sequence[str]], trust: ToolTrust
) -> ToolResult:
    """The result; one without its call is not trusted, as a part of the history is missing."""
    names = calls.get(message.call_id, ())
    name = message.name or (names[0] if names else "")
    if message.untrusted or not names:
        untrusted = True
    elif message.assessed:
        untrusted = any(map(trust.is_untrusted_tool, {*names, name}))
    else:
        untrusted = not all(map(trust.is_trusted_tool, {*names, name}))
    if message.assessed and (message.untrusted, message.name) == (untrusted, name):
        return message
    return replace(message, name=name, untrusted=untrusted, assessed=True)


__all__ = [
    "EnclosingCall",
    "ToolTrust",
    "Untrusted",
    "assess_messages",
    "clear_provenance",
    "enclosing_call",
    "find_untrusted_sources",
    "has_taint",
    "is_tainted",
    "mark_messages",
]
