"""JSON as models write it, read leniently: the value, and which rule mended it.

Rules, in the order they are tried:
1. Strict JSON is taken as it is, and says so by an empty rule.
2. A value that was cut (an open bracket, an open string) is never completed.
3. Mending changes the spelling, never the content: a code fence around the value, Python's
   literals and quotes, trailing commas, a comma that is missing before a key or between two
   objects, comments, keys without quotes, raw line breaks or bad escapes in strings, full-width
   punctuation, brackets too many at the end.
4. Nothing is lost: the value accounts for every character but white space, quotes, commas,
   brackets, comments and fences. Any other text is not read; see `lenient`.
Nothing is ever evaluated.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import cast

from agentcall.jsontext.balance import BracketMatcher
from agentcall.jsontext.lenient import (
    MAX_DEPTH,
    LenientParser,
    MalformedJSON,
    WrittenFloat,
    WrittenInt,
    is_exact,
    is_same_json,
    keep_digits,
)
from agentcall.jsontext.members import Members, split_items, split_members
from agentcall.messages import JSON

MAX_LENGTH = 4_000_000
"""Longer texts are not mended (characters)."""


@dataclass(frozen=True, slots=True)
class ParsedJSON:
    """A value that was read; `rule` names what had to be mended, empty where nothing had to."""

    value: JSON
    rule: str = ""


@dataclass(frozen=True, slots=True)
class UnreadableJSON:
    """A text that is no value; `cut` is whether it ends before the value does."""

    reason: str
    is_truncated: bool = False


def parse_lenient_json(text: str) -> ParsedJSON | UnreadableJSON:
    """The value of JSON text or of text that is nearly JSON; never raises.

    >>> read_json("{'a': True,}")
    Whole(value={'a': True}, rule='python literal, single quotes, trailing comma')
    >>> read_json('{"a": [1, 2')
    Unread(reason='the text ends inside a list or object', cut=True)
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
    inner = _strip_fence(body)
    if inner is not None:
        within = parse_lenient_json(inner)
        if isinstance(within, UnreadableJSON):
            return within
        return ParsedJSON(within.value, ", ".join(filter(None, ("code fence", within.rule))))
    return _parse_with_grammar(body)


def parse_strict_json(text: str) -> JSON:
    """The value of a JSON text of which nothing is lost.

    Raises ValueError for what is not JSON, for a key with two values (of which a parser keeps the
    last), and for a number that a double cannot hold. Raises RecursionError.
    """
    return cast("JSON", STRICT_DECODER.decode(text))


def has_repeated_key(text: bytes, value: JSON) -> bool:
    """Whether an object in a JSON text, whose value this is, gives a key two different values."""
    if isinstance(value, dict) and text.count(b":") == len(value):
        return False  # the usual call: flat, and no colon in a string
    if len(_SEPARATOR.findall(text)) == _count_keys(value):
        return False
    try:
        json.loads(text, object_pairs_hook=_build_object)
    except RepeatedKey:
        return True
    except (ValueError, RecursionError):
        return False
    return False


class RepeatedKey(ValueError):
    """An object gives a key two different values."""


_SEPARATOR = re.compile(rb'"\s*:')


def _count_keys(value: JSON) -> int:
    found, waiting = 0, [value]
    while waiting:
        match waiting.pop():
            case dict() as inner:
                found += len(inner)
                waiting += inner.values()
            case list() as inner:
                waiting += inner
            case _:
                pass
    return found


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
    found = dict(pairs)
    if len(found) < len(pairs):
        for key, value in pairs:
            if not is_same_json(found[key], value):
                raise RepeatedKey(f"the key {key!r} has two values")
    return found


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


STRICT_DECODER = json.JSONDecoder(
    parse_constant=_reject_constant,
    parse_float=_parse_float,
    parse_int=_parse_integer,
    object_pairs_hook=_build_object,
)
"""The decoder of `strict_json`."""

__all__ = [
    "MAX_DEPTH",
    "STRICT_DECODER",
    "BracketMatcher",
    "LenientParser",
    "MalformedJSON",
    "Members",
    "ParsedJSON",
    "UnreadableJSON",
    "WrittenFloat",
    "WrittenInt",
    "has_repeated_key",
    "is_exact",
    "parse_lenient_json",
    "parse_strict_json",
    "split_items",
    "split_members",
]
