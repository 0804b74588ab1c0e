"""Gemma 4 and FunctionGemma: an object notation of their own.

    <|tool_call>call:get_weather{city:<|"|>Paris<|"|>,days:3}<tool_call|>                Gemma 4
    <start_function_call>call:get_weather{city:<escape>Paris<escape>}<end_function_call>

Source: chat_template.jinja of google/gemma-4-31B-it and google/functiongemma-270m-it. Keys are
written without quotes, strings between tokens. Thinking: `<|channel>thought` to `<channel|>`. For
the ```tool_code of Gemma 3 see fenced.py.
"""

from __future__ import annotations

import json
import re
from typing import cast

from agentcall.dialects.parsers._common import CUT_OFF
from agentcall.dialects.parsers.scanner import Delimiters, Scan
from agentcall.dialects.parsers.thinking import create_tag_readers
from agentcall.dialects.parsers.tool_parser import MarkupReader, ParseState, ToolParser
from agentcall.lenient_json import MAX_DEPTH
from agentcall.messages import JSON

_PLAIN_VALUE = re.compile(r"[^,\]}]*")
_TORN_MEMBER = re.compile(r"\w+\s*:")
"""A value without quotes that looks like a key and its value: the key's beginning is missing."""
_KEY = re.compile(r"\s*([^:{}\[\],]+?)\s*:")
_CALL_HEAD = re.compile(r"\s*call:\s*([^\s{]+)\s*(?=\{)")


class _NotationError(ValueError):
    """The text is not in this notation."""


class _NotationParser:
    """Parses the object notation in one text."""

    def __init__(self, text: str, quote: str) -> None:
        self.text = text
        self.quote = quote
        self.position = 0

    def parse_value(self, depth: int = 0) -> JSON:
        self.position += len(self.text[self.position :]) - len(self.text[self.position :].lstrip())
        if depth > MAX_DEPTH:
            raise _NotationError
        if self.text.startswith(self.quote, self.position):
            return self._parse_string()
        char = self.text[self.position : self.position + 1]
        if char == "{":
            return self._parse_object(depth)
        if char == "[":
            return self._parse_list(depth)
        return self._parse_plain()

    def _parse_string(self) -> str:
        start = self.position + len(self.quote)
        end = self.text.find(self.quote, start)
        if end < 0:
            raise _NotationError
        self.position = end + len(self.quote)
        return self.text[start:end]

    def _parse_plain(self) -> JSON:
        match = cast("re.Match[str]", _PLAIN_VALUE.match(self.text, self.position))
        self.position = match.end()
        word = match.group().strip()
        if not word or _TORN_MEMBER.match(word):
            raise _NotationError
        try:
            return cast("JSON", json.loads(word))
        except ValueError:
            return word

    def _accept_separator(self, closer: str) -> bool:
        """Skip a comma or the closer; return whether another item follows."""
        while self.text[self.position : self.position + 1].isspace():
            self.position += 1
        char = self.text[self.position : self.position + 1]
        if char == closer or char == ",":
            self.position += 1
            return char == ","
        raise _NotationError

    def _accept_empty(self, closer: str) -> bool:
        self.position += 1
        while self.text[self.position : self.position + 1].isspace():
            self.position += 1
        if self.text.startswith(closer, self.position):
            self.position += 1
            return True
        return False

    def _parse_object(self, depth: int) -> JSON:
        members: dict[str, JSON] = {}
        if self._accept_empty("}"):
            return members
        while True:
            key = self._parse_key()
            if key in members:
                raise _NotationError
            members[key] = self.parse_value(depth + 1)
            if not self._accept_separator("}"):
                return members

    def _parse_key(self) -> str:
        while self.text[self.position : self.position + 1].isspace():
            self.position += 1
        if self.text.startswith(self.quote, self.position):
            key = self._parse_string()
            if not self.text[self.position :].lstrip().startswith(":"):
                raise _NotationError
            self.position = self.text.index(":", self.position) + 1
            return key
        match = _KEY.match(self.text, self.position)
        if match is None:
            raise _NotationError
        self.position = match.end()
        return match.group(1)

    def _parse_list(self, depth: int) -> JSON:
        items: list[JSON] = []
        if self._accept_empty("]"):
            return items
        while True:
            items.append(self.parse_value(depth + 1))
            if not self._accept_separator("]"):
                return items


def _create_call_reader(closer: str, quote: str) -> MarkupReader:
    """Create a reader of one call up to the closing token, which may also be part of a string."""
    delimiters = Delimiters(closer, quote)

    def read(state: ParseState) -> Scan[bool]:
        scanner = state.scanner
        pieces: list[str] = []
        is_in_string = False
        while True:
            text, delimiter = yield from scanner.read_until(delimiters)
            pieces.append(text)
            if not delimiter or (delimiter == closer and not is_in_string):
                break
            is_in_string = is_in_string != (delimiter == quote)
            pieces.append(delimiter)
        is_whole = bool(delimiter) or (scanner.is_complete and not is_in_string)
        _write_call(state, "".join(pieces), quote, is_whole)
        return True

    return read


def _write_call(state: ParseState, text: str, quote: str, is_whole: bool) -> None:
    head = _CALL_HEAD.match(text)
    if head is None or not is_whole:
        state.writer.write_malformed_call(
            state.scanner.get_marked_text(), "there is no call in it" if is_whole else CUT_OFF
        )
        return
    notation = _NotationParser(text[head.end() :].rstrip(), quote)
    try:
        values = notation.parse_value()
    except _NotationError:
        notation.position = -1
        values = None
    if notation.position != len(notation.text):
        state.writer.write_malformed_call(
            state.scanner.get_marked_text(), "its arguments are not well formed"
        )
        return
    state.writer.write_call(head.group(1), json.dumps(values, ensure_ascii=False))


GEMMA = ToolParser(
    "gemma",
    markers={
        "<|tool_call>": _create_call_reader("<tool_call|>", '<|"|>'),
        "<start_function_call>": _create_call_reader("<end_function_call>", "<escape>"),
    },
    thinking=create_tag_readers("<|channel>thought", "<channel|>"),
    ignored_tokens=("<tool_call|>", "<|tool_response>", "<turn|>", "<end_of_turn>", "<|turn>model"),
)
