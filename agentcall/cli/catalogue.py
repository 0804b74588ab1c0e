"""Tools as a table, and as the JSON that a model's server gets."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import cast

import orjson

from agentcall.cli.kits import load_toolkits
from agentcall.cli.loading import load_tool, load_tools
from agentcall.cli.plain import escape_json, is_terminal
from agentcall.display import to_single_line
from agentcall.errors import UsageError
from agentcall.messages import JSON
from agentcall.tools.registry import ToolRegistry
from agentcall.tools.tool import Tool, ToolOptions

_DEFAULTS = ToolOptions()


def print_tools(words: Sequence[str], *, as_json: bool) -> None:
    """Prints the tools: the ready ones, those of the words, those that need a word."""
    tools = dict.fromkeys((*ToolRegistry.discover(), *load_tools(words)), "")
    known = {tool.name for tool in tools}
    for kit in load_toolkits().values():
        tools |= {tool: f"-t {kit.usage}" for tool in kit.tools if tool.name not in known}
    if as_json:
        _write_json([_row_to_json(tool, how) for tool, how in tools.items()])
    elif is_terminal(sys.stdout):
        _print_table(tools)
    else:
        rows = (_format_row(tool, how) for tool, how in tools.items())
        sys.stdout.writelines("\t".join(row) + "\n" for row in rows)


def print_schemas(names: Sequence[str], words: Sequence[str]) -> None:
    """Prints the tool object of a tool, or an array of several."""
    given = load_tools(words)
    tools = [load_tool(name, given) for name in names] or list(given)
    if not tools:
        raise UsageError("name a tool, or add some with -t; `agentcall tools list` shows the ready")
    definitions = [tool.definition for tool in tools]
    _write_json(definitions[0] if len(names) == 1 else definitions)


def _print_table(tools: Mapping[Tool, str]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, header_style="dim", pad_edge=False)
    for heading, style in (("tool", "bold cyan"), ("what it does", ""), ("from", "dim")):
        table.add_column(heading, style=style, overflow="fold")
    for tool, how in tools.items():
        name, arguments, description, marks, place = _format_row(tool, how)
        does = Text(description or "no description").append(f"\n({arguments})", "dim")
        if marks:
            does.append(f"  {marks}", "yellow")
        table.add_row(Text(name), does, Text(place))
    Console(highlight=False).print(table)


def _format_row(tool: Tool, how: str) -> tuple[str, str, str, str, str]:
    """A tool in words, and where it is from: `how` says what it is made with, if it has to be."""
    summary = to_single_line(tool.description.partition("\n")[0], 120)
    arguments, place = (
        to_single_line(_format_parameters(tool)),
        to_single_line(how or _locate(tool)),
    )
    return to_single_line(tool.name), arguments, summary, ", ".join(_list_marks(tool)), place


def _row_to_json(tool: Tool, how: str) -> dict[str, JSON]:
    return {
        "name": tool.name,
        "description": tool.description,
        "arguments": _format_parameters(tool),
        "marks": _list_marks(tool),
        "from": _locate(tool),
        "needs": how,
    }


def _format_parameters(tool: Tool) -> str:
    """The parameters in few words; a question mark for one that may be left out."""
    properties = tool.parameters.get("properties")
    required = tool.parameters.get("required")
    needed = required if isinstance(required, Sequence) else ()
    named: Mapping[str, JSON] = properties if isinstance(properties, Mapping) else {}
    return ", ".join(
        f"{name}{'' if name in needed else '?'}: {_format_type(schema)}"
        for name, schema in named.items()
    )


def _format_type(schema: JSON) -> str:
    match schema:
        case {"enum": [*values]}:
            return "|".join(str(value) for value in values)
        case {"type": "array", "items": items}:
            return f"{_format_type(items)}[]"
        case {"type": str(kind)}:
            return kind
        case {"type": [*kinds]}:
            return "|".join(str(kind) for kind in kinds)
        case {"anyOf": [*options]}:
            return "|".join(_format_type(option) for option in options)
        case {"const": value}:
            return str(value)
        case {"$ref": _}:
            return "object"
        case _:
            return "any"


def _list_marks(tool: Tool) -> list[str]:
    """The marks that differ from those of a plain tool."""
    marks: list[str] = []
    for field in fields(ToolOptions):
        value = getattr(tool.options, field.name)
        if value is True:
            marks.append(field.name.replace("_", " "))
        elif value != getattr(_DEFAULTS, field.name):
            marks.append(f"{field.name.replace('_', ' ')} {_format_value(value)}")
    return marks


def _format_value(value: object) -> str:
    """The value of a mark in words."""
    match value:
        case None:
            return "none"
        case int() | float():
            return f"{value:g}"
        case list() | tuple():
            return " ".join(map(str, cast("Sequence[object]", value)))
        case _:
            return str(value)


def _locate(tool: Tool) -> str:
    """The module of an installed package's tool; the file and line of the user's own."""
    module = getattr(tool, "__module__", "")
    if module and not module.startswith("agentcall_file_") and module in sys.modules:
        return module
    path, _, line = tool.location.rpartition(":")
    near = os.path.relpath(path) if Path(path).is_absolute() else path
    return f"{path if near.startswith('..') else near}:{line}"


def _write_json(value: JSON) -> None:
    whole = orjson.dumps(value, option=orjson.OPT_INDENT_2)
    sys.stdout.buffer.write(escape_json(whole) + b"\n")
    sys.stdout.buffer.flush()
