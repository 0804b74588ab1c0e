"""Texts that spell out a number, a boolean or null: the value, and the rule by which it is read."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TypeAlias

from agentcall.jsontext import is_exact
from agentcall.messages import JSON

ScalarMatch: TypeAlias = "tuple[str, JSON]"
ScalarReader: TypeAlias = Callable[[str], "ScalarMatch | None"]

_BLANK_WORDS = frozenset({"", "none", "null", "undefined", "nil"})
_INTEGER = re.compile(r"\s*[+-]?\d{1,400}(?:\.0{1,40})?\s*", re.ASCII)
_NUMBER = re.compile(
    r"\s*[+-]?(?:\d{1,400}(?:\.\d{0,400})?|\.\d{1,400})(?:[eE][+-]?\d{1,3})?\s*", re.ASCII
)


def is_blank(value: JSON) -> bool:
    """Whether a value says that there is none: null, nothing, or the word for it."""
    return value is None or (isinstance(value, str) and value.strip().lower() in _BLANK_WORDS)


def get_scalar_rule(value: JSON) -> str:
    """The rule by which a text becomes this value."""
    match value:
        case bool():
            return "bool-from-text"
        case None:
            return "null-from-text"
        case _:
            return "number-from-text"


def _read_integer(text: str) -> ScalarMatch | None:
    if not _INTEGER.fullmatch(text):
        return None
    return "number-from-text", int(text.strip().partition(".")[0])


def _read_number(text: str) -> ScalarMatch | None:
    whole = _read_integer(text)
    if whole or not _NUMBER.fullmatch(text):
        return whole
    number = float(text)
    return ("number-from-text", number) if is_exact(number, text.strip()) else None


def _read_bool(text: str) -> ScalarMatch | None:
    plain = text.strip().lower()
    return ("bool-from-text", plain == "true") if plain in ("true", "false") else None


def _read_null(text: str) -> ScalarMatch | None:
    return ("null-from-text", None) if is_blank(text) else None


def _read_text(text: str) -> ScalarMatch | None:
    return None


SCALAR_READERS: dict[str, ScalarReader] = {
    "integer": _read_integer,
    "number": _read_number,
    "boolean": _read_bool,
    "null": _read_null,
    "string": _read_text,
}
