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
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import cast

from agentcall.jsontext.balance import Balance
from agentcall.jsontext.lenient import DEEPEST, Lenient, Malformed
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
    import json_repair  # here, as it costs more than all the rest and is seldom needed

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


__all__ = [
    "DEEPEST",
    "Balance",
    "Lenient",
    "Malformed",
    "Members",
    "Unread",
    "Whole",
    "items",
    "members",
    "read_json",
]
