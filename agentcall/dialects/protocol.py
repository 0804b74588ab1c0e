"""What a dialect is: a way to show tools to a model family and to read its calls back.

A dialect is pure: no I/O, no clock, no state besides its readers'. Rules:
1. What `offer` and `render` write is a function of their arguments alone, so that a request's
   bytes begin with those of the request before it.
2. A reader takes deltas of any size: cutting the text elsewhere never changes what it gives.
3. Text is a call only if it names an offered tool; everything else stays text.
4. Markup of calls never becomes `TextPart`.
5. Special tokens of the family inside the text of a user or a tool are neutralised by `render`,
   and text of strangers is framed as data.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, Protocol, TypeAlias

from agentcall.messages import JSON, Message
from agentcall.tool import Tool

if TYPE_CHECKING:
    from agentcall.dialects.parts import MessageDelta, MessagePart

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
