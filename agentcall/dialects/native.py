"""OpenAI tools and the tool role; the server renders and parses, we mend what it missed.

Format: POST /v1/chat/completions of the OpenAI API reference. Content is never null and `tools`
never empty, as LMDeploy, vLLM and several chat templates fail on those.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

from agentcall.dialects.assembly import assembled
from agentcall.dialects.frame import result_text, user_message
from agentcall.dialects.neutral import neutralise
from agentcall.dialects.offers import Offers
from agentcall.dialects.parts import CallDelta, Called, Delta, Part, Said, Thought
from agentcall.dialects.protocol import Choice, Offer, Opening, Reader, Wire
from agentcall.dialects.reading import Reconsidered, TextReader, text_reader
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
        return NativeReader(offer.tools)


NATIVE = Native()


def neutral_call(call: ToolCall) -> ToolCall:
    """The same call with special tokens in its arguments made harmless, escaped ones too."""
    arguments = call.arguments
    if "\\u" in arguments:  # a server that renders them decodes them first
        with suppress(ValueError):
            arguments = json.dumps(json.loads(arguments), ensure_ascii=False)
    plain = neutralise(arguments)
    return call if plain is call.arguments else replace(call, arguments=plain)


class NativeReader:
    """Gathers `tool_calls` pieces; text goes through a text reader, whose calls give way.

    Most answers are all calls or all text: the text reader is made when there is text.
    """

    def __init__(self, tools: Offers, family: str | None = None) -> None:
        self._tools = tools
        self._family = family
        self._opening = ""
        self._text: TextReader | None = None
        self._pieces: list[CallDelta] = []
        self._written: list[Part] = []
        self._thinking: list[str] = []
        self._said = False

    def suppose(self, opening: str) -> None:
        """The server's template is taken to have opened the thinking so."""
        self._opening = opening

    def feed(self, delta: Delta) -> Sequence[Part]:
        """Text and thinking that are certain; calls come at the end."""
        text, thinking, calls, is_all = delta
        parts: list[Part] = []
        if thinking:
            self._thinking.append(thinking)
            parts.append(Thought(thinking))
        if is_all:
            self._pieces.clear()
        self._pieces += calls
        if text:
            self._said = self._said or not text.isspace()
            self._text = self._text or self._reader(self._opening, supposed=True)
            parts += self._kept(self._text.feed(text))
        return parts

    def close(self, finish: str | None) -> Sequence[Part]:
        """The rest of the text, and the calls: native ones, or else those in the text."""
        parts = self._kept(self._text.close(finish)) if self._text else []
        native = assembled(self._pieces, self._tools) if self._pieces else []
        return [*parts, *(native or self._written or self._swallowed(finish))]

    def _reader(self, opening: str, *, supposed: bool) -> TextReader:
        return text_reader(self._tools, self._family, opening=opening, supposed=supposed)

    def _swallowed(self, finish: str | None) -> list[Part]:
        """Calls with which thinking ends that the server took apart, where nothing else came."""
        if self._said or not self._thinking:
            return []
        reader = self._reader(_THINK, supposed=False)
        parts = [*reader.feed("".join(self._thinking)), *reader.close(finish)]
        return [part for part in parts if isinstance(part, Called)]

    def _kept(self, parts: Sequence[Part]) -> list[Part]:
        """The parts that may be told now; the calls are put aside, or void."""
        kept: list[Part] = []
        for part in parts:
            if isinstance(part, Reconsidered):
                self._written.clear()
                kept = [one for one in kept if isinstance(one, Thought)]
            (kept if isinstance(part, (Said, Thought)) else self._written).append(part)
        return kept


_THINK = "<think>"
