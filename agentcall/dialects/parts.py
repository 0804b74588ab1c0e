"""What goes into a reader and what comes out of it.

In: `MessageDelta`, a piece of an answer as a server sent it. Out: parts, pieces of meaning.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, TypeAlias


class ToolCallDelta(NamedTuple):
    """A piece of a native tool call; pieces of one call share `slot`."""

    slot: int | None
    id: str
    name: str
    arguments: str


class MessageDelta(NamedTuple):
    """A piece of an answer: text, thinking and native tool calls, each perhaps empty.

    is_all: the calls are all of the answer, whole; they take the place of pieces before them.
    """

    text: str = ""
    thinking: str = ""
    calls: tuple[ToolCallDelta, ...] = ()
    is_all: bool = False


@dataclass(frozen=True, slots=True)
class TextPart:
    """Text for the user."""

    text: str


@dataclass(frozen=True, slots=True)
class ThinkingPart:
    """The model's thinking."""

    text: str


@dataclass(frozen=True, slots=True)
class ToolCallPart:
    """A whole tool call as the model wrote it; `arguments` is text, JSON or nearly so.

    `id` is the server's, or empty where there was none.
    """

    name: str
    arguments: str
    id: str = ""


@dataclass(frozen=True, slots=True)
class MalformedCallPart:
    """Markup of a call that could not be read, and why; never carried out, never shown."""

    text: str
    reason: str


MessagePart: TypeAlias = TextPart | ThinkingPart | ToolCallPart | MalformedCallPart
