"""Gemma 4 and FunctionGemma: an object notation of their own.

    <|tool_call>call:get_weather{city:<|"|>Paris<|"|>,days:3}<tool_call|>                Gemma 4
    <start_function_call>call:get_weather{city:<escape>Paris<escape>}<end_function_call>

Source: chat_template.jinja of google/gemma-4-31B-it and google/functiongemma-270m-it. Keys stand
without quotes, strings between tokens. Thinking: `<|channel>thought` to `<channel|>`. Gemma 3
writes ```tool_code: families/fenced.py.
"""

from __future__ import annotations

import json
import re
from typing import cast

from agentcall.dialects.calls import CUT
from agentcall.dialects.families.thinking import tags
from agentcall.dialects.page import Family, Page, Read
from agentcall.dialects.scan import Needles, Steps
from agentcall.jsontext import DEEPEST
from agentcall.messages import JSON

_PLAIN = re.compile(r"[^,\]}]*")
_MEMBER = re.compile(r"\w+\s*:")
"""A value without quotes that looks like a key and its value: its key was torn."""
_KEY = re.compile(r"\s*([^:{}\[\],]+?)\s*:")
_HEAD = re.compile(r"\s*call:\s*([^\s{]+)\s*(?=\{)")


class _Odd(ValueError):
    """Text that is not this notation."""


class _Notation:
    """The object notation over one text."""

    def __init__(self, text: str, quote: str) -> None:
        self.text = text
        self.quote = quote
        self.at = 0

    def value(self, depth: int = 0) -> JSON:
        self.at += len(self.text[self.at :]) - len(self.text[self.at :].lstrip())
        if depth > DEEPEST:
            raise _Odd
        if self.text.startswith(self.quote, self.at):
            return self._string()
        char = self.text[self.at : self.at + 1]
        if char == "{":
            return self._object(depth)
        if char == "[":
            return self._list(depth)
        return self._plain()

    def _string(self) -> str:
        start = self.at + len(self.quote)
        end = self.text.find(self.quote, start)
        if end < 0:
            raise _Odd
        self.at = end + len(self.quote)
        return self.text[start:end]

    def _plain(self) -> JSON:
        found = cast("re.Match[str]", _PLAIN.match(self.text, self.at))
        self.at = found.end()
        word = found.group().strip()
        if not word or _MEMBER.match(word):
            raise _Odd
        try:
            return cast("JSON", json.loads(word))
        except ValueError:
            return word

    def _more(self, closer: str) -> bool:
        """Whether another item follows; goes past the comma or the closer."""
        while self.text[self.at : self.at + 1].isspace():
            self.at += 1
        char = self.text[self.at : self.at + 1]
        if char == closer or char == ",":
            self.at += 1
            return char == ","
        raise _Odd

    def _empty(self, closer: str) -> bool:
        self.at += 1
        while self.text[self.at : self.at + 1].isspace():
            self.at += 1
        if self.text.startswith(closer, self.at):
            self.at += 1
            return True
        return False

    def _object(self, depth: int) -> JSON:
        found: dict[str, JSON] = {}
        if self._empty("}"):
            return found
        while True:
            key = self._key()
            if key in found:
                raise _Odd
            found[key] = self.value(depth + 1)
            if not self._more("}"):
                return found

    def _key(self) -> str:
        while self.text[self.at : self.at + 1].isspace():
            self.at += 1
        if self.text.startswith(self.quote, self.at):
            key = self._string()
            if not self.text[self.at :].lstrip().startswith(":"):
                raise _Odd
            self.at = self.text.index(":", self.at) + 1
            return key
        match = _KEY.match(self.text, self.at)
        if match is None:
            raise _Odd
        self.at = match.end()
        return match.group(1)

    def _list(self, depth: int) -> JSON:
        found: list[JSON] = []
        if self._empty("]"):
            return found
        while True:
            found.append(self.value(depth + 1))
            if not self._more("]"):
                return found


def _call(closer: str, quote: str) -> Read:
    """The reader of one call up to this closing token, which may stand in a string."""
    needles = Needles(closer, quote)

    def read(page: Page) -> Steps[bool]:
        source = page.source
        pieces: list[str] = []
        inside = False
        while True:
            text, needle = yield from source.upto(needles)
            pieces.append(text)
            if not needle or (needle == closer and not inside):
                break
            inside = inside != (needle == quote)
            pieces.append(needle)
        _give(page, "".join(pieces), quote, bool(needle) or (source.finished and not inside))
        return True

    return read


def _give(page: Page, text: str, quote: str, whole: bool) -> None:
    head = _HEAD.match(text)
    if head is None or not whole:
        page.out.broken(page.source.raw(), "there is no call in it" if whole else CUT)
        return
    notation = _Notation(text[head.end() :].rstrip(), quote)
    try:
        values = notation.value()
    except _Odd:
        notation.at = -1
        values = None
    if notation.at != len(notation.text):
        page.out.broken(page.source.raw(), "its arguments are not well formed")
        return
    page.out.call(head.group(1), json.dumps(values, ensure_ascii=False))


GEMMA = Family(
    "gemma",
    markers={
        "<|tool_call>": _call("<tool_call|>", '<|"|>'),
        "<start_function_call>": _call("<end_function_call>", "<escape>"),
    },
    thinking=tags("<|channel>thought", "<channel|>"),
    dropped=("<tool_call|>", "<|tool_response>", "<turn|>", "<end_of_turn>", "<|turn>model"),
)
