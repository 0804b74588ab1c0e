r"""Reads the text of arguments as a JSON value: strictly, then with the cheapest repair.

Nothing is lost: the value accounts for every character that the model wrote, except white space,
quotes, commas, brackets, comments, fences and special tokens; any other text is refused.

Rules, in this order:
- fenced: the JSON is in a Markdown fence.
- surplus: only closing brackets or special tokens follow the whole value; or the server sent the
  same value twice, or an empty object before the real one, or the object is in two pairs of braces.
  Two different values are two calls, and neither is executed.
- surplus-text: a sentence stands before or after one whole object. It has no digit, bracket, quote
  or operator, so that it holds no value; a word right behind the object (a unit) is no sentence.
- double-encoded: the quotes are still escaped, without a string around them: `{\"a\": 2}`.
- python-literal, json-syntax: repairs of `agentcall.lenient_json`, with Python literals or without.
- missing-comma: the next member follows without a comma. Such a value has to match as it is, and no
  key of it is dropped: an unescaped quote may have split a text in two.
- closed-brackets: see below.

Closing brackets. A cut call is never completed: nobody can know what was still to come. But small
models and the parsers of servers also lose closing brackets of answers that are whole. They are
told apart as follows: calls of an answer that ended by its length limit, or without an end, never
get here (the run loop drops them), so the model itself ended this text. If it ended after a
complete value (not inside a text, not after a comma or a colon), only brackets are missing, and
they carry no content. If the result has every required field, the call is executed.
A list is never closed: items may be missing. A last number is accepted, since a finished answer has
finished its numbers. A text without its closing quote is never closed.
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
from agentcall.repair.fixes import Fixes, dump_json, make_fix

MAX_REPAIR_LENGTH = 100_000
"""Longer invalid JSON is refused, since repair is slow (characters)."""

_GUESS_RULE = "missing-comma"
_FENCE = re.compile(r"\s*(?:```|~~~)[ \t]*(?:[A-Za-z]\w*)?\s*\n?(.*?)\s*(?:```|~~~)?\s*", re.DOTALL)
_SURPLUS = re.compile(r"(?:[\s\]})`;]|<[|｜][^<>]{1,40}[|｜]>|</?[A-Za-z]\w{0,29}>)*")
_MAX_OPEN_BRACKETS = 32
_MAX_REPEATS = 32


@dataclass(frozen=True, slots=True)
class ParsedArguments:
    """A JSON value parsed from text, and the fixes that were needed."""

    value: JSON
    fixes: Fixes = ()


def parse_arguments(text: str) -> ParsedArguments | None:
    """Return the value that the text of arguments means; None if that is ambiguous."""
    return next(filter(_is_encodable, _iter_candidates(text)), None)


def is_guess(reading: ParsedArguments) -> bool:
    """Whether the structure of the text was guessed, so that nothing else may be dropped."""
    return any(fix.rule == _GUESS_RULE for fix in reading.fixes)


def parse_inner(text: str) -> ParsedArguments | None:
    """Return the list or object inside a text of the arguments; brackets are never closed."""
    if not text.lstrip().startswith(("{", "[", "(", "`")):
        return None
    strict = _parse_strictly(text)
    reading = _strip_fence(text) if strict is None else ParsedArguments(strict[0])
    reading = reading or _parse_leniently(text)
    if reading is None or is_guess(reading):
        return None
    if not isinstance(reading.value, (dict, list)):
        return None
    return reading if _is_encodable(reading) else None


def _iter_candidates(text: str) -> Iterator[ParsedArguments]:
    strict = _parse_strictly(text)
    if strict:
        yield ParsedArguments(strict[0])
        return
    for step in (
        _strip_fence,
        _drop_surplus,
        _unescape_quotes,
        _undouble_braces,
        _parse_leniently,
        _close_brackets,
        _drop_sentences,
    ):
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
    """Return the value in a tuple, as null is a value."""
    try:
        return (parse_strict_json(text),)
    except (ValueError, RecursionError):
        return None


def _strip_fence(text: str) -> ParsedArguments | None:
    match = _FENCE.fullmatch(text) if text.lstrip().startswith(("```", "~~~")) else None
    if not match or not match[1]:
        return None
    strict = _parse_strictly(match[1])
    inner = (
        ParsedArguments(strict[0])
        if strict
        else _parse_leniently(match[1]) or _close_brackets(match[1])
    )
    return inner and ParsedArguments(
        inner.value, (make_fix("fenced", text, match[1]), *inner.fixes)
    )


def _parse_leniently(text: str) -> ParsedArguments | None:
    try:
        parsed = None if len(text) > MAX_REPAIR_LENGTH else parse_lenient_json(text)
    except (ValueError, RecursionError):  # a number is too long or a value too deep
        return None
    if parsed is None or isinstance(parsed, UnreadableJSON):
        return None
    rule = "python-literal" if "python" in parsed.rule else "json-syntax"
    if "missing comma" in parsed.rule:
        rule = _GUESS_RULE
    return ParsedArguments(parsed.value, (make_fix(rule, text, _format_json(parsed.value)),))


def _format_json(value: JSON) -> str:
    try:
        return dump_json(value)
    except (ValueError, RecursionError):
        return repr(value)


def _unescape_quotes(text: str) -> ParsedArguments | None:
    inner = _parse_strictly(f'"{text.strip()}"') if text.lstrip().startswith('{\\"') else None
    strict = _parse_strictly(inner[0]) if inner and isinstance(inner[0], str) else None
    if strict is None:
        return None
    return ParsedArguments(strict[0], (make_fix("double-encoded", text, _format_json(strict[0])),))


_DOUBLED_BRACES = re.compile(r"\s*\{(\s*\{.*\}\s*)\}\s*", re.DOTALL)


def _undouble_braces(text: str) -> ParsedArguments | None:
    """Return the object in two pairs of braces, as a template of Python's `format` is written."""
    match = _DOUBLED_BRACES.fullmatch(text)
    strict = _parse_strictly(match[1]) if match else None
    if match is None or strict is None:
        return None
    return ParsedArguments(strict[0], (make_fix("surplus", text, match[1].strip()),))


def _drop_surplus(text: str) -> ParsedArguments | None:
    """Return the only value of a text that repeats it or adds meaningless characters."""
    values = {_format_json(value): value for value in _split_values(text)}
    if len(values) > 1 and all(isinstance(value, dict) for value in values.values()):
        values.pop("{}", None)
    if len(values) != 1:
        return None
    ((written, value),) = values.items()
    if not isinstance(value, (dict, list, str)):
        return None
    return ParsedArguments(value, (make_fix("surplus", text, written),))


def _split_values(text: str) -> list[JSON]:
    """Return the JSON values of a text; none if it contains more than those and surplus."""
    values: list[JSON] = []
    position = 0
    while len(values) < _MAX_REPEATS:
        position = cast("re.Match[str]", _SURPLUS.match(text, position)).end()
        if position == len(text):
            return values
        try:
            value, position = cast("tuple[JSON, int]", STRICT_DECODER.raw_decode(text, position))
        except (ValueError, RecursionError):
            return []
        values.append(value)
    return []


def _drop_sentences(text: str) -> ParsedArguments | None:
    """Return the only object of a text that has a sentence before or after it."""
    start = text.find("{")
    end = BracketMatcher().scan(text, start) if start >= 0 else -1
    if end < 0 or len(text) > MAX_REPAIR_LENGTH:
        return None
    before, after = _FENCE_LINE.sub("\n", text[:start]), _FENCE_LINE.sub("\n", text[end:])
    if not (_is_sentence(before, is_before=True) and _is_sentence(after)):
        return None
    strict = _parse_strictly(text[start:end])
    inner = ParsedArguments(strict[0]) if strict else _parse_leniently(text[start:end])
    if inner is None or is_guess(inner) or not inner.value:
        return None
    return ParsedArguments(
        inner.value, (make_fix("surplus-text", text, text[start:end]), *inner.fixes)
    )


_FENCE_LINE = re.compile(r"(?:^|\n)[ \t]*(?:```|~~~)[ \t]*[a-z0-9]*[ \t]*(?:\n|$)")
_SENTENCE = re.compile(r"""[^\d{}\[\]"“”`<>=+*/\\|@#$%^&~_€£¥°×÷]*""")
_WORDS = re.compile(r"[^\W\d_]+")
_CJK = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]{2}")
_MIN_WORDS = 3


def _is_sentence(text: str, *, is_before: bool = False) -> bool:
    """Whether a text beside an object is blank, or a sentence that holds no value."""
    if not text.strip(" \t\r\n.,;"):
        return True
    if not _SENTENCE.fullmatch(text):
        return False
    if text.lstrip().startswith(("--", "—", "(")):  # a remark
        return True
    if is_before:
        is_apart = "\n" in text[len(text.rstrip()) :] or text.rstrip().endswith((":", "："))
    else:
        is_apart = "\n" in text[: len(text) - len(text.lstrip())]
    return is_apart or len(_WORDS.findall(text)) >= _MIN_WORDS or bool(_CJK.search(text))


def _close_brackets(text: str) -> ParsedArguments | None:
    missing = _find_missing_brackets(text)
    if not missing:
        return None
    strict = _parse_strictly(text + missing)
    inner = ParsedArguments(strict[0]) if strict else _parse_leniently(text + missing)
    if inner is None or is_guess(inner):
        return None
    return ParsedArguments(
        inner.value, (make_fix("closed-brackets", text, text + missing), *inner.fixes)
    )


def _find_missing_brackets(text: str) -> str:
    """Return the closing brackets that are missing after a complete value; else empty."""
    if text.rstrip()[-1:] in ("", ",", ":", "{", "["):
        return ""
    balance = BracketMatcher()
    is_closed = balance.scan(text, 0) >= 0
    if (
        is_closed
        or balance.has_stopped
        or balance.quote
        or len(balance.open_closers) > _MAX_OPEN_BRACKETS
    ):
        return ""
    if set(balance.open_closers) != {"}"}:  # a list may lack items
        return ""
    return "".join(reversed(balance.open_closers))
