"""Finds where a list or object ends, in text that arrives in pieces."""

from __future__ import annotations

import re
from typing import cast

_PLAIN = re.compile(r"[^\"'{}\[\]()<`]*")
INSIDE = {'"': re.compile(r'[^"\\]*'), "'": re.compile(r"[^'\\]*")}
CLOSERS = {"{": "}", "[": "]", "(": ")"}


class Balance:
    """Finds where a list or object ends, in pieces; strings may hold any bracket.

    `began` is whether it has begun, `stopped` whether what followed cannot belong to a value.
    """

    def __init__(self) -> None:
        self.open: list[str] = []
        self.quote = ""
        self.began = False
        self.stopped = False
        self._escaped = False

    def run(self, text: str, at: int) -> int:
        """Reads on from `at`; the place after the value, the place it stopped, or -1."""
        size = len(text)
        while at < size:
            if self.quote:
                at = self._in_string(text, at)
                continue
            at = cast("re.Match[str]", _PLAIN.match(text, at)).end()
            if at == size:
                break
            if not self._step(text[at]):
                self.stopped = True
                return at
            at += 1
            if not self.open and not self.quote:
                return at
        return -1

    def _in_string(self, text: str, at: int) -> int:
        if self._escaped:
            self._escaped = False
            return at + 1
        at = cast("re.Match[str]", INSIDE[self.quote].match(text, at)).end()
        if at < len(text):
            if text[at] == "\\":
                self._escaped = True
            else:
                self.quote = ""
            at += 1
        return at

    def _step(self, char: str) -> bool:
        if char in CLOSERS:
            self.open.append(CLOSERS[char])
            self.began = True
            return True
        if not self.open:
            return False
        if char in INSIDE:
            self.quote = char
            return True
        return char == self.open.pop() if char in "}])" else False
