"""Text of models and tools for a terminal: without control characters, calls as `add(a=3, b=5)`."""

from __future__ import annotations

import json
import re
from typing import cast

from agentcall.messages import ToolCall

_ESCAPE_SEQUENCE = re.compile(
    r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[@-Z\\^_])"
)
_MAX_LINE = 200
_CONTROL_CHARACTERS = {
    code: None for code in (*range(32), *range(127, 160)) if chr(code) not in "\n\t"
}


def strip_control_characters(text: str) -> str:
    """Return the text without control characters, except line ends and tabs.

    So no tool can move the cursor.
    """
    return _ESCAPE_SEQUENCE.sub("", text).translate(_CONTROL_CHARACTERS)


def to_single_line(text: str, max_chars: int | None = None) -> str:
    """Return the text on one line, of at most `max_chars` characters."""
    line = " ".join(strip_control_characters(text).split())
    return line if max_chars is None or len(line) <= max_chars else line[: max_chars - 1] + "…"


def escape_invisible(text: str) -> str:
    """Return the text with an escape for each character that is invisible or moves others."""
    return "".join(char if char.isprintable() else json.dumps(char)[1:-1] for char in text)


def format_call(call: ToolCall, max_chars: int) -> str:
    """Return the call on one line, with at most `max_chars` characters of its arguments."""
    return f"{to_single_line(call.name, 80)}({format_arguments(call.arguments, max_chars)})"


def format_arguments(arguments: str, max_chars: int) -> str:
    """Return JSON arguments as `a=3, b="x"`, with each value shortened if they do not all fit."""
    try:
        parsed: object = json.loads(arguments)
    except ValueError:
        parsed = None
    if not isinstance(parsed, dict):
        return to_single_line(arguments, max_chars)
    values = cast("dict[str, object]", parsed)
    shown = {name: json.dumps(value, ensure_ascii=False) for name, value in values.items()}
    whole = ", ".join(f"{name}={value}" for name, value in shown.items())
    if len(whole) <= max_chars:
        return to_single_line(whole)
    share = max(16, max_chars // len(shown))
    return to_single_line(
        ", ".join(f"{n}={to_single_line(v, share)}" for n, v in shown.items()), max_chars
    )


def format_full_call(call: ToolCall, agent: str = "") -> str:
    """Return all of a call, for a person who decides about it: nothing is cut or invisible.

    Long arguments are on a line each. JSON that a parser may read in more than one way (a name
    twice, a fraction) is shown as it is written.

    agent: the agent that makes the call, if it is not the one that the person talks to.
    """
    name = escape_invisible(f"{agent} ▸ {call.name}" if agent else call.name)
    values = _parse_lossless(call.arguments)
    if values is None:
        return f"{name} {escape_invisible(call.arguments)}"
    shown = [f"{escape_invisible(key)}={escape_invisible(text)}" for key, text in values.items()]
    line = f"{name}({', '.join(shown)})"
    return line if len(line) <= _MAX_LINE else "\n    ".join([f"{name}", *shown])


def _parse_lossless(arguments: str) -> dict[str, str] | None:
    """Return the values of the arguments as JSON text; None if they are ambiguous."""
    problems: list[str] = []

    def record_fraction(text: str) -> float:
        problems.append(text)
        return 0.0

    def reject_duplicates(pairs: list[tuple[str, object]]) -> dict[str, object]:
        if len({key for key, _ in pairs}) != len(pairs):
            problems.append("a repeated name")
        return dict(pairs)

    try:
        parsed: object = json.loads(
            arguments, object_pairs_hook=reject_duplicates, parse_float=record_fraction
        )
    except (ValueError, RecursionError):
        return None
    if problems or not isinstance(parsed, dict):
        return None
    values = cast("dict[str, object]", parsed)
    return {key: json.dumps(value, ensure_ascii=False) for key, value in values.items()}
