"""Finds where a list or object ends, in text that arrives in pieces."""

from __future__ import annotations

import re
from typing import cast

_UNSTRUCTURED = re.compile(r"[^\"'{}\[\]()<`]*")
STRING_CONTENT = {'"': re.compile(r'[^"\\]*'), "'": re.compile(r"[^'\\]*")}
CLOSERS = {"{": "}", "[": "]", "(": ")"}


class BracketMatcher:
    """Finds where a list or object ends, in pieces; strings may hold any bracket.

    `began` is whether it has begun, `stopped` whether what followed cannot belong to a value.
    """

    def __init__(self) -> None:
        self.open_closers: list[str] = []
        self.quote = ""
        self.has_begun = False
        self.has_stopped = False
        self._after_backslash = False

    def scan(self, text: str, at: int) -> int:
        """Reads on from `at`; the place after the value, the place it stopped, or -1."""
        size = len(text)
        while at < size:
            if self.quote:
                at = self._skip_string(text, at)
                continue
            at = cast("re.Match[str]", _UNSTRUCTURED.match(text, at)).end()
            if at == size:
                break
            if not self._step(text[at]):
                self.has_stopped = True
                return at
            at += 1
            if not self.open_closers and not self.quote:
                return at
        return -1

    def _skip_string(self, text: str, at: int) -> int:
        if self._after_backslash:
            self._after_backslash = False
            return at + 1
        at = cast("re.Match[str]", STRING_CONTENT[self.quote].match(text, at)).end()
        if at < len(text):
            if text[at] == "\\":
                self._after_backslash = True
            else:
                self.quote = ""
            at += 1
        return at

    def _step(self, char: str) -> bool:
        if char in CLOSERS:
            self.open_closers.append(CLOSERS[char])
            self.has_begun = True
            return True
        if not self.open_closers:
            return False
        if char in STRING_CONTENT:
            self.quote = char
            return True
        return char == self.open_closers.pop() if char in "}])" else False
