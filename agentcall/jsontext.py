"""JSON as models write it, read leniently: the value, and which rule mended it.

Rules, in the order they are tried:
1. Strict JSON is taken as it is, and says so by an empty rule.
2. A value that was cut (an open bracket, an open string) is never completed.
3. Mending changes the spelling, never the content: a code fence around the value, Python's
   literals and quotes, trailing commas, comments, keys without quotes, raw line breaks or bad
   escapes in strings, brackets too many at the end.
4. What is left goes to json-repair, and counts only if each text and number of what it gives
   stands in what the model wrote.
Nothing is ever evaluated.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TypeAlias, cast

import json_repair

from agentcall.messages import JSON

LONGEST = 4_000_000
"""Longer texts are not mended (characters)."""
DEEPEST = 200
"""Values nested deeper are not read."""


@dataclass(frozen=True, slots=True)
class Whole:
    """A value that was read; `rule` names what had to be mended, empty where nothing had to."""

    value: JSON
    rule: str = ""


@dataclass(frozen=True, slots=True)
class Unread:
    """A text that is no value; `cut` is whether it ends before the value does."""

    reason: str
    cut: bool = False


def read_json(text: str) -> Whole | Unread:
    """The value of JSON text or of text that is nearly JSON; never raises.

    >>> read_json("{'a': True,}")
    Whole(value={'a': True}, rule='python literal, single quotes, trailing comma')
    >>> read_json('{"a": [1, 2')
    Unread(reason='the text ends inside a list or object', cut=True)
    """
    try:
        return Whole(cast("JSON", json.loads(text, parse_constant=_no_constant)))
    except (ValueError, RecursionError):
        pass
    body = text.strip()
    if not body:
        return Unread("there is no text", cut=True)
    if len(body) > LONGEST:
        return Unread(f"the text has {len(body)} characters, over {LONGEST}")
    inner = _unfenced(body)
    if inner is not None:
        within = read_json(inner)
        if isinstance(within, Unread):
            return within
        return Whole(within.value, ", ".join(filter(None, ("code fence", within.rule))))
    return _mended(body)


def _no_constant(name: str) -> JSON:
    raise ValueError(f"{name} is no JSON")


def _unfenced(text: str) -> str | None:
    if not (text.startswith("```") and text.endswith("```") and len(text) > 6):
        return None
    head, _, rest = text[3:-3].partition("\n")
    return rest if head.strip().isalnum() or not head.strip() else text[3:-3]


def _mended(text: str) -> Whole | Unread:
    balance = Balance()
    end = balance.run(text, 0)
    if end < 0 and not balance.stopped and balance.began:
        inside = "a text" if balance.quote else "a list or object"
        return Unread(f"the text ends inside {inside}", cut=True)
    lenient = Lenient(text)
    try:
        value = lenient.value()
        lenient.close()
    except Malformed as error:
        if lenient.at >= len(text):
            return Unread(str(error), cut=True)
        return _repaired(text, balance, str(error))
    return Whole(value, ", ".join(sorted(lenient.rules)) or "spelling")


def _repaired(text: str, balance: Balance, reason: str) -> Whole | Unread:
    if balance.stopped or not balance.began:
        return Unread(reason)
    try:
        value = cast("JSON", json_repair.loads(text, skip_json_loads=True))
    except Exception:
        return Unread(reason)
    if not value or not isinstance(value, dict if text[0] == "{" else list):
        return Unread(reason)
    if any(leaf not in text for leaf in _leaves(value)) or _hollow(value, text):
        return Unread(reason)
    return Whole(value, "json-repair")


def _hollow(value: object, text: str) -> bool:
    """Whether an object has an empty text that the model did not write."""
    return '""' not in text and "''" not in text and any(leaf == "" for leaf in _leaves(value))


def _leaves(value: object) -> Iterator[str]:
    match value:
        case bool() | None:
            return
        case str():
            if json.dumps(value, ensure_ascii=False)[1:-1] == value:
                yield value
        case int() | float():
            yield str(value)
        case Mapping():
            for key, item in cast("Mapping[str, object]", value).items():
                yield key
                yield from _leaves(item)
        case list():
            for item in cast("list[object]", value):
                yield from _leaves(item)
        case _:
            yield "\0"


_PLAIN = re.compile(r"[^\"'{}\[\]()<`]*")
_INSIDE = {'"': re.compile(r'[^"\\]*'), "'": re.compile(r"[^'\\]*")}
_CLOSERS = {"{": "}", "[": "]", "(": ")"}


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
        at = cast("re.Match[str]", _INSIDE[self.quote].match(text, at)).end()
        if at < len(text):
            if text[at] == "\\":
                self._escaped = True
            else:
                self.quote = ""
            at += 1
        return at

    def _step(self, char: str) -> bool:
        if char in _CLOSERS:
            self.open.append(_CLOSERS[char])
            self.began = True
            return True
        if not self.open:
            return False
        if char in _INSIDE:
            self.quote = char
            return True
        return char == self.open.pop() if char in "}])" else False


class Malformed(ValueError):
    """Text that even the lenient grammar cannot read; `where` it is."""


Members: TypeAlias = "list[tuple[str, str]]"

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
        if char in _CLOSERS:
            self._depth += 1
            if self._depth > DEEPEST:
                raise self.fail(f"at most {DEEPEST} levels")
            found: JSON = self._object() if char == "{" else self._list(char)
            self._depth -= 1
            return found
        if char in _INSIDE and char:
            return self.string()
        return self._scalar()

    def string(self) -> str:
        """The string that stands here, in either quotes."""
        quote = self.peek()
        if quote not in _INSIDE or not quote:
            raise self.fail("a string")
        if quote == "'":
            self.rules.add("single quotes")
        pieces: list[str] = []
        self.at += 1
        while True:
            end = cast("re.Match[str]", _INSIDE[quote].match(self.text, self.at)).end()
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
        while not self.eat(_CLOSERS[opener]):
            items.append(self.value())
            self._comma(_CLOSERS[opener])
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


def members(text: str) -> Members | None:
    """Keys and the texts of their values of an object written as JSON or nearly so.

    The texts are as written, so that what has to be mended in them can still be seen. None if the
    text is no object.
    """
    scan = Lenient(text)
    found: Members = []
    try:
        if not scan.eat("{"):
            return None
        while not scan.eat("}"):
            key = scan.key()
            if not scan.eat(":"):
                return None
            found.append((key, _value_text(scan)))
            if not scan.eat(",") and scan.peek() != "}":
                return None
    except Malformed:
        return None
    return found


def items(text: str) -> list[str] | None:
    """The texts of the items of a list written as JSON or nearly so; None if it is no list."""
    scan = Lenient(text)
    found: list[str] = []
    try:
        if not scan.eat("["):
            return None
        while not scan.eat("]"):
            found.append(_value_text(scan))
            if not scan.eat(",") and scan.peek() != "]":
                return None
    except Malformed:
        return None
    return found


def _value_text(scan: Lenient) -> str:
    char = scan.peek()
    start = scan.at
    if char in _CLOSERS:
        end = Balance().run(scan.text, start)
        if end <= start:
            raise scan.fail("a whole value")
        scan.at = end
    else:
        scan.value()
    return scan.text[start : scan.at]
