"""A tool call as a person reads it: `add(a=3, b=5)`."""

from __future__ import annotations

import json
from typing import cast

from agentcall.cli.plain import line_of
from agentcall.messages import ToolCall


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
