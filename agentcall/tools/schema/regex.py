r"""The patterns of a JSON Schema, matched in linear time.

Rules:
1. A pattern is in ECMA-262's dialect, as JSON Schema says, or in Python's where that differs. It is
   translated for Rust's regex, which pydantic brings along: `\d` and `\w` are ASCII, `.` is not a
   line end, `[^]` is any character.
2. A lookahead right behind the `^` at the start becomes a pattern of its own: `^(?!a)b` matches
   where `^b` does and `^a` does not.
3. Whatever else needs an engine that goes back (lookaround, backreferences), or is too large, is
   refused: PatternError says which part.

True and false where a number is wanted: pydantic reads them as 1 and 0, without a word.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple, cast

from agentcall.messages import JSON
from agentcall.tools.schema._definitions import (
    NAMED_SCHEMA_KEYWORDS,
    REF_PREFIX,
    Schema,
    is_list,
    is_schema,
    prune_schema,
)
from agentcall.tools.schema.metaschema import encode_bounded_schema

_KINDS: dict[type, tuple[str, ...]] = {
    bool: ("boolean", "integer", "number"),
    dict: ("object",),
    list: ("array",),
}


def has_bool_for_number(value: JSON, schema: Schema, definitions: Mapping[str, Schema]) -> bool:
    """Whether true or false stands somewhere in a value where its schema wants a number.

    A value is judged by the choices of a union (`anyOf`) that are of its type; if one of them takes
    it as it is, it is fine.
    """
    if not isinstance(value, (bool, dict, list)):
        return False
    schema = _resolve_reference(schema, definitions)
    choices = schema.get("anyOf", schema.get("oneOf"))
    if is_list(choices):
        fitting = [
            each for each in choices if is_schema(each) and _can_hold(value, each, definitions)
        ]
        return bool(fitting) and all(
            has_bool_for_number(value, each, definitions) for each in fitting
        )
    if isinstance(value, bool):
        return schema.get("type") in ("integer", "number")
    return any(
        has_bool_for_number(item, below, definitions)
        for item, below in _iter_members(value, schema)
    )


def _can_hold(value: JSON, schema: Schema, definitions: Mapping[str, Schema]) -> bool:
    kind = _resolve_reference(schema, definitions).get("type")
    return kind is None or kind in _KINDS.get(type(value), ())


def _iter_members(value: JSON, schema: Schema) -> Iterator[tuple[JSON, Schema]]:
    """The items of a list or object, each with its schema."""
    if isinstance(value, Mapping):
        known = schema.get("properties", {})
        more = schema.get("additionalProperties")
        found = ((item, known.get(key, more)) for key, item in value.items())
    else:
        items = value if isinstance(value, list) else []
        first = schema.get("prefixItems", [])
        rest = schema.get("items")
        found = (
            (item, first[place] if place < len(first) else rest) for place, item in enumerate(items)
        )
    yield from ((item, below) for item, below in found if is_schema(below))


def _resolve_reference(schema: Schema, definitions: Mapping[str, Schema]) -> Schema:
    name = str(schema.get("$ref", "")).removeprefix(REF_PREFIX)
    return definitions.get(name, schema)


MAX_PATTERN_LENGTH = 5_000
"""Characters of a pattern."""
MAX_PATTERN_SIZE = 10_000
"""Characters and classes of a pattern, with all repetitions written out."""

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
    """A pattern that cannot be matched in linear time; says which part."""


class _PatternPiece(NamedTuple):
    """A part of a pattern as it is translated: where it ends, and whether it is one character."""

    text: str
    end: int
    is_character: bool = False


@dataclass(frozen=True, slots=True)
class LinearPattern:
    """What a text has to match, and what it must not match.

    size: how many characters and classes it has, with all repetitions written out.
    """

    size: int
    _parts: tuple[tuple[Callable[[str], bool], bool], ...]

    def matches(self, text: str) -> bool:
        """Whether the pattern matches anywhere in the text."""
        plain = text.encode("utf-8", "replace").decode()  # a lone surrogate is no character there
        return all(found(plain) == wanted for found, wanted in self._parts)


@lru_cache(maxsize=256)
def compile_pattern(text: str) -> LinearPattern:
    """The pattern of a text. Raises PatternError."""
    if len(text) > MAX_PATTERN_LENGTH:
        raise PatternError(f"it has {len(text)} characters, at most {MAX_PATTERN_LENGTH} are taken")
    asserted, rest = _split_lookaheads(text)
    parts = [(f"^(?:{inner})", wanted) for inner, wanted in asserted] + [(rest, True)]
    size, made = 0, list[tuple[Callable[[str], bool], bool]]()
    for part, wanted in parts:
        written = _PatternTranslator(part)
        size += written.size
        made.append((_compile_matcher(written.text), wanted))
    return LinearPattern(size, tuple(made))


def iter_patterns(schema: object) -> Iterator[tuple[str, str]]:
    """The patterns of a schema, each with the keyword that has it."""
    waiting: list[tuple[object, bool]] = [(schema, True)]
    while waiting:
        value, is_one = waiting.pop()
        if is_list(value):
            waiting += ((item, True) for item in value)
        if not is_schema(value):
            continue
        if is_one and isinstance(value.get("pattern"), str):
            yield "pattern", value["pattern"]
        if is_one and is_schema(names := value.get("patternProperties")):
            yield from (("patternProperties", name) for name in names)
        waiting += (
            (inner, not (is_one and key in NAMED_SCHEMA_KEYWORDS))
            for key, inner in value.items()
            if not (is_one and key in _VALUE_KEYWORDS)
        )


class UncheckedPattern(NamedTuple):
    """A pattern that cannot be checked in linear time: its keyword, and why."""

    keyword: str
    pattern: str
    reason: str


def drop_unchecked_patterns(
    schema: dict[str, JSON], name: str
) -> tuple[dict[str, JSON], Sequence[UncheckedPattern]]:
    """The schema without the patterns that cannot be checked, and those.

    Raises SchemaError where it is out of bounds.
    """
    odd: list[UncheckedPattern] = []
    for keyword, pattern in iter_patterns(schema):
        try:
            compile_pattern(pattern)
        except PatternError as error:
            odd.append(UncheckedPattern(keyword, pattern, str(error)))
    if not odd:
        return schema, odd
    encode_bounded_schema(schema, name)
    keys = {"pattern"}
    if any(each.keyword == "patternProperties" for each in odd):  # then no name is unknown
        keys |= {"patternProperties", "additionalProperties", "unevaluatedProperties"}
    wrong = {each.pattern for each in odd}
    kept = prune_schema(
        schema, lambda key, value: key in keys and (key != "pattern" or value in wrong)
    )
    return cast("dict[str, JSON]", kept), odd


_VALUE_KEYWORDS = ("const", "enum", "default", "examples")


def _compile_matcher(text: str) -> Callable[[str], bool]:
    core: Any = _import_pydantic_core()
    try:
        schema = core.core_schema.str_schema(pattern=text, regex_engine="rust-regex")
        matches: Callable[[str], bool] = core.SchemaValidator(schema).isinstance_python
    except core.SchemaError as error:
        raise PatternError(str(error).strip().rpartition("\n")[2].strip()) from error
    return matches


def _import_pydantic_core() -> Any:  # Any: a module
    import pydantic_core  # here, as few schemas have a pattern

    return pydantic_core


def _split_lookaheads(text: str) -> tuple[Sequence[tuple[str, bool]], str]:
    """The lookaheads at the start of an anchored pattern, and the pattern without them."""
    asserted: list[tuple[str, bool]] = []
    at = 1
    while text.startswith("^") and (opening := _LOOKAHEAD.match(text, at)):
        end = _find_closing(text, at)
        asserted.append((text[opening.end() : end], opening[1] == "="))
        at = end + 1
    rest = text[:1] + text[at:] if asserted else text
    if asserted and (_REPEATED.match(text, at) or _has_choice(rest)):
        raise PatternError("a lookahead in one of several alternatives")
    return asserted, rest


def _find_closing(text: str, at: int) -> int:
    """Where the group ends that begins at a place."""
    for place, depth in _list_depths(text, at):
        if depth == 0:
            return place
    raise PatternError("a group that is not closed")


def _has_choice(text: str) -> bool:
    return any(text[place] == "|" and depth == 0 for place, depth in _list_depths(text, 0))


def _list_depths(text: str, at: int) -> Sequence[tuple[int, int]]:
    """The places of what is neither escaped nor in a class, with the depth of groups there."""
    found: list[tuple[int, int]] = []
    depth, is_class = 0, False
    while at < len(text):
        character = text[at]
        if character == "[" and not is_class:
            is_class = True
        elif character == "]":
            is_class = False
        elif not is_class and character != "\\":
            depth += (character == "(") - (character == ")")
            found.append((at, depth))
        at += 2 if character == "\\" else 1
    return found


class _PatternTranslator:
    """A pattern for Rust's regex, and its size."""

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
        """Takes what stands at a place; gives the place behind it."""
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
        least, comma, most = repeated.groups()
        times = max(int(most or least or 1), 1)
        self._last_size *= times
        bounds = "" if least is None else f"{{{least}{comma or ''}{most or ''}}}"
        self._output.append(bounds + repeated[0].rpartition("}")[2] if bounds else repeated[0])
        self._check_size()
        return repeated.end()

    def _open(self, at: int) -> int:
        if flags := _FLAGS.match(self._pattern, at):
            self._output.append(flags[0])
            return flags.end()
        opening = _OPENING.match(self._pattern, at)
        if opening is None:
            words = "lookaround" if re.match(r"\(\?<?[=!]", self._pattern[at:]) else "a group"
            raise PatternError(f"{words} at {self._pattern[at : at + 12]!r}")
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
        """Adds what was last taken; what is taken now may still be repeated."""
        self._group_sizes[-1] += self._last_size
        self._last_size = size
        self._check_size()

    def _check_size(self) -> None:
        if sum(self._group_sizes) + self._last_size > MAX_PATTERN_SIZE:
            raise PatternError(
                f"it has over {MAX_PATTERN_SIZE} characters, repetitions written out"
            )


def _translate_escape(pattern: str, at: int) -> _PatternPiece:
    """What a backslash outside a class begins."""
    kind = pattern[at + 1 : at + 2]
    if kind in _ASSERTIONS:
        return _PatternPiece(_ASSERTIONS[kind], at + 2)
    return _translate_shared_escape(pattern, at)


def _translate_shared_escape(pattern: str, at: int) -> _PatternPiece:
    """What a backslash begins, in a class or outside."""
    if pair := _SURROGATE_PAIR.match(pattern, at):
        high, low = (int(half, 16) for half in pair.groups())
        whole = chr(0x10000 + ((high - 0xD800) << 10) + low - 0xDC00)
        return _PatternPiece(_escape_literal(whole), pair.end(), is_character=True)
    if code := _CODE_POINT.match(pattern, at):
        number = int(next(filter(None, code.groups())), 16)
        if number > 0x10FFFF or 0xD800 <= number < 0xE000:
            raise PatternError(f"{code[0]} is no character")
        return _PatternPiece(_escape_literal(chr(number)), code.end(), is_character=True)
    if found := _PROPERTY.match(pattern, at):
        return _PatternPiece(found[0], found.end())
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
    words = "a backreference" if kind.isdigit() or kind == "k" else "an unknown escape"
    raise PatternError(f"{words} at {pattern[at : at + 8]!r}")


def _translate_class(pattern: str, at: int) -> _PatternPiece:
    """A class in brackets; in ECMA's dialect `[` in it is a character, and `[]` is nothing."""
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
    return _translate_shared_escape(pattern, at)


def _escape_literal(character: str) -> str:
    """A character that stands for itself, in a class or outside."""
    if character.isascii() and character.isalnum():
        return character
    if 0xD800 <= ord(character) < 0xE000:
        raise PatternError("half of a surrogate pair")
    return f"\\x{{{ord(character):x}}}"
