"""What the model is told about a call that was not carried out: short, and with what to do."""

from __future__ import annotations

import re
from collections.abc import Collection

from agentcall.errors import ArgumentsError
from agentcall.repair.fit import properties_of
from agentcall.repair.fix import shortened
from agentcall.repair.names import nearest
from agentcall.tool import Tool
from agentcall.tool_index import FINDER

_MANY = 40
_SENT = 200
_PROBLEMS = 12
_LOOKED_AT = 2_000
_STRING = re.compile(r'"(?:[^"\\]|\\.)*"')
_EXPRESSION = re.compile(r"[\d)]\s*[-+*/^×÷]{1,2}\s*[\d(]")
_DATE = re.compile(r"\d{4}-\d\d?-\d\d?|\d\d?:\d\d")
_UNIT = re.compile(r"\d[\d.,_]*\s*(?:[^\W\d_]{1,20}\b|[%°€$£¥])|[€$£¥]\s*\d|\d\s+\d")
_NOTHING = "Nothing was carried out."


def unknown_tool(wrote: str, names: Collection[str]) -> str:
    """There is no such tool; which there are."""
    said = f"There is no tool named {shortened(wrote, 80)!r}. {_NOTHING}"
    if not names:
        return f"{said} There are no tools: answer in plain text."
    like = nearest(wrote, names)
    if FINDER in names:
        tools = f"Search for the right one with {FINDER}."
    elif len(names) > _MANY:
        shown = like + [name for name in names if name not in like][: _MANY - len(like)]
        tools = f"Some of the {len(names)} tools are: {', '.join(shown)}."
    else:
        tools = f"The tools are: {', '.join(names)}."
    mean = f" Did you mean {' or '.join(map(repr, like))}?" if like else ""
    return f"{said}{mean} {tools} Call one of them by exactly its name, or answer without a tool."


def unreadable(tool: Tool, arguments: str, error: ArgumentsError) -> str:
    """The arguments are not JSON: what was sent, where it breaks, and what to send instead."""
    sent = f"You sent: {shortened(arguments, _SENT)}"
    again = f"{_NOTHING} Call {tool.name} again with one whole JSON object."
    return "\n".join(filter(None, (_lines(error), sent, _hint(arguments), again)))


def wrong(tool: Tool, error: ArgumentsError) -> str:
    """The arguments do not fit; each wrong field, what was sent, what is expected."""
    if not properties_of(tool.parameters):
        return f"{_lines(error)}\n{_NOTHING} Call {tool.name} again with {{}}."
    texts = [each.value for each in error.problems if "number" in each.expected]
    texts += [each.value for each in error.problems if "integer" in each.expected]
    hint = next(filter(None, (_hint(text) for text in texts if isinstance(text, str))), "")
    again = f"{_NOTHING} Call {tool.name} again with every field put right."
    return "\n".join(filter(None, (_lines(error), hint, again)))


def _hint(text: str) -> str:
    """What to write instead of an expression or a number with a unit; empty for anything else."""
    outside = text[:_LOOKED_AT]
    if text.lstrip().startswith(("{", "[")):
        outside = _STRING.sub("", outside)
    if _DATE.search(outside):
        return "Put a date or a time into double quotes, where the tool takes one."
    if _EXPRESSION.search(outside):
        return (
            "Expressions are not computed here: give the result as one number, "
            "or call a tool that computes it first."
        )
    if _UNIT.search(outside):
        return "Give a number alone: digits, without a unit, words or separators."
    return ""


def _lines(error: ArgumentsError) -> str:
    """The error's own lines, of which a model reads only so many."""
    lines = [shortened(line) for line in str(error).splitlines()]
    if len(lines) > _PROBLEMS:
        lines[_PROBLEMS - 1 : -1] = [f"- and {len(lines) - _PROBLEMS} more"]
    return "\n".join(lines)
