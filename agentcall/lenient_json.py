"""JSON as models write it, parsed leniently: the value, and the rules that were needed.

Rules of `parse_lenient_json`, in this order:
1. Strict JSON is returned unchanged, with an empty rule.
2. A value that was cut (an open bracket, an open string) is never completed.
3. Repairs change the spelling, never the content: a code fence around the value, Python's literals
   and quotes, trailing commas, a missing comma before a key or between two objects, comments,
   unquoted keys, raw line breaks or bad escapes in strings, full-width punctuation, surplus closing
   brackets.
4. Nothing is lost: the value accounts for every character except white space, quotes, commas,
   brackets, comments and fences; any other text is malformed. An expression (`3+5`), a unit
   (`5 kg`), a second string, a leading zero (octal in some languages) or a key with two different
   values is rejected: either reading would drop or invent something.

Nothing is ever evaluated. `LenientParser` is the grammar, `split_members` and `split_items` return
the texts of values as written, and `BracketMatcher` finds the end of a value in text that arrives
in pieces.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from math import isfinite
from typing import TypeAlias, cast

from agentcall.messages import JSON

MAX_LENGTH = 4_000_000
"""Longer texts are not repaired (characters)."""
MAX_DEPTH = 200
"""The depth of nested values that are read."""


@dataclass(frozen=True, slots=True)
class ParsedJSON:
    """A parsed value; `rule` names the repairs, empty for strict JSON."""

    value: JSON
    rule: str = ""


@dataclass(frozen=True, slots=True)
class UnreadableJSON:
    """Text that cannot be parsed; `is_truncated` means that it ends before its value does."""

    reason: str
    is_truncated: bool = False


def parse_lenient_json(text: str) -> ParsedJSON | UnreadableJSON:
    """Parse JSON, or text that is nearly JSON; never raises.

    >>> parse_lenient_json("{'a': True,}")
    ParsedJSON(value={'a': True}, rule='python literal, single quotes, trailing comma')
    >>> parse_lenient_json('{"a": [1, 2')
    UnreadableJSON(reason='the text ends inside a list or object', is_truncated=True)
    """
    try:
        return ParsedJSON(parse_strict_json(text))
    except (ValueError, RecursionError):
        pass
    body = text.strip()
    if not body:
        return UnreadableJSON("there is no text", is_truncated=True)
    if len(body) > MAX_LENGTH:
        return UnreadableJSON(f"the text has {len(body)} characters, over {MAX_LENGTH}")
    unfenced = _strip_fence(body)
    if unfenced is not None:
        parsed = parse_lenient_json(unfenced)
        if isinstance(parsed, UnreadableJSON):
            return parsed
        return ParsedJSON(parsed.value, ", ".join(filter(None, ("code fence", parsed.rule))))
    return _parse_with_grammar(body)


def _strip_fence(text: str) -> str | None:
    if not (text.startswith("```") and text.endswith("```") and len(text) > 6):
        return None
    head, _, rest = text[3:-3].partition("\n")
    language = head.strip()
    return rest if not language or (language.isalnum() and language[0].isalpha()) else text[3:-3]


def _parse_with_grammar(text: str) -> ParsedJSON | UnreadableJSON:
    balance = BracketMatcher()
    end = balance.scan(text, 0)
    if end < 0 and not balance.has_stopped and balance.has_begun:
        inside = "a text" if balance.quote else "a list or object"
        return UnreadableJSON(f"the text ends inside {inside}", is_truncated=True)
    lenient = LenientParser(text)
    try:
        value = lenient.parse_value()
        lenient.expect_end()
    except MalformedJSON as error:
        return UnreadableJSON(str(error), is_truncated=lenient.at >= len(text))
    return ParsedJSON(value, ", ".join(sorted(lenient.rules)) or "spelling")


def parse_strict_json(text: str) -> JSON:
    """Parse JSON without losing anything.

    Raises ValueError for text that is not JSON, for a key with two values (a parser keeps the
    last), and for a number that a double cannot represent; RecursionError for deep nesting.
    """
    return cast("JSON", STRICT_DECODER.decode(text))


def has_repeated_key(text: bytes, value: JSON) -> bool:
    """Whether an object in a JSON text gives a key two different values; `value` is its value."""
    if isinstance(value, dict) and text.count(b":") == len(value):
        return False  # the usual call: flat, and without a colon in a string
    if len(_SEPARATOR.findall(text)) == _count_keys(value):
        return False
    try:
        json.loads(text, object_pairs_hook=_build_object)
    except RepeatedKey:
        return True
    except (ValueError, RecursionError):
        return False
    return False


_SEPARATOR = re.compile(rb'"\s*:')


def _count_keys(value: JSON) -> int:
    count, waiting = 0, [value]
    while waiting:
        match waiting.pop():
            case dict() as inner:
                count += len(inner)
                waiting += inner.values()
            case list() as inner:
                waiting += inner
            case _:
                pass
    return count


class RepeatedKey(ValueError):
    """An object gives a key two different values."""


def _reject_constant(name: str) -> JSON:
    raise ValueError(f"{name} is not JSON")


def _parse_float(digits: str) -> float:
    number = float(digits)
    if not is_exact(number, digits):
        raise ValueError(f"{digits} has more digits than a double holds")
    return keep_digits(number, digits)


def _parse_integer(digits: str) -> int | float:
    return keep_digits(int(digits), digits)


def _build_object(pairs: list[tuple[str, JSON]]) -> dict[str, JSON]:
    members = dict(pairs)
    if len(members) < len(pairs):
        for key, value in pairs:
            if not is_same_json(members[key], value):
                raise RepeatedKey(f"the key {key!r} has two values")
    return members


STRICT_DECODER = json.JSONDecoder(
    parse_constant=_reject_constant,
    parse_float=_parse_float,
    parse_int=_parse_integer,
    object_pairs_hook=_build_object,
)
"""The decoder of `parse_strict_json`."""
Members: TypeAlias = "list[tuple[str, str]]"


def split_members(text: str) -> Members | None:
    """Return the keys of an object, each with the text of its value as written.

    The texts are not repaired, so that later stages see the original. None if the text is not an
    object.
    """
    parser = LenientParser(text)
    members: Members = []
    try:
        if not parser.eat("{"):
            return None
        while not parser.eat("}"):
            key = parser.parse_key()
            if not parser.eat(":"):
                return None
            members.append((key, _read_value_text(parser)))
            if not parser.eat(",") and parser.peek() != "}":
                return None
    except MalformedJSON:
        return None
    return members


def split_items(text: str) -> list[str] | None:
    """Return the texts of a list's items as written; None if the text is not a list."""
    parser = LenientParser(text)
    items: list[str] = []
    try:
        if not parser.eat("["):
            return None
        while not parser.eat("]"):
            items.append(_read_value_text(parser))
            if not parser.eat(",") and parser.peek() != "]":
                return None
    except MalformedJSON:
        return None
    return items


def _read_value_text(parser: LenientParser) -> str:
    char = parser.peek()
    start = parser.at
    if char in CLOSERS:
        end = BracketMatcher().scan(parser.text, start)
        if end <= start:
            raise parser.make_error("a whole value")
        parser.at = end
    else:
        parser.parse_value()
    return parser.text[start : parser.at]


class MalformedJSON(ValueError):
    """Text that even the lenient grammar rejects; the message has the position."""


_UNSTRUCTURED = re.compile(r"[^\"'{}\[\]()<`“‘＂＇「『｛｝［］（）]*")
CLOSERS = {"{": "}", "[": "]", "(": ")"}
_SPACE = re.compile(r"\s*")
_WORD = re.compile(r"[A-Za-z_$][\w$.\-]*")
_NUMBER = re.compile(r"[+-]?(?:0[xX][0-9a-fA-F]+|(?:\d[\d_]*)?\.?\d*(?:[eE][+-]?\d+)?)")
_AMBIGUOUS_NUMBER = re.compile(r"\+|[+-]?0[\d_]")
"""A sign that may be half of a sum, and a zero that may make a number octal."""
_KEY_AHEAD = re.compile(r'"(?:[^"\\\n]|\\.){1,80}"\s*[:：]')
_DIVISION = re.compile(r"//+[ \t]*[-+(]*[\d.]")
"""After a value this may be Python's floor division or a comment, which cannot be distinguished."""
WINDOWS_PATH = re.compile(r"(?:[A-Za-z]:|\\\\[\w.$-]+)(?:\\[^\\/:*?\"<>|\n]+)+\\?")
_PATH_IN_TEXT = (
    r"(?:(?<![^\s\"'(=,;])|(?<=\\[nrt]))(?:[A-Za-z]:|\\\\[\w.$-]+)(?:\\[^\\/:*?\"'<>|,;\s]+)+\\?"
)
_CONTROL_ESCAPE = r"(?<!\\)((?:\\\\)*)\\([bf])"
FULL_WIDTH = dict(zip("：，、；｛｝［］（）", ":,,;{}[]()", strict=True))
"""Punctuation of Chinese and Japanese keyboards, which counts outside strings."""
QUOTES = {'"': '"', "'": "'", "“": "”", "‘": "’", "＂": "＂", "＇": "＇", "「": "」", "『": "』"}
"""The quotes around a string, by the opening one."""
_CLOSING_QUOTES = "".join(QUOTES.values())


class _ContentPatterns(dict[str, re.Pattern[str]]):
    """The patterns of the inside of a string by its closing quote; most are rarely needed."""

    def __missing__(self, quote: str) -> re.Pattern[str]:
        pattern = self[quote] = re.compile(rf"[^{quote}\\]*")
        return pattern


STRING_CONTENT = _ContentPatterns()
_LITERALS: dict[str, JSON] = {"true": True, "false": False, "null": None}
_PYTHON_LITERALS: dict[str, JSON] = {"True": True, "False": False, "None": None}
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f", "0": "\0"}
_HEX_ESCAPE_DIGITS = {"u": 4, "x": 2, "U": 8}
_EXACT_DIGITS = 15
"""A float keeps every decimal of this many digits (IEEE 754, double precision)."""


class LenientParser:
    """Parses JSON and Python literals in one text; `rules` are the lenient rules that it used."""

    def __init__(self, text: str, at: int = 0) -> None:
        self.text = text
        self.at = at
        self.rules: set[str] = set()
        self._depth = 0
        self._last_character = ""  # the last character of the last token
        self._token_end = self._peek_end = 0

    def make_error(self, expected: str) -> MalformedJSON:
        """Create the error for an unexpected text at this position."""
        found = self.text[self.at : self.at + 20] or "the end"
        return MalformedJSON(f"expected {expected} at character {self.at}, found {found!r}")

    def peek(self) -> str:
        """Return the next character that is neither space nor part of a comment, empty at the end.

        Full-width punctuation is returned as ASCII. Raises MalformedJSON for a division.
        """
        if self.at > self._peek_end:  # a token was consumed since the last peek
            self._last_character, self._token_end = self.text[self.at - 1], self.at
        while True:
            self.at = cast("re.Match[str]", _SPACE.match(self.text, self.at)).end()
            if not self.text.startswith(("//", "/*", "#"), self.at):
                break
            self._skip_comment()
        self._peek_end = self.at
        char = self.text[self.at : self.at + 1]
        if char not in FULL_WIDTH:
            return char
        self.rules.add("full-width punctuation")
        return FULL_WIDTH[char]

    def _skip_comment(self) -> None:
        if self._last_character not in ("", ",", "{", "[", "(", ":") and self._is_division():
            raise self.make_error("one value, not a division,")
        self.rules.add("comment")
        is_block = self.text.startswith("/*", self.at)
        end = self.text.find("*/" if is_block else "\n", self.at + (2 if is_block else 1))
        self.at = len(self.text) if end < 0 else end + (2 if is_block else 1)

    def _is_division(self) -> bool:
        """Whether `//` after a value may divide it: an operand follows, or no space precedes."""
        if not self.text.startswith("//", self.at):
            return False
        return self.at == self._token_end or _DIVISION.match(self.text, self.at) is not None

    def eat(self, char: str) -> bool:
        """Consume the next character if it is `char`; return whether it was."""
        if self.peek() != char:
            return False
        self.at += 1
        return True

    def expect_end(self) -> None:
        """Consume comments, a comma and surplus brackets up to the end. Raises MalformedJSON."""
        while self.peek() in ("}", "]", ")", ";", ","):
            self.rules.add("brackets too many")
            self.at += 1
        if self.at < len(self.text):
            raise self.make_error("the end")

    def parse_value(self) -> JSON:
        """Parse the value at this position. Raises MalformedJSON."""
        char = self.peek()
        if char in CLOSERS:
            self._depth += 1
            if self._depth > MAX_DEPTH:
                raise self.make_error(f"at most {MAX_DEPTH} levels")
            value: JSON = self._parse_object() if char == "{" else self._parse_list(char)
            self._depth -= 1
            return value
        if char in QUOTES:
            return self.parse_string()
        return self._parse_scalar()

    def parse_string(self) -> str:
        """Parse the string at this position, in any quotes. Raises MalformedJSON."""
        opener = self.peek()
        if opener not in QUOTES:
            raise self.make_error("a string")
        if opener != '"':
            self.rules.add("single quotes" if opener == "'" else "full-width punctuation")
        quote = QUOTES[opener]
        self.at += 1
        start, has_bad_escape = self.at, False
        pieces: list[str] = []
        while True:
            end = cast("re.Match[str]", STRING_CONTENT[quote].match(self.text, self.at)).end()
            pieces.append(self._read_raw_text(end))
            if end >= len(self.text):
                raise self.make_error("the end of a string")
            if self.text[end] == quote:
                self.at = end + 1
                break
            self.at = end + 1
            pieces.append(self._read_escape())
            has_bad_escape = has_bad_escape or (pieces[-1].startswith("\\") and len(pieces[-1]) > 1)
        if has_bad_escape:
            self.rules.add("bad escape")
            raw = self.text[start:end]
            return _decode_badly_escaped(opener, raw) or "".join(pieces)
        return "".join(pieces)

    def _read_raw_text(self, end: int) -> str:
        raw = self.text[self.at : end]
        if "\n" in raw or "\t" in raw or "\r" in raw:
            self.rules.add("line break in a string")
        self.at = end
        return raw

    def _read_escape(self) -> str:
        """Decode an escape; an unknown one is the backslash and the character after it."""
        char = self.text[self.at : self.at + 1]
        self.at += 1
        if char in _HEX_ESCAPE_DIGITS:
            return self._read_code_point(char, _HEX_ESCAPE_DIGITS[char])
        if char and char in f"\\/{_CLOSING_QUOTES}":
            return char
        is_octal = char == "0" and self.text[self.at : self.at + 1].isdigit()
        return _ESCAPES[char] if char in _ESCAPES and not is_octal else "\\" + char

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
            literals = _LITERALS if name in _LITERALS else _PYTHON_LITERALS
            if name not in literals:
                raise self.make_error("a value")
            if literals is _PYTHON_LITERALS:
                self.rules.add("python literal")
            self.at = word.end()
            return literals[name]
        return self._parse_number()

    def _parse_number(self) -> JSON:
        match = cast("re.Match[str]", _NUMBER.match(self.text, self.at))
        digits = match.group()
        if _AMBIGUOUS_NUMBER.match(digits):
            raise self.make_error("a number without '+' and leading zeros, or a string,")
        try:
            number: int | float = int(digits, 0) if "x" in digits.lower() else json.loads(digits)
        except ValueError:
            number = self._parse_odd_number(digits)
        if isinstance(number, float) and not is_exact(number, digits):
            raise self.make_error("a number that a double holds exactly, or a string,")
        self.at = match.end()
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
        members: dict[str, JSON] = {}
        while not self.eat("}"):
            key = self.parse_key()
            if not self.eat(":"):
                raise self.make_error("':'")
            value = self.parse_value()
            if key in members and not is_same_json(members[key], value):
                raise self.make_error(f"one value for {key!r}, not a second one,")
            members[key] = value
            self._parse_comma("}")
        return members

    def parse_key(self) -> str:
        """Parse the key at this position, quoted or bare. Raises MalformedJSON."""
        if self.peek() in QUOTES:
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
        """Whether only a comma is missing before the next member, or the next object of a list."""
        if closer == "}":
            is_separated = self.text[self.at - 1].isspace()
            return is_separated and _KEY_AHEAD.match(self.text, self.at) is not None
        return self.peek() == "{" and self._last_character == "}"


def _decode_badly_escaped(opener: str, raw: str) -> str:
    r"""Decode a string with backslashes that were not escaped; empty if all escapes are plain.

    In a Windows path, `\t` and `\n` begin names. `\b` and `\f` belong to a regular expression or to
    TeX, as no text contains a backspace or a form feed.
    """
    if WINDOWS_PATH.fullmatch(raw):
        return raw
    kept = re.sub(_PATH_IN_TEXT, lambda match: match.group().replace("\\", "\\\\"), raw)
    kept = re.sub(_CONTROL_ESCAPE, r"\1\\\\\2", kept)
    return "" if kept == raw else LenientParser(f"{opener}{kept}{QUOTES[opener]}").parse_string()


class WrittenInt(int):
    """An integer that Python writes differently from `text`, such as -0, 1_000 or 0x10."""

    text = ""


class WrittenFloat(float):
    """A number that Python writes differently from `text`, such as 3.10."""

    text = ""


def keep_digits(number: int | float, digits: str) -> int | float:
    """Return the number, with its written digits if Python would write others."""
    if repr(number) == digits:
        return number
    written = WrittenFloat(number) if isinstance(number, float) else WrittenInt(number)
    written.text = digits
    return written


def is_exact(number: float, digits: str) -> bool:
    """Whether a float equals the decimal number that was written."""
    if not isfinite(number):
        return False
    plain = digits.replace("_", "")
    if len(plain) <= _EXACT_DIGITS:
        return True
    from decimal import Decimal  # here, as few numbers are that long

    return Decimal(repr(number)) == Decimal(plain)


def is_same_json(value: JSON, other: JSON) -> bool:
    """Whether two values are the same JSON: unlike in Python, 1 and true differ."""
    return json.dumps(value) == json.dumps(other)


class BracketMatcher:
    """Finds the end of a list or object in pieces of text; strings may contain any bracket.

    `has_begun`: an opening bracket was read. `has_stopped`: the text cannot belong to a value.
    """

    def __init__(self) -> None:
        self.open_closers: list[str] = []
        self.quote = ""
        self.has_begun = False
        self.has_stopped = False
        self._after_backslash = False

    def scan(self, text: str, at: int) -> int:
        """Scan from `at`; return the position after the value, or of what breaks it, else -1."""
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
        char = FULL_WIDTH.get(char, char)
        if char in CLOSERS:
            self.open_closers.append(CLOSERS[char])
            self.has_begun = True
            return True
        if not self.open_closers:
            return False
        if char in QUOTES:
            self.quote = QUOTES[char]
            return True
        return char == self.open_closers.pop() if char in "}])" else False
