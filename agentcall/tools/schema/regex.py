r"""Patterns of a JSON Schema, matched in linear time.

Rules:
1. A pattern is in ECMA-262's dialect, as JSON Schema requires, or in Python's where that differs.
   It is translated for Rust's regex, which pydantic includes: `\d` and `\w` are ASCII, `.` is not
   a line end, `[^]` is any character.
2. A lookahead right after the `^` at the start becomes a pattern of its own: `^(?!a)b` matches if
   `^b` does and `^a` does not.
3. Anything else that needs a backtracking engine (lookaround, backreferences), or is too large, is
   rejected: PatternError names the part.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple, cast

from agentcall.messages import JSON
from agentcall.tools.schema._definitions import (
    NAMED_SCHEMA_KEYWORDS,
    is_list,
    is_schema,
    prune_schema,
)
from agentcall.tools.schema.metaschema import encode_bounded_schema

MAX_PATTERN_LENGTH = 5_000
"""Characters of a pattern."""
MAX_PATTERN_SIZE = 10_000
"""Characters and classes of a pattern, with all repetitions expanded."""

_CHARACTER_SETS = {
    "d": "[0-9]",
    "D": "[^0-9]",
    "w": "[0-9A-Za-z_]",
    "W": "[^0-9A-Za-z_]",
    "s": r"[\x{9}-\x{d}\x{20}\x{a0}\x{1680}\x{2000}-\x{200a}\x{2028}\x{2029}\x{202f}\x{205f}"
    r"\x{3000}\x{feff}]",
    "S": r"[^\x{9}-\x{d}\x{20}\x{a0}\x{1680}\x{2000}-\x{200a}\x{2028}\x{2029}\x{202f}\x{205f}"
    r"\x{3000}\x{feff}]",
}
_CONTROLS = {"t": "\t", "n": "\n", "r": "\r", "f": "\f", "v": "\v", "0": "\0"}
_ASSERTIONS = {"b": r"(?-u:\b)", "B": r"(?-u:\B)", "A": r"\A", "Z": r"\z", "z": r"\z"}
_ANY, _NONE = r"[\x{0}-\x{10FFFF}]", r"[^\x{0}-\x{10FFFF}]"
_DOT = r"[^\x{a}\x{d}\x{2028}\x{2029}]"

_SURROGATE_PAIR = re.compile(r"\\u([dD][89abAB][0-9a-fA-F]{2})\\u([dD][c-fC-F][0-9a-fA-F]{2})")
_CODE_POINT = re.compile(r"\\(?:u\{([0-9a-fA-F]{1,6})\}|u([0-9a-fA-F]{4})|x([0-9a-fA-F]{2}))")
_PROPERTY = re.compile(r"\\[pP](?:\{\^?[\w=:-]{1,60}\}|[A-Z])")
_REPEATED = re.compile(r"(?:[*+?]|\{(\d{1,6})(?:(,)(\d{0,6}))?\})\??")
_OPENING = re.compile(r"\((?:\?(?::|P?<(?![=!])[^>]{0,100}>|[im]+:)|(?!\?))")
_FLAGS = re.compile(r"\(\?([im]+)\)")
_LOOKAHEAD = re.compile(r"\(\?([=!])")


class PatternError(ValueError):
    """A pattern that cannot be matched in linear time; the message names the part."""


class _PatternPiece(NamedTuple):
    """A translated part of a pattern: its end, and whether it is a single character."""

    text: str
    end: int
    is_character: bool = False


@dataclass(frozen=True, slots=True)
class LinearPattern:
    """A compiled pattern: matchers for parts that a text has to match or must not match.

    size: the number of characters and classes, with all repetitions expanded.
    """

    size: int
    _parts: tuple[tuple[Callable[[str], bool], bool], ...]

    def matches(self, text: str) -> bool:
        """Whether the pattern matches anywhere in the text."""
        plain = text.encode("utf-8", "replace").decode()  # Rust rejects lone surrogates
        return all(matcher(plain) == expected for matcher, expected in self._parts)


@lru_cache(maxsize=256)
def compile_pattern(text: str) -> LinearPattern:
    """Compile a pattern. Raises PatternError."""
    if len(text) > MAX_PATTERN_LENGTH:
        raise PatternError(f"it has {len(text)} characters, over the limit of {MAX_PATTERN_LENGTH}")
    lookaheads, rest = _split_lookaheads(text)
    parts = [(f"^(?:{inner})", expected) for inner, expected in lookaheads] + [(rest, True)]
    size, matchers = 0, list[tuple[Callable[[str], bool], bool]]()
    for part, expected in parts:
        translated = _PatternTranslator(part)
        size += translated.size
        matchers.append((_compile_matcher(translated.text), expected))
    return LinearPattern(size, tuple(matchers))


def iter_patterns(schema: object) -> Iterator[tuple[str, str]]:
    """Yield the patterns of a schema, each with its keyword."""
    waiting: list[tuple[object, bool]] = [(schema, True)]
    while waiting:
        value, is_schema_position = waiting.pop()
        if is_list(value):
            waiting += ((item, True) for item in value)
        if not is_schema(value):
            continue
        if is_schema_position and isinstance(value.get("pattern"), str):
            yield "pattern", value["pattern"]
        if is_schema_position and is_schema(names := value.get("patternProperties")):
            yield from (("patternProperties", name) for name in names)
        waiting += (
            (inner, not (is_schema_position and key in NAMED_SCHEMA_KEYWORDS))
            for key, inner in value.items()
            if not (is_schema_position and key in _VALUE_KEYWORDS)
        )


class UncheckedPattern(NamedTuple):
    """A pattern that cannot be checked in linear time: its keyword, and the reason."""

    keyword: str
    pattern: str
    reason: str


def drop_unchecked_patterns(
    schema: dict[str, JSON], name: str
) -> tuple[dict[str, JSON], Sequence[UncheckedPattern]]:
    """Remove the patterns that cannot be checked; return the schema and those patterns.

    Raises SchemaError if the schema exceeds the bounds.
    """
    unchecked: list[UncheckedPattern] = []
    for keyword, pattern in iter_patterns(schema):
        try:
            compile_pattern(pattern)
        except PatternError as error:
            unchecked.append(UncheckedPattern(keyword, pattern, str(error)))
    if not unchecked:
        return schema, unchecked
    encode_bounded_schema(schema, name)
    keys = {"pattern"}
    if any(found.keyword == "patternProperties" for found in unchecked):  # then no name is unknown
        keys |= {"patternProperties", "additionalProperties", "unevaluatedProperties"}
    wrong = {found.pattern for found in unchecked}
    pruned = prune_schema(
        schema, lambda key, value: key in keys and (key != "pattern" or value in wrong)
    )
    return cast("dict[str, JSON]", pruned), unchecked


_VALUE_KEYWORDS = ("const", "enum", "default", "examples")


def _compile_matcher(text: str) -> Callable[[str], bool]:
    from pydantic_core import SchemaError, SchemaValidator, core_schema  # few schemas need it

    try:
        schema = core_schema.str_schema(pattern=text, regex_engine="rust-regex")
        matches: Callable[[str], bool] = SchemaValidator(schema).isinstance_python
    except SchemaError as error:
        raise PatternError(str(error).strip().rpartition("\n")[2].strip()) from error
    return matches


def _split_lookaheads(text: str) -> tuple[Sequence[tuple[str, bool]], str]:
    """Split off the lookaheads at the start of an anchored pattern."""
    lookaheads: list[tuple[str, bool]] = []
    at = 1
    while text.startswith("^") and (opening := _LOOKAHEAD.match(text, at)):
        end = _find_closing(text, at)
        lookaheads.append((text[opening.end() : end], opening[1] == "="))
        at = end + 1
    rest = text[:1] + text[at:] if lookaheads else text
    if lookaheads and (
        _REPEATED.match(text, at)
        or any(rest[position] == "|" and depth == 0 for position, depth in _list_depths(rest, 0))
    ):
        raise PatternError("a lookahead in one of several alternatives")
    return lookaheads, rest


def _find_closing(text: str, at: int) -> int:
    """Return the end of the group that begins at a position."""
    for position, depth in _list_depths(text, at):
        if depth == 0:
            return position
    raise PatternError("a group that is not closed")


def _list_depths(text: str, at: int) -> Sequence[tuple[int, int]]:
    """Return the positions outside escapes and classes, with the depth of groups there."""
    depths: list[tuple[int, int]] = []
    depth, is_class = 0, False
    while at < len(text):
        character = text[at]
        if character == "[" and not is_class:
            is_class = True
        elif character == "]":
            is_class = False
        elif not is_class and character != "\\":
            depth += (character == "(") - (character == ")")
            depths.append((at, depth))
        at += 2 if character == "\\" else 1
    return depths


class _PatternTranslator:
    """Translates a pattern for Rust's regex, and measures its size."""

    def __init__(self, pattern: str) -> None:
        self._pattern = pattern
        self._output: list[str] = []
        self._group_sizes = [0]
        self._last_size = 0
        at = 0
        while at < len(pattern):
            at = self._translate_at(at)
        self._count(0)
        if len(self._group_sizes) != 1:
            raise PatternError("a group that is not closed")
        self.size, self.text = self._group_sizes[0], "".join(self._output)

    def _translate_at(self, at: int) -> int:
        """Translate the element at a position; return the position after it."""
        pattern = self._pattern
        if repeated := _REPEATED.match(pattern, at):
            return self._repeat(repeated)
        match pattern[at]:
            case "(":
                return self._open(at)
            case ")":
                return self._close(at)
            case "[":
                piece = _translate_class(pattern, at)
            case "\\":
                kind = pattern[at + 1 : at + 2]
                if kind in _ASSERTIONS:
                    piece = _PatternPiece(_ASSERTIONS[kind], at + 2)
                else:
                    piece = _translate_escape(pattern, at)
            case "." as dot:
                piece = _PatternPiece(_DOT, at + len(dot))
            case "|" | "^" | "$" as sign:
                self._output.append(sign)
                self._count(0)
                return at + 1
            case character:
                piece = _PatternPiece(_escape_literal(character), at + 1)
        self._output.append(piece.text)
        self._count(1)
        return piece.end

    def _repeat(self, repeated: re.Match[str]) -> int:
        if not self._output:
            raise PatternError(f"{repeated[0]!r} at its start repeats nothing")
        minimum, comma, maximum = repeated.groups()
        times = max(int(maximum or minimum or 1), 1)
        self._last_size *= times  # Rust compiles each repetition of the group
        bounds = "" if minimum is None else f"{{{minimum}{comma or ''}{maximum or ''}}}"
        self._output.append(bounds + repeated[0].rpartition("}")[2] if bounds else repeated[0])
        self._check_size()
        return repeated.end()

    def _open(self, at: int) -> int:
        if flags := _FLAGS.match(self._pattern, at):
            self._output.append(flags[0])
            return flags.end()
        opening = _OPENING.match(self._pattern, at)
        if opening is None:
            part = "lookaround" if re.match(r"\(\?<?[=!]", self._pattern[at:]) else "a group"
            raise PatternError(f"{part} at {self._pattern[at : at + 12]!r}")
        is_plain = opening[0].startswith(("(?i", "(?m"))
        self._output.append(opening[0] if is_plain else "(?:")
        self._count(0)
        self._group_sizes.append(0)
        return opening.end()

    def _close(self, at: int) -> int:
        self._count(0)
        inner = self._group_sizes.pop()
        if not self._group_sizes:
            raise PatternError("a ) without its (")
        self._output.append(")")
        self._last_size = inner
        return at + 1

    def _count(self, size: int) -> None:
        """Add the size of the last element; the new one may still be repeated."""
        self._group_sizes[-1] += self._last_size
        self._last_size = size
        self._check_size()

    def _check_size(self) -> None:
        if sum(self._group_sizes) + self._last_size > MAX_PATTERN_SIZE:
            raise PatternError(f"it has over {MAX_PATTERN_SIZE} characters, repetitions expanded")


def _translate_escape(pattern: str, at: int) -> _PatternPiece:
    """Translate an escape that is valid inside and outside a class."""
    if pair := _SURROGATE_PAIR.match(pattern, at):
        high, low = (int(half, 16) for half in pair.groups())
        character = chr(0x10000 + ((high - 0xD800) << 10) + low - 0xDC00)
        return _PatternPiece(_escape_literal(character), pair.end(), is_character=True)
    if code := _CODE_POINT.match(pattern, at):
        number = int(next(filter(None, code.groups())), 16)
        if number > 0x10FFFF or 0xD800 <= number < 0xE000:
            raise PatternError(f"{code[0]} is not a character")
        return _PatternPiece(_escape_literal(chr(number)), code.end(), is_character=True)
    if property_class := _PROPERTY.match(pattern, at):
        return _PatternPiece(property_class[0], property_class.end())
    return _translate_simple_escape(pattern, at)


def _translate_simple_escape(pattern: str, at: int) -> _PatternPiece:
    kind, after = pattern[at + 1 : at + 2], pattern[at + 2 : at + 3]
    if kind in _CHARACTER_SETS:
        return _PatternPiece(_CHARACTER_SETS[kind], at + 2)
    if kind == "c" and after.isascii() and after.isalpha():
        return _PatternPiece(_escape_literal(chr(ord(after) % 32)), at + 3, is_character=True)
    if kind in _CONTROLS and not (kind == "0" and after.isdigit()):
        return _PatternPiece(_escape_literal(_CONTROLS[kind]), at + 2, is_character=True)
    if kind and not (kind.isascii() and kind.isalnum()):
        return _PatternPiece(_escape_literal(kind), at + 2, is_character=True)
    part = "a backreference" if kind.isdigit() or kind == "k" else "an unknown escape"
    raise PatternError(f"{part} at {pattern[at : at + 8]!r}")


def _translate_class(pattern: str, at: int) -> _PatternPiece:
    """Translate a class; in ECMA's dialect `[` in it is a character, and `[]` is empty."""
    at += 1
    is_negated = pattern[at : at + 1] == "^"
    at += is_negated
    if pattern[at : at + 1] == "]":
        return _PatternPiece(_ANY if is_negated else _NONE, at + 1)
    out: list[str] = []
    while pattern[at : at + 1] != "]":
        if at >= len(pattern):
            raise PatternError("a [ without its ]")
        first = _translate_member(pattern, at)
        at = first.end
        out.append(first.text)
        if pattern[at : at + 1] != "-" or pattern[at + 1 : at + 2] in ("]", ""):
            continue
        second = _translate_member(pattern, at + 1)
        is_range = first.is_character and second.is_character
        out += ("-" if is_range else r"\-", second.text)
        at = second.end
    return _PatternPiece(f"[{'^' if is_negated else ''}{''.join(out)}]", at + 1)


def _translate_member(pattern: str, at: int) -> _PatternPiece:
    if pattern[at] != "\\":
        return _PatternPiece(_escape_literal(pattern[at]), at + 1, is_character=True)
    if pattern[at + 1 : at + 2] == "b":
        return _PatternPiece(_escape_literal("\b"), at + 2, is_character=True)
    return _translate_escape(pattern, at)


def _escape_literal(character: str) -> str:
    """Escape a literal character, inside or outside a class."""
    if character.isascii() and character.isalnum():
        return character
    if 0xD800 <= ord(character) < 0xE000:
        raise PatternError("half of a surrogate pair")
    return f"\\x{{{ord(character):x}}}"
