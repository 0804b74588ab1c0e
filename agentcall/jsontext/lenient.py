"""The lenient grammar: JSON, Python's literals, and what models mix up between them.

Nothing is lost: the value accounts for every character of the text but white space, quotes, commas,
brackets and comments, or Malformed is raised. An expression (`3+5`), a unit (`5 kg`), a second
string, a leading zero (octal in some languages) or a key that is given two different values is
refused: whichever way it is read, something of it would be left out or made up.
"""

from __future__ import annotations

import json
import re
from math import isfinite
from typing import cast

from agentcall.jsontext.balance import CLOSERS, STRING_CONTENT
from agentcall.messages import JSON

MAX_DEPTH = 200
"""Values nested deeper are not read."""


class MalformedJSON(ValueError):
    """Text that even the lenient grammar cannot read; `where` it is."""


_SPACE = re.compile(r"\s*")
_WORD = re.compile(r"[A-Za-z_$][\w$.\-]*")
_NUMBER = re.compile(r"[+-]?(?:0[xX][0-9a-fA-F]+|(?:\d[\d_]*)?\.?\d*(?:[eE][+-]?\d+)?)")
_AMBIGUOUS_NUMBER = re.compile(r"\+|[+-]?0[\d_]")
"""A sign that may be half of a sum, and a zero that may make a number octal."""
_KEY_AHEAD = re.compile(r'"(?:[^"\\\n]|\\.){1,80}"\s*[:：]')
_DIVISION = re.compile(r"//+[ \t]*[-+(]*[\d.]")
"""Behind a value this is Python's whole division or a comment, and nobody can tell which."""
_WINDOWS_PATH = re.compile(r"(?:[A-Za-z]:|\\\\[\w.$-]+)(?:\\[^\\/:*?\"<>|\n]+)+\\?")
_FULL_WIDTH = dict(zip("：，｛｝［］（）", ":,{}[]()", strict=True))
"""Punctuation of Chinese and Japanese keyboards, which counts outside of strings."""
_QUOTES = {'"': '"', "'": "'", "“": "”", "‘": "’"}
_STRING_CONTENT_BY_QUOTE = {
    **STRING_CONTENT,
    "”": re.compile(r"[^”\\]*"),
    "’": re.compile(r"[^’\\]*"),
}
_LITERALS: dict[str, JSON] = {"true": True, "false": False, "null": None}
_PYTHON_LITERALS: dict[str, JSON] = {"True": True, "False": False, "None": None}
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f", "0": "\0"}
_HEX_ESCAPE_DIGITS = {"u": 4, "x": 2, "U": 8}
_EXACT_DIGITS = 15
"""Every decimal of so many digits is kept by a float (IEEE 754, double precision)."""


class LenientParser:
    """The lenient grammar over one text: JSON and Python's literals; notes the rules it used."""

    def __init__(self, text: str, at: int = 0) -> None:
        self.text = text
        self.at = at
        self.rules: set[str] = set()
        self._depth = 0
        self._last_character = ""  # what the last token ended with
        self._token_end = self._peek_end = 0

    def make_error(self, expected: str) -> MalformedJSON:
        """The error that says what was expected here."""
        found = self.text[self.at : self.at + 20] or "the end"
        return MalformedJSON(f"expected {expected} at character {self.at}, found {found!r}")

    def peek(self) -> str:
        """The next character that is neither space nor comment, empty at the end.

        Full-width punctuation reads as its ASCII form. Raises Malformed for a division.
        """
        if self.at > self._peek_end:
            self._last_character, self._token_end = self.text[self.at - 1], self.at
        while True:
            self.at = cast("re.Match[str]", _SPACE.match(self.text, self.at)).end()
            if not self.text.startswith(("//", "/*", "#"), self.at):
                break
            self._skip_comment()
        self._peek_end = self.at
        char = self.text[self.at : self.at + 1]
        if char not in _FULL_WIDTH:
            return char
        self.rules.add("full-width punctuation")
        return _FULL_WIDTH[char]

    def _skip_comment(self) -> None:
        if self._last_character not in ("", ",", "{", "[", "(", ":") and self._is_division():
            raise self.make_error("one value, not a division,")
        self.rules.add("comment")
        long = self.text.startswith("/*", self.at)
        end = self.text.find("*/" if long else "\n", self.at + (2 if long else 1))
        self.at = len(self.text) if end < 0 else end + (2 if long else 1)

    def _is_division(self) -> bool:
        """Whether `//` behind a value may divide it: an operand follows, or no space is between."""
        if not self.text.startswith("//", self.at):
            return False
        return self.at == self._token_end or _DIVISION.match(self.text, self.at) is not None

    def eat(self, char: str) -> bool:
        """Whether the next character is this one; it is then behind us."""
        if self.peek() != char:
            return False
        self.at += 1
        return True

    def expect_end(self) -> None:
        """Nothing may follow but comments, a comma and brackets too many. Raises Malformed."""
        while self.peek() in ("}", "]", ")", ";", ","):
            self.rules.add("brackets too many")
            self.at += 1
        if self.at < len(self.text):
            raise self.make_error("the end")

    def parse_value(self) -> JSON:
        """The value that stands here. Raises Malformed."""
        char = self.peek()
        if char in CLOSERS:
            self._depth += 1
            if self._depth > MAX_DEPTH:
                raise self.make_error(f"at most {MAX_DEPTH} levels")
            found: JSON = self._parse_object() if char == "{" else self._parse_list(char)
            self._depth -= 1
            return found
        if char in _QUOTES:
            return self.parse_string()
        return self._parse_scalar()

    def parse_string(self) -> str:
        """The string that stands here, in any quotes. Raises Malformed."""
        opener = self.peek()
        if opener not in _QUOTES:
            raise self.make_error("a string")
        if opener != '"':
            self.rules.add("single quotes" if opener == "'" else "full-width punctuation")
        quote = _QUOTES[opener]
        self.at += 1
        start, odd = self.at, False
        pieces: list[str] = []
        while True:
            end = cast(
                "re.Match[str]", _STRING_CONTENT_BY_QUOTE[quote].match(self.text, self.at)
            ).end()
            pieces.append(self._read_raw_text(end))
            if end >= len(self.text):
                raise self.make_error("the end of a string")
            if self.text[end] == quote:
                self.at = end + 1
                break
            self.at = end + 1
            pieces.append(self._read_escape())
            odd = odd or (pieces[-1].startswith("\\") and len(pieces[-1]) > 1)
        raw = self.text[start:end]
        if odd:
            self.rules.add("bad escape")
        return raw if odd and _WINDOWS_PATH.fullmatch(raw) else "".join(pieces)

    def _read_raw_text(self, end: int) -> str:
        raw = self.text[self.at : end]
        if "\n" in raw or "\t" in raw or "\r" in raw:
            self.rules.add("line break in a string")
        self.at = end
        return raw

    def _read_escape(self) -> str:
        """What an escape says; one that no language has is the backslash and what follows it."""
        char = self.text[self.at : self.at + 1]
        self.at += 1
        if char in _HEX_ESCAPE_DIGITS:
            return self._read_code_point(char, _HEX_ESCAPE_DIGITS[char])
        if char in "\"'\\/”’":
            return char
        octal = char == "0" and self.text[self.at : self.at + 1].isdigit()
        return _ESCAPES[char] if char in _ESCAPES and not octal else "\\" + char

    def _read_code_point(self, kind: str, digits: int) -> str:
        code = self.text[self.at : self.at + digits]
        try:
            number = int(code, 16) if len(code) == digits and code.isalnum() else -1
        except ValueError:
            number = -1
        if not 0 <= number < 0x110000:
            return "\\" + kind
        self.at += digits
        pair = self.text[self.at : self.at + 6]
        if 0xD800 <= number < 0xDC00 and re.fullmatch(r"\\u[dD][c-fC-F][0-9a-fA-F]{2}", pair):
            self.at += 6
            number = 0x10000 + ((number - 0xD800) << 10) + (int(pair[2:], 16) - 0xDC00)
        return chr(number)

    def _parse_scalar(self) -> JSON:
        word = _WORD.match(self.text, self.at)
        if word is not None:
            name = word.group()
            known = _LITERALS if name in _LITERALS else _PYTHON_LITERALS
            if name not in known:
                raise self.make_error("a value")
            if known is _PYTHON_LITERALS:
                self.rules.add("python literal")
            self.at = word.end()
            return known[name]
        return self._parse_number()

    def _parse_number(self) -> JSON:
        found = cast("re.Match[str]", _NUMBER.match(self.text, self.at))
        digits = found.group()
        if _AMBIGUOUS_NUMBER.match(digits):
            raise self.make_error("a number without '+' and leading zeros, or a string,")
        try:
            number: int | float = int(digits, 0) if "x" in digits.lower() else json.loads(digits)
        except ValueError:
            number = self._parse_odd_number(digits)
        if isinstance(number, float) and not is_exact(number, digits):
            raise self.make_error("a number that a double holds exactly, or a string,")
        self.at = found.end()
        return keep_digits(number, digits)

    def _parse_odd_number(self, digits: str) -> int | float:
        plain = digits.lstrip("+-").replace("_", "")
        try:
            number: int | float = int(digits) if plain.isdecimal() else float(digits)
        except ValueError:
            raise self.make_error("a value") from None
        self.rules.add("number")
        return number

    def _parse_list(self, opener: str) -> JSON:
        if opener == "(":
            self.rules.add("python literal")
        self.at += 1
        items: list[JSON] = []
        while not self.eat(CLOSERS[opener]):
            items.append(self.parse_value())
            self._parse_comma(CLOSERS[opener])
        return items

    def _parse_object(self) -> JSON:
        self.at += 1
        found: dict[str, JSON] = {}
        while not self.eat("}"):
            key = self.parse_key()
            if not self.eat(":"):
                raise self.make_error("':'")
            value = self.parse_value()
            if key in found and not is_same_json(found[key], value):
                raise self.make_error(f"one value for {key!r}, not a second one,")
            found[key] = value
            self._parse_comma("}")
        return found

    def parse_key(self) -> str:
        """The key that stands here, in quotes or bare. Raises Malformed."""
        if self.peek() in _QUOTES:
            return self.parse_string()
        word = _WORD.match(self.text, self.at)
        if word is None:
            raise self.make_error("a key")
        self.rules.add("unquoted key")
        self.at = word.end()
        return word.group()

    def _parse_comma(self, closer: str) -> None:
        if self.eat(","):
            if self.peek() == closer:
                self.rules.add("trailing comma")
        elif self.peek() != closer:
            if not self._is_comma_missing(closer):
                raise self.make_error(f"',' or {closer!r}")
            self.rules.add("missing comma")

    def _is_comma_missing(self, closer: str) -> bool:
        """Whether only a comma is missing: the next member, or the next object of a list."""
        if closer == "}":
            apart = self.text[self.at - 1].isspace()
            return apart and _KEY_AHEAD.match(self.text, self.at) is not None
        return self.peek() == "{" and self._last_character == "}"


class WrittenInt(int):
    """A whole number that Python writes otherwise than `text`, such as -0, 1_000 or 0x10."""

    text = ""


class WrittenFloat(float):
    """A number that Python writes otherwise than `text`, such as 3.10."""

    text = ""


def keep_digits(number: int | float, digits: str) -> int | float:
    """The number, with its digits where Python would write others: as a text it is these."""
    if repr(number) == digits:
        return number
    found = WrittenFloat(number) if isinstance(number, float) else WrittenInt(number)
    found.text = digits
    return found


def is_exact(number: float, digits: str) -> bool:
    """Whether a float says the same as the digits that were written."""
    if not isfinite(number):
        return False
    plain = digits.replace("_", "")
    if len(plain) <= _EXACT_DIGITS:
        return True
    from decimal import Decimal  # here, as few numbers are that long

    return Decimal(repr(number)) == Decimal(plain)


def is_same_json(one: JSON, other: JSON) -> bool:
    """Whether two values are one: 1 and true are not, which Python takes to be equal."""
    return json.dumps(one) == json.dumps(other)
