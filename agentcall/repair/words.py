"""What the model is told about a call that was not carried out: short, and with what to do."""

from __future__ import annotations

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
    """The arguments are no JSON; what was sent, where it breaks, what is wanted."""
    sent = f"You sent: {shortened(arguments, _SENT)}"
    return f"{_lines(error)}\n{sent}\n{_NOTHING} Call {tool.name} again with one whole JSON object."


def wrong(tool: Tool, error: ArgumentsError) -> str:
    """The arguments do not fit; each wrong field, what was sent, what is expected."""
    if not properties_of(tool.parameters):
        return f"{_lines(error)}\n{_NOTHING} Call {tool.name} again with {{}}."
    return f"{_lines(error)}\n{_NOTHING} Call {tool.name} again with every field put right."


def _lines(error: ArgumentsError) -> str:
    """The error's own lines, of which a model reads only so many."""
    lines = [shortened(line) for line in str(error).splitlines()]
    if len(lines) > _PROBLEMS:
        lines[_PROBLEMS - 1 : -1] = [f"- and {len(lines) - _PROBLEMS} more"]
    return "\n".join(lines)
