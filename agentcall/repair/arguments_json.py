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

from agentcall.lenient_json import (
    STRICT_DECODER,
    BracketMatcher,
    UnreadableJSON,
    parse_lenient_json,
    parse_strict_json,
)
from agentcall.messages import JSON
from agentcall.repair.types import Fixes, dump_json, make_fix

MAX_REPAIR_LENGTH = 100_000
"""Characters of broken JSON that are mended; longer ones are refused, for mending is slow."""

_GUESS_RULE = "missing-comma"
_FENCE = re.compile(r"\s*(?:```|~~~)[ \t]*(?:[A-Za-z]\w*)?\s*\n?(.*?)\s*(?:```|~~~)?\s*", re.DOTALL)
_SURPLUS = re.compile(r"(?:[\s\]})`;]|<[|｜][^<>]{1,40}[|｜]>|</?[A-Za-z]\w{0,29}>)*")
_MAX_OPEN_BRACKETS = 32
_MAX_REPEATS = 32


@dataclass(frozen=True, slots=True)
class ParsedArguments:
    """A JSON value that a text was read as, and what was mended to read it."""

    value: JSON
    fixes: Fixes = ()


def parse_arguments(text: str) -> ParsedArguments | None:
    """The value that the text of a call's arguments means; None if that cannot be told."""
    return next(filter(_is_encodable, _iter_candidates(text)), None)


def is_guess(reading: ParsedArguments) -> bool:
    """Whether the structure of the text was guessed: nothing more may be taken away from it."""
    return any(each.rule == _GUESS_RULE for each in reading.fixes)


def parse_inner(text: str) -> ParsedArguments | None:
    """The list or object that a text within the arguments spells out; never closes brackets."""
    if not text.lstrip().startswith(("{", "[", "(", "`")):
        return None
    whole = _parse_strictly(text)
    reading = _strip_fence(text) if whole is None else ParsedArguments(whole[0])
    reading = reading or _parse_leniently(text)
    if reading is None or is_guess(reading):
        return None
    if not isinstance(reading.value, (dict, list)):
        return None
    return reading if _is_encodable(reading) else None


def _iter_candidates(text: str) -> Iterator[ParsedArguments]:
    whole = _parse_strictly(text)
    if whole:
        yield ParsedArguments(whole[0])
        return
    for step in (_strip_fence, _drop_surplus, _unescape_quotes, _parse_leniently, _close_brackets):
        reading = step(text)
        if reading:
            yield reading


def _is_encodable(reading: ParsedArguments) -> bool:
    try:
        dump_json(reading.value)
    except (ValueError, RecursionError):
        return False
    return True


def _parse_strictly(text: str) -> tuple[JSON] | None:
    """The value in a tuple, for null is a value."""
    try:
        return (parse_strict_json(text),)
    except (ValueError, RecursionError):
        return None


def _strip_fence(text: str) -> ParsedArguments | None:
    found = _FENCE.fullmatch(text) if text.lstrip().startswith(("```", "~~~")) else None
    if not found or not found[1]:
        return None
    whole = _parse_strictly(found[1])
    inner = (
        ParsedArguments(whole[0])
        if whole
        else _parse_leniently(found[1]) or _close_brackets(found[1])
    )
    return inner and ParsedArguments(
        inner.value, (make_fix("fenced", text, found[1]), *inner.fixes)
    )


def _parse_leniently(text: str) -> ParsedArguments | None:
    try:
        found = None if len(text) > MAX_REPAIR_LENGTH else parse_lenient_json(text)
    except (ValueError, RecursionError):  # a number too long, a value too deep
        return None
    if found is None or isinstance(found, UnreadableJSON):
        return None
    rule = "python-literal" if "python" in found.rule else "json-syntax"
    if "missing comma" in found.rule:
        rule = _GUESS_RULE
    return ParsedArguments(found.value, (make_fix(rule, text, _format_json(found.value)),))


def _format_json(value: JSON) -> str:
    try:
        return dump_json(value)
    except (ValueError, RecursionError):
        return repr(value)


def _unescape_quotes(text: str) -> ParsedArguments | None:
    inner = _parse_strictly(f'"{text.strip()}"') if text.lstrip().startswith('{\\"') else None
    whole = _parse_strictly(inner[0]) if inner and isinstance(inner[0], str) else None
    if whole is None:
        return None
    return ParsedArguments(whole[0], (make_fix("double-encoded", text, _format_json(whole[0])),))


def _drop_surplus(text: str) -> ParsedArguments | None:
    """One value where the text holds it and more of no meaning."""
    values = {_format_json(value): value for value in _split_values(text)}
    if len(values) > 1 and all(isinstance(value, dict) for value in values.values()):
        values.pop("{}", None)
    if len(values) != 1:
        return None
    ((shown, value),) = values.items()
    if not isinstance(value, (dict, list, str)):
        return None
    return ParsedArguments(value, (make_fix("surplus", text, shown),))


def _split_values(text: str) -> list[JSON]:
    """The JSON values that a text is made of; none if there is more in it than surplus."""
    found: list[JSON] = []
    position = 0
    while len(found) < _MAX_REPEATS:
        position = cast("re.Match[str]", _SURPLUS.match(text, position)).end()
        if position == len(text):
            return found
        try:
            value, position = cast("tuple[JSON, int]", STRICT_DECODER.raw_decode(text, position))
        except (ValueError, RecursionError):
            return []
        found.append(value)
    return []


def _close_brackets(text: str) -> ParsedArguments | None:
    missing = _find_missing_brackets(text)
    if not missing:
        return None
    whole = _parse_strictly(text + missing)
    inner = ParsedArguments(whole[0]) if whole else _parse_leniently(text + missing)
    if inner is None or is_guess(inner):
        return None
    return ParsedArguments(
        inner.value, (make_fix("closed-brackets", text, text + missing), *inner.fixes)
    )


def _find_missing_brackets(text: str) -> str:
    """The closing brackets that a text lacks behind a complete value; empty if that is not all."""
    if text.rstrip()[-1:] in ("", ",", ":", "{", "["):
        return ""
    balance = BracketMatcher()
    ended = balance.scan(text, 0) >= 0
    if (
        ended
        or balance.has_stopped
        or balance.quote
        or len(balance.open_closers) > _MAX_OPEN_BRACKETS
    ):
        return ""
    if set(balance.open_closers) != {"}"}:  # a list has as many items as were to come
        return ""
    return "".join(reversed(balance.open_closers))
