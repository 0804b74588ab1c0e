"""The lenient grammar: JSON, Python's literals, and what models mix up between them."""

from __future__ import annotations

import json
import re
from typing import cast

from agentcall.jsontext.balance import CLOSERS, INSIDE
from agentcall.messages import JSON

DEEPEST = 200
"""Values nested deeper are not read."""


class Malformed(ValueError):
    """Text that even the lenient grammar cannot read; `where` it is."""


_SPACE = re.compile(r"\s*")
_WORD = re.compile(r"[A-Za-z_$][\w$.\-]*")
_NUMBER = re.compile(r"[+-]?(?:0[xX][0-9a-fA-F]+|(?:\d[\d_]*)?\.?\d*(?:[eE][+-]?\d+)?)")
_LITERALS: dict[str, JSON] = {"true": True, "false": False, "null": None}
_PYTHON: dict[str, JSON] = {"True": True, "False": False, "None": None}
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f", "0": "\0", "\n": ""}
_HEX = {"u": 4, "x": 2, "U": 8}


class Lenient:
    """The lenient grammar over one text: JSON and Python's literals; notes the rules it used."""

    def __init__(self, text: str, at: int = 0) -> None:
        self.text = text
        self.at = at
        self.rules: set[str] = set()
        self._depth = 0

    def fail(self, expected: str) -> Malformed:
        """The error that says what was expected here."""
        found = self.text[self.at : self.at + 20] or "the end"
        return Malformed(f"expected {expected} at character {self.at}, found {found!r}")

    def peek(self) -> str:
        """The next character that is neither space nor comment, empty at the end."""
        while True:
            self.at = cast("re.Match[str]", _SPACE.match(self.text, self.at)).end()
            if not self.text.startswith(("//", "/*", "#"), self.at):
                return self.text[self.at : self.at + 1]
            self.rules.add("comment")
            long = self.text.startswith("/*", self.at)
            end = self.text.find("*/" if long else "\n", self.at + 1)
            self.at = len(self.text) if end < 0 else end + (2 if long else 1)

    def eat(self, char: str) -> bool:
        """Whether the next character is this one; it is then behind us."""
        if self.peek() != char:
            return False
        self.at += 1
        return True

    def close(self) -> None:
        """Nothing may follow but brackets too many. Raises Malformed."""
        rest = self.text[self.at :].strip()
        if rest.strip("}]); \n"):
            raise self.fail("the end")
        if rest:
            self.rules.add("brackets too many")

    def value(self) -> JSON:
        """The value that stands here. Raises Malformed."""
        char = self.peek()
        if char in CLOSERS:
            self._depth += 1
            if self._depth > DEEPEST:
                raise self.fail(f"at most {DEEPEST} levels")
            found: JSON = self._object() if char == "{" else self._list(char)
            self._depth -= 1
            return found
        if char in INSIDE and char:
            return self.string()
        return self._scalar()

    def string(self) -> str:
        """The string that stands here, in either quotes."""
        quote = self.peek()
        if quote not in INSIDE or not quote:
            raise self.fail("a string")
        if quote == "'":
            self.rules.add("single quotes")
        pieces: list[str] = []
        self.at += 1
        while True:
            end = cast("re.Match[str]", INSIDE[quote].match(self.text, self.at)).end()
            pieces.append(self._raw(end))
            if end >= len(self.text):
                raise self.fail("the end of a string")
            if self.text[end] == quote:
                self.at = end + 1
                return "".join(pieces)
            self.at = end + 1
            pieces.append(self._escape())

    def _raw(self, end: int) -> str:
        raw = self.text[self.at : end]
        if "\n" in raw or "\t" in raw or "\r" in raw:
            self.rules.add("line break in a string")
        self.at = end
        return raw

    def _escape(self) -> str:
        char = self.text[self.at : self.at + 1]
        self.at += 1
        if char in _HEX:
            return self._code(char, _HEX[char])
        if char in '"\\/' or char in _ESCAPES:
            return _ESCAPES.get(char, char)
        if char == "'":
            return char
        self.rules.add("bad escape")
        return "\\" + char

    def _code(self, kind: str, digits: int) -> str:
        code = self.text[self.at : self.at + digits]
        try:
            number = int(code, 16) if len(code) == digits else -1
        except ValueError:
            number = -1
        if not 0 <= number < 0x110000:
            self.rules.add("bad escape")
            return "\\" + kind
        self.at += digits
        pair = self.text[self.at : self.at + 6]
        if 0xD800 <= number < 0xDC00 and re.fullmatch(r"\\u[dD][c-fC-F][0-9a-fA-F]{2}", pair):
            self.at += 6
            number = 0x10000 + ((number - 0xD800) << 10) + (int(pair[2:], 16) - 0xDC00)
        return chr(number)

    def _scalar(self) -> JSON:
        word = _WORD.match(self.text, self.at)
        if word is not None:
            name = word.group()
            known = _LITERALS if name in _LITERALS else _PYTHON
            if name not in known:
                raise self.fail("a value")
            if known is _PYTHON:
                self.rules.add("python literal")
            self.at = word.end()
            return known[name]
        return self._number()

    def _number(self) -> JSON:
        found = cast("re.Match[str]", _NUMBER.match(self.text, self.at))
        digits = found.group()
        try:
            number: JSON = int(digits, 0) if digits[:2].lower() == "0x" else json.loads(digits)
        except ValueError:
            number = self._odd_number(digits)
        self.at = found.end()
        return number

    def _odd_number(self, digits: str) -> JSON:
        try:
            number = float(digits)
        except ValueError:
            raise self.fail("a value") from None
        self.rules.add("number")
        plain = digits.lstrip("+-").replace("_", "")
        return int(digits) if plain.isdigit() else number

    def _list(self, opener: str) -> JSON:
        if opener == "(":
            self.rules.add("python literal")
        self.at += 1
        items: list[JSON] = []
        while not self.eat(CLOSERS[opener]):
            items.append(self.value())
            self._comma(CLOSERS[opener])
        return items

    def _object(self) -> JSON:
        self.at += 1
        found: dict[str, JSON] = {}
        while not self.eat("}"):
            key = self.key()
            if not self.eat(":"):
                raise self.fail("':'")
            found[key] = self.value()
            self._comma("}")
        return found

    def key(self) -> str:
        """The key that stands here, in quotes or bare."""
        if self.peek() in ('"', "'"):
            return self.string()
        word = _WORD.match(self.text, self.at)
        if word is None:
            raise self.fail("a key")
        self.rules.add("unquoted key")
        self.at = word.end()
        return word.group()

    def _comma(self, closer: str) -> None:
        if self.eat(","):
            if self.peek() == closer:
                self.rules.add("trailing comma")
        elif self.peek() != closer:
            raise self.fail(f"',' or {closer!r}")
