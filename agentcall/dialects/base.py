"""What a dialect is: a way to show tools to a model family and to read its calls back.

A dialect is pure: no I/O, no clock, no state besides its readers'. Rules:
1. What `offer` and `render` write is a function of their arguments alone, so that a request's
   bytes begin with those of the request before it.
2. A reader takes deltas of any size: cutting the text elsewhere never changes what it gives.
3. Text is a call only if it names an offered tool; everything else stays text.
4. Markup of calls never becomes `TextPart`.
5. Special tokens of the family inside the text of a user or a tool are neutralised by `render`,
   and text of strangers is framed as data.

The dialects by name; each is imported when it is first spoken.

The offered tools as a reader knows them: by name, exact or nearly so, and by schema.

What goes into a reader and what comes out of it.

In: `MessageDelta`, a piece of an answer as a server sent it. Out: parts, pieces of meaning.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from importlib import import_module
from typing import Literal, NamedTuple, Protocol, TypeAlias

from agentcall.errors import UsageError
from agentcall.messages import JSON, Message
from agentcall.tools.tool import Tool

JSONObject: TypeAlias = dict[str, JSON]
ToolChoice: TypeAlias = Literal["auto", "none", "required"]


@dataclass(frozen=True, slots=True, eq=False)
class PromptSpec:
    """What the model is offered through a whole run: instructions, tools, the answer's type.

    `answer` is the JSON Schema of a typed answer, or None for plain text.
    """

    instructions: str = ""
    tools: tuple[Tool, ...] = ()
    answer_schema: dict[str, JSON] | None = None


@dataclass(frozen=True, slots=True)
class RequestPrelude:
    """How an offer goes over the wire: the first messages, and fields of the request."""

    messages: tuple[JSONObject, ...] = ()
    fields: JSONObject = field(default_factory=dict[str, JSON])


class DialectReader(Protocol):
    """Reads one answer, piece by piece."""

    def feed(self, delta: MessageDelta) -> Sequence[MessagePart]:
        """The parts that are certain once this piece is known."""
        ...

    def close(self, finish_reason: str | None) -> Sequence[MessagePart]:
        """What is left at the end; `finish` is the server's finish_reason, None if it gave none."""
        ...


class Dialect(Protocol):
    """A way to show tools to a model family and to read its calls back."""

    @property
    def name(self) -> str:
        """The name in events and in `doctor`."""
        ...

    def create_prelude(self, prompt: PromptSpec, tool_choice: ToolChoice) -> RequestPrelude:
        """How the offer is written; `choice` is whether the model may, may not or must call."""
        ...

    def render(self, message: Message, before: Sequence[Message]) -> Sequence[JSONObject]:
        """How one message is written; `before` is the conversation up to it."""
        ...

    def create_reader(self, prompt: PromptSpec) -> DialectReader:
        """A fresh reader for one answer."""
        ...


_DIALECT_LOCATIONS = {
    "native": "native:NATIVE",
    "internlm": "internlm:INTERNLM",
    "internlm-named": "internlm:INTERNLM_NAMED",
    "constrained": "constrained:CONSTRAINED",
}


def get_dialect(name: str) -> Dialect:
    """The dialect of that name. Raises UsageError."""
    if name not in _DIALECT_LOCATIONS:
        raise UsageError(f"there is no dialect {name!r}; use auto, {', '.join(_DIALECT_LOCATIONS)}")
    module, _, attribute = _DIALECT_LOCATIONS[name].partition(":")
    dialect: Dialect = getattr(import_module(f"agentcall.dialects.{module}"), attribute)
    return dialect


class ToolSpec(Protocol):
    """What a reader has to know of a tool."""

    @property
    def name(self) -> str:
        """The name the model calls it by."""
        ...

    @property
    def parameters(self) -> Mapping[str, JSON]:
        """The JSON Schema of its arguments."""
        ...


ToolSpecs: TypeAlias = "Iterable[ToolSpec | str]"
ToolSchema: TypeAlias = "Mapping[str, JSON]"

_NAME_PREFIXES = ("functions.", "function.", "default_api.", "tools.", "tool.")


def normalize_name(name: str) -> str:
    """A tool's name without what models vary: case, separators, a known prefix."""
    short = name.strip()
    for prefix in _NAME_PREFIXES:
        short = short.removeprefix(prefix)
    return re.sub(r"[-_.\s]", "", short).casefold()


class ToolSet:
    """The offered tools by name, exact or nearly so."""

    def __init__(self, tools: ToolSpecs) -> None:
        self._schemas: dict[str, ToolSchema] = {}
        for offer in tools:
            if isinstance(offer, str):
                self._schemas[offer] = {}
            else:
                self._schemas[offer.name] = offer.parameters

    @cached_property
    def _names_by_normal_form(self) -> dict[str, str]:
        """The names by their plain forms; the first of two that are alike."""
        return {normalize_name(name): name for name in reversed(self._schemas)}

    def __contains__(self, name: str) -> bool:
        return self.find_name(name) is not None

    def find_name(self, name: str) -> str | None:
        """The offered name that this one means: the same, or another spelling of it."""
        return (
            name if name in self._schemas else self._names_by_normal_form.get(normalize_name(name))
        )

    def get_schema(self, name: str) -> ToolSchema:
        """The schema of the tool that this name means, empty if it is not known."""
        found = self.find_name(name)
        return self._schemas[found] if found is not None else {}

    def can_take_more(self, name: str, given: Collection[str]) -> bool:
        """Whether the tool may take arguments besides those that are given."""
        properties = self.get_schema(name).get("properties")
        return isinstance(properties, Mapping) and not set(properties) <= set(given)

    def __iter__(self) -> Iterator[str]:
        return iter(self._schemas)


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
