"""Reads the text of arguments as a JSON value, strict first, then by the cheapest mending.

Nothing is lost: what is read accounts for every character that the model wrote, but white space,
quotes, commas, brackets, comments, fences and special tokens; any other text is refused.

Rules, in the order in which they are tried:
- fenced: the JSON stands in a Markdown fence.
- surplus: what follows the whole value is nothing but closing brackets or special tokens; or the
  server sent the same value twice, or an empty object before the real one. Two different values
  are two calls, and none of them runs.
- double-encoded: the quotes are still escaped, though no text is around them: `{\\"a\\": 2}`.
- python-literal, json-syntax: what `jsontext` mends, with Python's words in it or without.
- missing-comma: the next member follows without its comma. Such a value has to fit as it stands,
  no key of it is dropped: a quote that was not escaped may have torn a text in two.
- closed-brackets: see below.

Closing brackets. What was cut is never finished: whoever reads a cut call cannot know what was
still to come. But small models, and parsers of servers, also lose closing brackets of answers that
are whole, and these are told apart so: no call of an answer that ended for its length, or without
an end, comes here (the loop drops it). So the model itself ended this text. If that end stands
behind a complete value (not within a text, not behind a comma or a colon), then only brackets are
missing, which say nothing; and if the result has every field that the tool requires, it runs.
A list is never closed: items may have been to come.
A last number is taken as it stands: an answer that was finished has finished its number. A text
without its closing quote is never closed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import cast

from agentcall.jsontext import STRICT, Balance, Unread, read_json, strict_json
from agentcall.messages import JSON
from agentcall.repair.fix import Fixes, fix, written

LONGEST_MENDED = 100_000
"""Characters of broken JSON that are mended; longer ones are refused, for mending is slow."""

_GUESSED = "missing-comma"
_FENCE = re.compile(r"\s*(?:```|~~~)[ \t]*(?:[A-Za-z]\w*)?\s*\n?(.*?)\s*(?:```|~~~)?\s*", re.DOTALL)
_SURPLUS = re.compile(r"(?:[\s\]})`;]|<[|｜][^<>]{1,40}[|｜]>|</?[A-Za-z]\w{0,29}>)*")
_DEEPEST = 32
_REPEATS = 32


@dataclass(frozen=True, slots=True)
class Reading:
    """A JSON value that a text was read as, and what was mended to read it."""

    value: JSON
    fixes: Fixes = ()


def read(text: str) -> Reading | None:
    """The value that the text of a call's arguments means; None if that cannot be told."""
    return next(filter(_can_be_written, _readings(text)), None)


def is_guessed(reading: Reading) -> bool:
    """Whether the structure of the text was guessed: nothing more may be taken away from it."""
    return any(each.rule == _GUESSED for each in reading.fixes)


def read_inner(text: str) -> Reading | None:
    """The list or object that a text within the arguments spells out; never closes brackets."""
    if not text.lstrip().startswith(("{", "[", "(", "`")):
        return None
    whole = _whole(text)
    reading = _unfenced(text) if whole is None else Reading(whole[0])
    reading = reading or _lenient(text)
    if reading is None or is_guessed(reading):
        return None
    if not isinstance(reading.value, (dict, list)):
        return None
    return reading if _can_be_written(reading) else None


def _readings(text: str) -> Iterator[Reading]:
    whole = _whole(text)
    if whole:
        yield Reading(whole[0])
        return
    for step in (_unfenced, _without_surplus, _unescaped, _lenient, _closed):
        reading = step(text)
        if reading:
            yield reading


def _can_be_written(reading: Reading) -> bool:
    try:
        written(reading.value)
    except (ValueError, RecursionError):
        return False
    return True


def _whole(text: str) -> tuple[JSON] | None:
    """The value in a tuple, for null is a value."""
    try:
        return (strict_json(text),)
    except (ValueError, RecursionError):
        return None


def _unfenced(text: str) -> Reading | None:
    found = _FENCE.fullmatch(text) if text.lstrip().startswith(("```", "~~~")) else None
    if not found or not found[1]:
        return None
    whole = _whole(found[1])
    inner = Reading(whole[0]) if whole else _lenient(found[1]) or _closed(found[1])
    return inner and Reading(inner.value, (fix("fenced", text, found[1]), *inner.fixes))


def _lenient(text: str) -> Reading | None:
    try:
        found = None if len(text) > LONGEST_MENDED else read_json(text)
    except (ValueError, RecursionError):  # a number too long, a value too deep
        return None
    if found is None or isinstance(found, Unread):
        return None
    rule = "python-literal" if "python" in found.rule else "json-syntax"
    if "missing comma" in found.rule:
        rule = _GUESSED
    return Reading(found.value, (fix(rule, text, _readable(found.value)),))


def _readable(value: JSON) -> str:
    try:
        return written(value)
    except (ValueError, RecursionError):
        return repr(value)


def _unescaped(text: str) -> Reading | None:
    inner = _whole(f'"{text.strip()}"') if text.lstrip().startswith('{\\"') else None
    whole = _whole(inner[0]) if inner and isinstance(inner[0], str) else None
    if whole is None:
        return None
    return Reading(whole[0], (fix("double-encoded", text, _readable(whole[0])),))


def _without_surplus(text: str) -> Reading | None:
    """One value where the text holds it and more of no meaning."""
    values = {_readable(value): value for value in _values(text)}
    if len(values) > 1 and all(isinstance(value, dict) for value in values.values()):
        values.pop("{}", None)
    if len(values) != 1:
        return None
    ((shown, value),) = values.items()
    if not isinstance(value, (dict, list, str)):
        return None
    return Reading(value, (fix("surplus", text, shown),))


def _values(text: str) -> list[JSON]:
    """The JSON values that a text is made of; none if there is more in it than surplus."""
    found: list[JSON] = []
    position = 0
    while len(found) < _REPEATS:
        position = cast("re.Match[str]", _SURPLUS.match(text, position)).end()
        if position == len(text):
            return found
        try:
            value, position = cast("tuple[JSON, int]", STRICT.raw_decode(text, position))
        except (ValueError, RecursionError):
            return []
        found.append(value)
    return []


def _closed(text: str) -> Reading | None:
    missing = _missing_brackets(text)
    if not missing:
        return None
    whole = _whole(text + missing)
    inner = Reading(whole[0]) if whole else _lenient(text + missing)
    if inner is None or is_guessed(inner):
        return None
    return Reading(inner.value, (fix("closed-brackets", text, text + missing), *inner.fixes))


def _missing_brackets(text: str) -> str:
    """The closing brackets that a text lacks behind a complete value; empty if that is not all."""
    if text.rstrip()[-1:] in ("", ",", ":", "{", "["):
        return ""
    balance = Balance()
    ended = balance.run(text, 0) >= 0
    if ended or balance.stopped or balance.quote or len(balance.open) > _DEEPEST:
        return ""
    if set(balance.open) != {"}"}:  # a list has as many items as were to come
        return ""
    return "".join(reversed(balance.open))
