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

from agentcall.jsontext.balance import Balance
from agentcall.jsontext.lenient import (
    DEEPEST,
    Lenient,
    Malformed,
    WrittenFloat,
    WrittenInt,
    as_written,
    is_exact,
    is_same,
)
from agentcall.jsontext.members import Members, items, members
from agentcall.messages import JSON

LONGEST = 4_000_000
"""Longer texts are not mended (characters)."""


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
        return Whole(strict_json(text))
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


def strict_json(text: str) -> JSON:
    """The value of a JSON text of which nothing is lost.

    Raises ValueError for what is not JSON, for a key with two values (of which a parser keeps the
    last), and for a number that a double cannot hold. Raises RecursionError.
    """
    return cast("JSON", STRICT.decode(text))


def has_repeated_key(text: bytes, value: JSON) -> bool:
    """Whether an object in a JSON text, whose value this is, gives a key two different values."""
    if isinstance(value, dict) and text.count(b":") == len(value):
        return False  # the usual call: flat, and no colon in a string
    if len(_SEPARATOR.findall(text)) == _count_keys(value):
        return False
    try:
        json.loads(text, object_pairs_hook=_object_of)
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


def _refuse_constant(name: str) -> JSON:
    raise ValueError(f"{name} is not JSON")


def _exact_float(digits: str) -> float:
    number = float(digits)
    if not is_exact(number, digits):
        raise ValueError(f"{digits} has more digits than a double holds")
    return as_written(number, digits)


def _whole_number(digits: str) -> int | float:
    return as_written(int(digits), digits)


def _object_of(pairs: list[tuple[str, JSON]]) -> dict[str, JSON]:
    found = dict(pairs)
    if len(found) < len(pairs):
        for key, value in pairs:
            if not is_same(found[key], value):
                raise RepeatedKey(f"the key {key!r} has two values")
    return found


def _unfenced(text: str) -> str | None:
    if not (text.startswith("```") and text.endswith("```") and len(text) > 6):
        return None
    head, _, rest = text[3:-3].partition("\n")
    language = head.strip()
    return rest if not language or (language.isalnum() and language[0].isalpha()) else text[3:-3]


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
        return Unread(str(error), cut=lenient.at >= len(text))
    return Whole(value, ", ".join(sorted(lenient.rules)) or "spelling")


STRICT = json.JSONDecoder(
    parse_constant=_refuse_constant,
    parse_float=_exact_float,
    parse_int=_whole_number,
    object_pairs_hook=_object_of,
)
"""The decoder of `strict_json`."""

__all__ = [
    "DEEPEST",
    "STRICT",
    "Balance",
    "Lenient",
    "Malformed",
    "Members",
    "Unread",
    "Whole",
    "WrittenFloat",
    "WrittenInt",
    "has_repeated_key",
    "is_exact",
    "items",
    "members",
    "read_json",
    "strict_json",
]
