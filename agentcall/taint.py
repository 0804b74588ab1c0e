"""Whether text that strangers wrote is in a conversation.

Rules:
1. Such text is what a tool marked `untrusted` gave, what a tool gave as `Untrusted(...)`, and the
   parts of a user's message that the application marks `untrusted`.
2. From then on the conversation is tainted: the model has read the text, and anything that it asks
   for may be what the text wants.
3. The marks stand in the messages themselves, so that they are kept wherever messages are: in a
   result that waits for approval, in a session, in a journal, in another process.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from agentcall.messages import Message, ToolResult, User


@dataclass(frozen=True, slots=True)
class Untrusted:
    """What a tool returns in place of `value` where strangers may have written of it.

    For a tool that gives such text at times only; one that always may is marked `untrusted=True`.
    """

    value: object


def is_tainted(messages: Iterable[Message]) -> bool:
    """Whether text of strangers is in the conversation."""
    for message in messages:
        if isinstance(message, ToolResult):
            if message.untrusted:
                return True
        elif isinstance(message, User):
            parts = () if isinstance(message.content, str) else message.content
            if message.tainted or any(part.untrusted for part in parts):
                return True
    return False


def sources(messages: Iterable[Message]) -> tuple[str, ...]:
    """Where the text of strangers came from: names of tools, and "user" for the user's messages."""
    tainted = (message for message in messages if is_tainted((message,)))
    names = (message.name if isinstance(message, ToolResult) else "user" for message in tainted)
    return tuple(dict.fromkeys(names))


def marked(messages: Sequence[Message], is_untrusted: Callable[[str], bool]) -> Sequence[Message]:
    """The messages, with the mark on each result of a tool that is untrusted by its name.

    A history that came from elsewhere has no marks of its own.
    """
    bare = (m for m in messages if isinstance(m, ToolResult) and not m.untrusted)
    if not any(is_untrusted(result.name) for result in bare):
        return messages
    return tuple(
        replace(m, untrusted=m.untrusted or is_untrusted(m.name))
        if isinstance(m, ToolResult)
        else m
        for m in messages
    )
