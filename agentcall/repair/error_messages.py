"""The sentences for the model about a call that was not executed: short, and with what to do."""

from __future__ import annotations

import re
from collections.abc import Collection

from agentcall.errors import ArgumentsError
from agentcall.repair.arguments import get_properties
from agentcall.repair.fixes import shorten
from agentcall.repair.tool_name import find_similar_names
from agentcall.tools.search import FIND_TOOLS
from agentcall.tools.tool import Tool

_MAX_TOOL_NAMES = 40
_MAX_ECHO_LENGTH = 200
_MAX_PROBLEM_LINES = 12
_MAX_HINT_INPUT = 2_000
_STRING = re.compile(r'"(?:[^"\\]|\\.)*"')
_EXPRESSION = re.compile(r"[\d)]\s*[-+*/^×÷]{1,2}\s*[\d(]")
_DATE = re.compile(r"\d{4}-\d\d?-\d\d?|\d\d?:\d\d")
_UNIT = re.compile(r"\d[\d.,_]*\s*(?:[^\W\d_]{1,20}\b|[%°€$£¥])|[€$£¥]\s*\d|\d\s+\d")
_NOT_EXECUTED = "Nothing was carried out."


def format_unknown_tool(wrote: str, names: Collection[str]) -> str:
    """Format the message for an unknown tool, with the tools that exist."""
    message = f"There is no tool named {shorten(wrote, 80)!r}. {_NOT_EXECUTED}"
    if not names:
        return f"{message} There are no tools: answer in plain text."
    similar = find_similar_names(wrote, names)
    if FIND_TOOLS in names:
        tools = f"Search for the right one with {FIND_TOOLS}."
    elif len(names) > _MAX_TOOL_NAMES:
        shown = [*similar, *(name for name in names if name not in similar)][:_MAX_TOOL_NAMES]
        tools = f"Some of the {len(names)} tools are: {', '.join(shown)}."
    else:
        tools = f"The tools are: {', '.join(names)}."
    hint = f" Did you mean {' or '.join(map(repr, similar))}?" if similar else ""
    return (
        f"{message}{hint} {tools} Call one of them by exactly its name, or answer without a tool."
    )


def format_unreadable_arguments(tool: Tool, arguments: str, error: ArgumentsError) -> str:
    """Format the message for arguments that are not JSON: where they break, and what to send."""
    sent = f"You sent: {shorten(arguments, _MAX_ECHO_LENGTH)}"
    again = f"{_NOT_EXECUTED} Call {tool.name} again with one whole JSON object."
    return "\n".join(filter(None, (_format_error_lines(error), sent, _find_hint(arguments), again)))


def format_wrong_arguments(tool: Tool, error: ArgumentsError) -> str:
    """Format the message for arguments that do not match: each wrong field and what is expected."""
    if not get_properties(tool.parameters):
        return f"{_format_error_lines(error)}\n{_NOT_EXECUTED} Call {tool.name} again with {{}}."
    texts = [problem.value for problem in error.problems if "number" in problem.expected]
    texts += [problem.value for problem in error.problems if "integer" in problem.expected]
    hint = next(filter(None, (_find_hint(text) for text in texts if isinstance(text, str))), "")
    again = f"{_NOT_EXECUTED} Call {tool.name} again with every field put right."
    return "\n".join(filter(None, (_format_error_lines(error), hint, again)))


def _find_hint(text: str) -> str:
    """Return how to replace an expression or a number with a unit; empty for anything else."""
    outside = text[:_MAX_HINT_INPUT]
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


def _format_error_lines(error: ArgumentsError) -> str:
    """Return the lines of the error, limited to what a model reads."""
    lines = [shorten(line) for line in str(error).splitlines()]
    if len(lines) > _MAX_PROBLEM_LINES:
        lines[_MAX_PROBLEM_LINES - 1 : -1] = [f"- and {len(lines) - _MAX_PROBLEM_LINES} more"]
    return "\n".join(lines)
