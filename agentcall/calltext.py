"""A tool call as a person reads it: `add(a=3, b=5)`."""

from __future__ import annotations

import json
from typing import cast

from agentcall.messages import ToolCall
from agentcall.plaintext import line_of, visible

_ONE_LINE = 200


def call_line(call: ToolCall, most: int) -> str:
    """The call on one line, at most `most` characters of its arguments."""
    return f"{line_of(call.name, 80)}({arguments_line(call.arguments, most)})"


def arguments_line(arguments: str, most: int) -> str:
    """JSON arguments as `a=3, b="x"`, each value short if all do not fit; else as they are."""
    try:
        parsed: object = json.loads(arguments)
    except ValueError:
        parsed = None
    if not isinstance(parsed, dict):
        return line_of(arguments, most)
    values = cast("dict[str, object]", parsed)
    shown = {name: json.dumps(value, ensure_ascii=False) for name, value in values.items()}
    whole = ", ".join(f"{name}={value}" for name, value in shown.items())
    if len(whole) <= most:
        return line_of(whole)
    share = max(16, most // len(shown))
    return line_of(", ".join(f"{n}={line_of(v, share)}" for n, v in shown.items()), most)


def whole_call(call: ToolCall, asked_by: str = "") -> str:
    """All of a call, for a person who decides about it: nothing is cut, nothing is invisible.

    asked_by: the agent that asks for it, where it is not the one that the person talks to.
    An argument a line where they are long. What JSON may say in more ways than one (a name twice,
    a fraction) is shown as it is written.
    """
    name = visible(f"{asked_by} ▸ {call.name}" if asked_by else call.name)
    values = _told_plainly(call.arguments)
    if values is None:
        return f"{name} {visible(call.arguments)}"
    shown = [f"{visible(key)}={visible(text)}" for key, text in values.items()]
    line = f"{name}({', '.join(shown)})"
    return line if len(line) <= _ONE_LINE else "\n    ".join([f"{name}", *shown])


def _told_plainly(arguments: str) -> dict[str, str] | None:
    """The values of arguments as JSON text; None where that might not be what was written."""
    odd: list[str] = []

    def fraction(text: str) -> float:
        odd.append(text)
        return 0.0

    def once(pairs: list[tuple[str, object]]) -> dict[str, object]:
        if len({key for key, _ in pairs}) != len(pairs):
            odd.append("a name twice")
        return dict(pairs)

    try:
        parsed: object = json.loads(arguments, object_pairs_hook=once, parse_float=fraction)
    except (ValueError, RecursionError):
        return None
    if odd or not isinstance(parsed, dict):
        return None
    values = cast("dict[str, object]", parsed)
    return {key: json.dumps(value, ensure_ascii=False) for key, value in values.items()}
