"""The dialect protocol, and the tools that are offered.

A dialect is pure: no I/O, no clock, no state except in its readers. Rules:
1. The output of `create_prelude` and `render` depends on their arguments only, so that the bytes of
   a request begin with those of the request before it.
2. A reader accepts deltas of any size: cutting the text elsewhere never changes the result.
3. Text is a call only if it names an offered tool; all other text stays text.
4. The markup of calls never becomes a `TextPart`.
5. `render` escapes special tokens of the family in text of users and tools, and marks untrusted
   content as data.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from importlib import import_module
from typing import TYPE_CHECKING, Literal, Protocol, TypeAlias

from agentcall.errors import UsageError
from agentcall.messages import JSON, Message
from agentcall.tools.tool import Tool

if TYPE_CHECKING:  # types only: an agent is made without them
    from agentcall.dialects.answer_parts import MessageDelta, MessagePart

JSONObject: TypeAlias = dict[str, JSON]
ToolChoice: TypeAlias = Literal["auto", "none", "required"] | str
"""Whether the model may, may not or must call tools, or the name of the tool that it must call."""

AnswerMode: TypeAlias = Literal["auto", "schema", "prompt"]
"""Whether a typed answer is constrained by the server: where it can, always, or never."""


@dataclass(frozen=True, slots=True, eq=False)
class PromptSpec:
    """What the model is given for a whole run: instructions, tools, and the type of the answer.

    `answer_schema` is the JSON Schema of a typed answer, None for plain text.

    A dialect that holds a turn to a grammar also keeps the rules of the run: `final` are the names
    of the tools that end it, in place of an answer, `withheld` those of tools that may not be
    called in this turn, and `may_answer` says whether it may be the answer.
    """

    instructions: str = ""
    tools: tuple[Tool, ...] = ()
    answer_schema: dict[str, JSON] | None = None
    final: tuple[str, ...] = ()
    withheld: frozenset[str] = frozenset()
    may_answer: bool = True
    answer_mode: AnswerMode = "prompt"


@dataclass(frozen=True, slots=True)
class RequestPrelude:
    """A prompt as it is sent: the first messages, and fields of the request."""

    messages: tuple[JSONObject, ...] = ()
    fields: JSONObject = field(default_factory=dict[str, JSON])


class DialectReader(Protocol):
    """Reads one answer, piece by piece."""

    def feed(self, delta: MessageDelta) -> Sequence[MessagePart]:
        """Return the parts that are certain after this delta."""
        ...

    def close(self, finish_reason: str | None) -> Sequence[MessagePart]:
        """Return the remaining parts; `finish_reason` is the server's, None if it gave none."""
        ...


class Dialect(Protocol):
    """A way to offer tools to a model family and to read its calls."""

    @property
    def name(self) -> str:
        """The name in events and in `doctor`."""
        ...

    def create_prelude(self, prompt: PromptSpec, tool_choice: ToolChoice) -> RequestPrelude:
        """Render the prompt; `tool_choice` is "auto", "none", "required" or a tool's name."""
        ...

    def render(self, message: Message, before: Sequence[Message]) -> Sequence[JSONObject]:
        """Render one message; `before` is the conversation up to it."""
        ...

    def create_reader(self, prompt: PromptSpec) -> DialectReader:
        """Create a reader for one answer."""
        ...


StartAnswer: TypeAlias = Callable[
    [PromptSpec, Sequence[Message]], "tuple[PromptSpec, Sequence[Message]] | None"
]
"""A dialect's optional method `start_answer`, which takes the prompt and the conversation.

It returns the conversation that the next answer is written in, if that is another one.
"""


ENDING_BY_CALL = "ending_by_call"
"""A dialect's optional attribute: the dialect for a run that ends with a call, if it is another."""


_DIALECT_LOCATIONS = {
    "native": "native:NATIVE",
    "internlm": "internlm:INTERNLM",
    "internlm-named": "internlm:INTERNLM_NAMED",
    "constrained": "constrained:CONSTRAINED",
}


def get_dialect(name: str) -> Dialect:
    """Return a dialect by name, importing its module. Raises UsageError for an unknown name."""
    if name not in _DIALECT_LOCATIONS:
        raise UsageError(f"unknown dialect {name!r}; use auto, {', '.join(_DIALECT_LOCATIONS)}")
    module, _, attribute = _DIALECT_LOCATIONS[name].partition(":")
    dialect: Dialect = getattr(import_module(f"agentcall.dialects.{module}"), attribute)
    return dialect


class ToolSpec(Protocol):
    """What a reader needs to know about a tool."""

    @property
    def name(self) -> str:
        """The name that the model calls it by."""
        ...

    @property
    def parameters(self) -> Mapping[str, JSON]:
        """The JSON Schema of its arguments."""
        ...


ToolSpecs: TypeAlias = "Iterable[ToolSpec | str]"
ToolSchema: TypeAlias = "Mapping[str, JSON]"

_NAME_PREFIXES = ("functions.", "function.", "default_api.", "tools.", "tool.")


def normalize_name(name: str) -> str:
    """Return a tool's name without case, separators and common prefixes, which models vary."""
    short = name.strip()
    for prefix in _NAME_PREFIXES:
        short = short.removeprefix(prefix)
    return re.sub(r"[-_.\s]", "", short).casefold()


class ToolSet:
    """The offered tools, found by name in any spelling."""

    def __init__(self, tools: ToolSpecs) -> None:
        self._schemas: dict[str, ToolSchema] = {}
        for tool in tools:
            if isinstance(tool, str):
                self._schemas[tool] = {}
            else:
                self._schemas[tool.name] = tool.parameters

    @cached_property
    def _names_by_normal_form(self) -> dict[str, str]:
        """The names by their normal forms; the first of two that are alike."""
        return {normalize_name(name): name for name in reversed(self._schemas)}

    @cached_property
    def first_characters(self) -> frozenset[str]:
        """The characters with which a call as code may begin: a name, `print(` or a prefix."""
        return frozenset([name[:1] for name in self._schemas] + ["`", "p", "f", "d", "t"])

    def __contains__(self, name: str) -> bool:
        return self.find_name(name) is not None

    def find_name(self, name: str) -> str | None:
        """Return the offered name that `name` spells, exactly or in another form, else None."""
        if name in self._schemas:
            return name
        return self._names_by_normal_form.get(normalize_name(name))

    def get_schema(self, name: str) -> ToolSchema:
        """Return the schema of a tool's arguments, empty for an unknown tool."""
        found = self.find_name(name)
        return self._schemas[found] if found is not None else {}

    def list_parameters(self, name: str) -> list[str]:
        """Return the names of a tool's parameters, none for an unknown tool."""
        properties = self.get_schema(name).get("properties")
        return list(properties) if isinstance(properties, Mapping) else []

    def can_take_more(self, name: str, given: Collection[str]) -> bool:
        """Whether the tool has arguments besides the given ones."""
        return not set(self.list_parameters(name)) <= set(given)

    def __iter__(self) -> Iterator[str]:
        return iter(self._schemas)
