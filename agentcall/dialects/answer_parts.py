"""The parts of a model's answer: text, thinking and tool calls, in pieces (deltas) or whole."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, TypeAlias


class ToolCallDelta(NamedTuple):
    """A piece of a native tool call; the pieces of one call share `slot`."""

    slot: int | None
    id: str
    name: str
    arguments: str


class MessageDelta(NamedTuple):
    """A piece of an answer: text, thinking and native tool calls, each possibly empty.

    is_all: the calls are whole and complete, and replace all pieces before them.
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
    """A whole tool call as the model wrote it; `arguments` is JSON, or nearly JSON.

    `id` is the server's, or empty.
    """

    name: str
    arguments: str
    id: str = ""


@dataclass(frozen=True, slots=True)
class MalformedCallPart:
    """Markup of a call that could not be read, and the reason; never executed or displayed."""

    text: str
    reason: str


CallPart: TypeAlias = ToolCallPart | MalformedCallPart
MessagePart: TypeAlias = TextPart | ThinkingPart | CallPart
