"""OpenAI tools and the tool role; the server renders and parses, we mend what it missed.

Format: POST /v1/chat/completions of the OpenAI API reference. Content is never null and `tools`
never empty, as LMDeploy, vLLM and several chat templates fail on those.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial

from agentcall.dialects.frame import result_text, user_message
from agentcall.dialects.neutral import neutralise
from agentcall.dialects.parts import CallDelta, Called, Delta, Part, Said, Thought
from agentcall.dialects.protocol import Choice, Offer, Opening, Reader, Wire
from agentcall.dialects.reading import TextReader, text_reader
from agentcall.dialects.typed import with_answer_format
from agentcall.messages import (
    Assistant,
    Message,
    System,
    ToolCall,
    ToolResult,
    User,
    assistant_json,
    result_json,
    system_json,
    to_json,
)


@dataclass(frozen=True, slots=True)
class Native:
    """The `tools` field, the `tool_calls` list and the `tool` role."""

    name: str = "native"

    def offer(self, offer: Offer, choice: Choice) -> Opening:
        """The system message, and the tools as a field."""
        fields: Wire = {}
        if offer.tools:
            fields["tools"] = [tool.definition for tool in offer.tools]
            if choice != "auto":
                fields["tool_choice"] = choice
        instructions = with_answer_format(offer)
        system: list[Wire] = [system_json(instructions)] if instructions else []
        return Opening(tuple(system), fields)

    def render(self, message: Message, before: Sequence[Message]) -> Sequence[Wire]:
        """The message in OpenAI's form, without thinking and without marks of our own."""
        match message:
            case Assistant():
                return [assistant_json(message.text, map(neutral_call, message.calls))]
            case ToolResult():
                return [result_json(message.call_id, message.name, result_text(message))]
            case User():
                return [to_json(user_message(message))]
            case System():
                return [system_json(message.text)]

    def reader(self, offer: Offer) -> Reader:
        """Native calls; where there are none, calls in the text in whatever family's form."""
        return NativeReader(partial(text_reader, offer.tools))


NATIVE = Native()


def neutral_call(call: ToolCall) -> ToolCall:
    """The same call with special tokens in its arguments made harmless, escaped ones too."""
    arguments = call.arguments
    if "\\u" in arguments:  # a server that renders them decodes them first
        with suppress(ValueError):
            arguments = json.dumps(json.loads(arguments), ensure_ascii=False)
    plain = neutralise(arguments)
    return call if plain is call.arguments else replace(call, arguments=plain)


@dataclass(slots=True)
class _Growing:
    """A native call whose pieces are still arriving."""

    slot: int | None
    id: str = ""
    name: str = ""
    arguments: list[str] = field(default_factory=list[str])

    def add(self, delta: CallDelta) -> None:
        self.id = self.id or delta.id
        self.name = self.name or delta.name
        if delta.arguments:
            self.arguments.append(delta.arguments)

    def continues(self, delta: CallDelta) -> bool:
        """Whether the piece belongs here: servers repeat names, and some send a new id a piece."""
        if delta.slot != self.slot and delta.slot is not None:
            return False
        if delta.slot is None and delta.id and self.id and delta.id != self.id:
            return False
        return not (delta.name and self.name and delta.name != self.name and self.arguments)


class NativeReader:
    """Gathers `tool_calls` pieces; text goes through a text reader, whose calls give way.

    Most answers are all calls or all text: the text reader is made when there is text.
    """

    def __init__(self, text_reader: Callable[[], TextReader]) -> None:
        self._make = text_reader
        self._text: TextReader | None = None
        self._native: list[_Growing] = []
        self._written: list[Part] = []
        self._thinking: list[str] = []
        self._said = False

    def feed(self, delta: Delta) -> Sequence[Part]:
        """Text and thinking that are certain; calls come at the end."""
        text, thinking, calls = delta
        parts: list[Part] = []
        if thinking:
            self._thinking.append(thinking)
            parts.append(Thought(thinking))
        for piece in calls:
            self._add(piece)
        if text:
            self._said = self._said or not text.isspace()
            self._text = self._text or self._make()
            parts += self._kept(self._text.feed(text))
        return parts

    def close(self, finish: str | None) -> Sequence[Part]:
        """The rest of the text, and the calls: native ones, or else those in the text."""
        parts = self._kept(self._text.close(finish)) if self._text else []
        native = [
            Called(call.name, "".join(call.arguments), call.id)
            for call in self._native
            if call.name or call.arguments
        ]
        return [*parts, *(native or self._written or self._swallowed(finish))]

    def _swallowed(self, finish: str | None) -> list[Part]:
        """Calls that the server took for thinking, where there is nothing else."""
        if self._said or not self._thinking:
            return []
        reader = self._make()
        parts = [*reader.feed("".join(self._thinking)), *reader.close(finish)]
        return [part for part in parts if isinstance(part, Called)]

    def _kept(self, parts: Sequence[Part]) -> list[Part]:
        """The parts that may be told now; the calls are put aside."""
        kept: list[Part] = []
        for part in parts:
            (kept if isinstance(part, (Said, Thought)) else self._written).append(part)
        return kept

    def _add(self, piece: CallDelta) -> None:
        for call in reversed(self._native):
            if call.continues(piece):
                call.add(piece)
                return
        self._native.append(_Growing(piece.slot))
        self._native[-1].add(piece)
