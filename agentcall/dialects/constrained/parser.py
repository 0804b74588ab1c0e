"""Reads one turn of the constrained dialect: its JSON object, or text if nothing was constrained.

The text of a plain answer is returned as it arrives, all else at the end. Time is linear in the
length of the answer.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import cast

from agentcall.dialects.answer_parts import (
    MalformedCallPart,
    MessageDelta,
    MessagePart,
    TextPart,
    ThinkingPart,
    ToolCallPart,
)
from agentcall.dialects.constrained.call_expression import parse_plan
from agentcall.dialects.dialect import PromptSpec
from agentcall.dialects.native import NativeReader
from agentcall.dialects.parsers.thinking import END_TAGS
from agentcall.lenient_json import STRICT_DECODER
from agentcall.messages import JSON, format_json
from agentcall.tools.tool import Tool

_FENCE_START = re.compile(r"\s*```(?:json)?[ \t]*\n\s*(?=\{)")
_ANSWER_START = re.compile(r'\s*\{\s*"(?:answer|chat)"\s*:\s*"')
_ANSWER_HEADS = ('{"answer":"', '{"chat":"')
_MAX_UNDECIDED = 200
"""The length of text that may arrive before its form is decided (characters)."""
_LEGACY_ANSWER_TOOL = "final_answer"


class ConstrainedReader:
    """Reads one turn, piece by piece."""

    def __init__(self, prompt: PromptSpec) -> None:
        self._tools = {tool.name: tool for tool in prompt.tools}
        self._is_typed = prompt.answer_schema is not None
        self._head = ""
        self._pieces: list[str] | None = None
        self._answer_decoder: JSONStringDecoder | None = None
        self._native_reader: NativeReader | None = None

    def feed(self, delta: MessageDelta) -> Sequence[MessagePart]:
        """Return thinking, and the new text of a plain answer."""
        if self._native_reader is not None:
            return self._native_reader.feed(delta)
        if delta.calls:
            return self._switch_to_text(delta)
        parts: list[MessagePart] = [ThinkingPart(delta.thinking)] if delta.thinking else []
        return [*parts, *self._feed_text(delta.text)] if delta.text else parts

    def close(self, finish_reason: str | None) -> Sequence[MessagePart]:
        """Return the call, the plan's first calls, or the rest of the answer."""
        if self._native_reader is not None:
            return self._native_reader.close(finish_reason)
        if self._answer_decoder is not None:
            return []
        text = self._head if self._pieces is None else "".join(self._pieces)
        return self._close_text(text, finish_reason) if text.strip() else []

    def _feed_text(self, text: str) -> Sequence[MessagePart]:
        if self._answer_decoder is not None:
            return _wrap_text(self._answer_decoder.feed(text))
        if self._pieces is not None:
            self._pieces.append(text)
            return []
        self._head += text
        return self._detect_form()

    def _detect_form(self) -> Sequence[MessagePart]:
        """Decide from the beginning: an answer, another object, text, or not yet."""
        body = _FENCE_START.sub("", self._head, count=1)
        start = None if self._is_typed else _ANSWER_START.match(body)
        if start is not None:
            self._answer_decoder = JSONStringDecoder()
            return _wrap_text(self._answer_decoder.feed(body[start.end() :]))
        compact = "".join(body.split())
        is_undecided = any(head.startswith(compact) for head in _ANSWER_HEADS)
        if is_undecided or (_could_be_fence(body) and len(body) < _MAX_UNDECIDED):
            return []
        if compact.startswith("{"):
            self._pieces = [body]
            return []
        return self._switch_to_text(MessageDelta())

    def _switch_to_text(self, delta: MessageDelta) -> Sequence[MessagePart]:
        """Read everything, past and future, as unconstrained text."""
        self._native_reader = NativeReader(tuple(self._tools.values()))
        head = self._head if self._pieces is None else "".join(self._pieces)
        return self._native_reader.feed(delta._replace(text=head + delta.text))

    def _close_text(self, text: str, finish_reason: str | None) -> Sequence[MessagePart]:
        turns = _parse_objects(text)
        if turns:
            parts = self._read_objects(turns, text)
            if parts is not None:
                return parts
        elif finish_reason in (None, "length"):
            return [MalformedCallPart(text, "it was cut off")]
        self._pieces = None
        self._head = text
        parts = [
            *self._switch_to_text(MessageDelta()),
            *(self._native_reader.close(finish_reason) if self._native_reader else ()),
        ]
        is_turn_like = re.match(r'\s*\{\s*"(plan|name|answer|chat)"', text)
        if is_turn_like and not turns and all(isinstance(part, TextPart) for part in parts):
            return [MalformedCallPart(text, "it is not one JSON object")]
        return parts

    def _read_objects(
        self, turns: Sequence[Mapping[str, JSON]], text: str
    ) -> Sequence[MessagePart] | None:
        """Return the parts of the objects; None if the first of them is not a turn."""
        match turns[0]:
            case {"plan": str(plan)}:
                return self._start_plan(plan, text)
            case {"answer": answer} | {"chat": answer}:
                return [TextPart(self._format_answer(answer))]
            case {"name": "final_answer", "arguments": {"answer": answer}} if (
                _LEGACY_ANSWER_TOOL not in self._tools
            ):
                return [TextPart(self._format_answer(answer))]
            case _:
                calls = [_to_call(turn) for turn in turns]
                first_other = calls.index(None) if None in calls else len(calls)
                return [call for call in calls[:first_other] if call is not None] or None

    def _format_answer(self, answer: JSON) -> str:
        plain = isinstance(answer, str) and not self._is_typed
        return _replace_surrogates(str(answer)) if plain else format_json(answer)

    def _start_plan(self, written: str, text: str) -> Sequence[MessagePart]:
        """Return the calls of a plan that need no results."""
        plan = parse_plan(written)
        if plan is None:
            return [MalformedCallPart(text, "the plan is not made of calls with plain values")]
        unknown = next((name for name in plan.names if name not in self._tools), None)
        if unknown is not None:
            return [MalformedCallPart(text, f"the plan calls {unknown}, which is not a tool")]
        calls: list[MessagePart] = []
        for step in plan.list_ready():
            parameters = _list_parameters(self._tools[step.name])
            if len(step.values) > len(parameters):  # dropping a value would make another call
                return [
                    MalformedCallPart(
                        text, f"{step} has too many values; it takes {', '.join(parameters)}"
                    )
                ]
            arguments = step.bind_arguments(parameters)
            if len(arguments) < len(step.values):
                return [MalformedCallPart(text, f"{step} gives a parameter two values")]
            calls.append(ToolCallPart(step.name, format_json(arguments)))
        return [ThinkingPart(written), *calls]


_HIGH_SURROGATE = r"\\u[dD][89abAB][0-9a-fA-F]{2}"
_COMPLETE_CHARACTERS = re.compile(
    rf'(?:[^"\\]|\\[^u]|(?!{_HIGH_SURROGATE})\\u[0-9a-fA-F]{{4}}'
    rf"|{_HIGH_SURROGATE}(?:\\u[dD][c-fC-F][0-9a-fA-F]{{2}}|(?=[^\\]|\\[^u]|\\u[0-9a-fA-F]{{4}})))*"
)
"""The inside of a JSON string: characters and whole escapes, but no high surrogate at its end."""
_LONGEST_ESCAPE = 12
"""The length of the longest escape, a surrogate pair."""


class JSONStringDecoder:
    """Decodes the inside of a JSON string as it arrives; text after its end is ignored."""

    def __init__(self) -> None:
        self._pending = ""
        self._is_ended = False

    def feed(self, text: str) -> str:
        """Return the characters that are certain after this piece."""
        if self._is_ended:
            return ""
        source, at, out = self._pending + text, 0, list[str]()
        while at < len(source):
            end = cast("re.Match[str]", _COMPLETE_CHARACTERS.match(source, at)).end()
            out.append(_decode_string(source[at:end]))
            self._is_ended = source.startswith('"', end)
            if self._is_ended or len(source) - end < _LONGEST_ESCAPE:
                at = end
                break
            at = end + 2  # not an escape, whatever follows
        self._pending = source[at:]
        return "".join(out)


def _decode_string(inside: str) -> str:
    """Decode the inside of a JSON string; a backslash before no known escape is dropped."""
    if "\\" not in inside:
        return inside
    try:
        text = cast("str", json.loads(f'"{inside}"', strict=False))
    except ValueError:
        cleaned = re.sub(r"\\([^\"\\/bfnrtu])|(\\.)", r"\1\2", inside, flags=re.DOTALL)
        text = cast("str", json.loads(f'"{cleaned}"', strict=False))
    return _replace_surrogates(text) if "\\u" in inside else text


def _replace_surrogates(text: str) -> str:
    """Replace lone surrogates, which cannot be encoded."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _could_be_fence(body: str) -> bool:
    start = body.lstrip()
    return "```json".startswith(start.rstrip()) or re.fullmatch(r"```(json)?\s*", start) is not None


def _parse_objects(text: str) -> list[Mapping[str, JSON]]:
    """Return the JSON objects that a text begins with; none if an end of thinking follows."""
    objects, at = list[Mapping[str, JSON]](), 0
    body = text.strip()
    while body.startswith("{", at):
        try:
            value, at = cast("tuple[Mapping[str, JSON], int]", STRICT_DECODER.raw_decode(body, at))
        except (ValueError, RecursionError):
            break
        objects.append(value)
        while at < len(body) and body[at] in " \t\r\n,":
            at += 1
    return [] if any(tag in body[at:] for tag in END_TAGS) else objects


def _to_call(turn: Mapping[str, JSON]) -> ToolCallPart | None:
    match turn:
        case {"name": str(name), "arguments": arguments}:
            return ToolCallPart(name, format_json(arguments))
        case _:
            return None


def _list_parameters(tool: Tool) -> list[str]:
    fields = tool.parameters.get("properties")
    return list(fields) if isinstance(fields, Mapping) else []


def _wrap_text(text: str) -> list[MessagePart]:
    return [TextPart(text)] if text else []
