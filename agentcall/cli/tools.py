"""`agentcall tools`: list tools, print the schemas that a model gets, call a tool by hand."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, cast

import typer

from agentcall.cli.command import add_command, make_group
from agentcall.cli.errors import is_debugging, print_tool_errors, print_warning
from agentcall.cli.interrupt import InterruptibleLoop
from agentcall.cli.load import load_tool, load_toolkits, load_tools, read_stdin
from agentcall.cli.options import JSONArrayOption
from agentcall.cli.terminal import is_terminal, make_table, style_text, write_json, write_text
from agentcall.dialects.answer_parts import ToolCallPart
from agentcall.display import strip_control_characters, to_single_line
from agentcall.errors import UsageError
from agentcall.messages import JSON, ToolCall
from agentcall.repair import RefusedCall, repair_call
from agentcall.result import ToolFailure
from agentcall.runtime.executor import execute_once
from agentcall.runtime.planned_call import PlannedCall
from agentcall.tools.registry import ToolRegistry
from agentcall.tools.tool import RunContext, Tool, ToolOptions

ExtraToolsOption = Annotated[
    list[str] | None,
    typer.Option(
        "-t",
        "--tool",
        metavar="TOOL",
        help="More tools: a toolkit such as files=FOLDER, module, module:name, file.py, "
        "file.py:name, mcp:COMMAND or mcp:URL. Repeatable.",
    ),
]

_DEFAULTS = ToolOptions()
_MAX_RESULT = 10_000_000
"""Characters of a result: a person can page through it, unlike a model."""


@dataclass(frozen=True, slots=True)
class ToolListOptions:
    """Options of `agentcall tools list`."""

    tools: ExtraToolsOption = None
    json: JSONArrayOption = False


@dataclass(frozen=True, slots=True)
class ToolSchemaOptions:
    """Options of `agentcall tools schema`."""

    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="NAME...", help="Tools. Default: the tools of -t."),
    ] = None
    tools: ExtraToolsOption = None


@dataclass(frozen=True, slots=True)
class ToolCallOptions:
    """Options of `agentcall tools call`."""

    name: Annotated[str, typer.Argument(help="The tool.")]
    arguments: Annotated[
        str, typer.Argument(help="The arguments, a JSON object; - reads standard input.")
    ] = "{}"
    tools: ExtraToolsOption = None


def list_tools(options: ToolListOptions) -> None:
    """Print the ready tools, those of -t, and those of toolkits with how to add them."""
    tools = dict.fromkeys((*ToolRegistry.discover(), *load_tools(options.tools or ())), "")
    known = {tool.name for tool in tools}
    for kit in load_toolkits().values():
        tools |= {tool: f"-t {kit.usage}" for tool in kit.tools if tool.name not in known}
    if options.json:
        write_json([_row_to_json(tool, usage) for tool, usage in tools.items()], indent=True)
    elif is_terminal(sys.stdout):
        _print_table(tools)
    else:
        for tool, usage in tools.items():
            sys.stdout.write("\t".join(_format_row(tool, usage)) + "\n")


def print_schemas(options: ToolSchemaOptions) -> None:
    """Print the tool object of a tool, or an array of several."""
    registry = load_tools(options.tools or ())
    tools = [load_tool(name, registry) for name in options.names or ()] or list(registry)
    if not tools:
        raise UsageError("name a tool or add some with -t; `agentcall tools list` lists the ready")
    definitions = [tool.definition for tool in tools]
    write_json(definitions[0] if len(options.names or ()) == 1 else definitions, indent=True)


def call_tool(options: ToolCallOptions) -> int:
    """Print the tool's result, or an error to standard error; return the exit code."""
    tool = load_tool(options.name, load_tools(options.tools or ()))
    arguments = read_stdin() if options.arguments == "-" else options.arguments
    repaired = repair_call(ToolCallPart(tool.name, arguments), {tool.name: tool})
    if isinstance(repaired, RefusedCall):
        return _print_failure(repaired.message)
    for fix in repaired.fixes:
        print_warning(f"repaired {fix.rule}: {fix.before} -> {fix.after}")
    call = ToolCall("call_1", repaired.tool.name, repaired.arguments)
    context = RunContext[object](deps=None, tool_call_id=call.id, tool_name=call.name)
    planned = PlannedCall(call, "run", repaired.tool, repaired.values, context)
    with InterruptibleLoop() as loop:
        result, exception = loop.run(execute_once(planned, _MAX_RESULT))
    if exception is not None and is_debugging():
        failure = ToolFailure(call, exception)
        print_tool_errors([failure], verbose=True)
    if result.is_error:
        return _print_failure(result.text)
    write_text(strip_control_characters(result.text) + "\n")
    return 0


def _print_failure(text: str) -> int:
    sys.stderr.write(style_text(strip_control_characters(text), "red", sys.stderr) + "\n")
    return 1


def _print_table(tools: Mapping[Tool, str]) -> None:
    from rich.console import Console
    from rich.table import Column
    from rich.text import Text

    table = make_table(
        Column("tool", style="bold cyan", overflow="fold"),
        Column("description", overflow="fold"),
        Column("from", style="dim", overflow="fold"),
    )
    for tool, usage in tools.items():
        name, parameters, summary, marks, source = _format_row(tool, usage)
        description = Text(summary or "no description").append(f"\n({parameters})", "dim")
        if marks:
            description.append(f"  {marks}", "yellow")
        table.add_row(Text(name), description, Text(source))
    Console(highlight=False).print(table)


def _format_row(tool: Tool, usage: str) -> tuple[str, str, str, str, str]:
    """Return name, parameters, description, marks, and the source or how to add the tool."""
    return (
        to_single_line(tool.name),
        to_single_line(_format_parameters(tool)),
        to_single_line(tool.description.partition("\n")[0], 120),
        ", ".join(_list_marks(tool)),
        to_single_line(usage or _locate(tool)),
    )


def _row_to_json(tool: Tool, usage: str) -> dict[str, JSON]:
    return {
        "name": tool.name,
        "description": tool.description,
        "arguments": _format_parameters(tool),
        "marks": _list_marks(tool),
        "from": _locate(tool),
        "needs": usage,
    }


def _format_parameters(tool: Tool) -> str:
    """Return the parameters with their types; a question mark follows an optional one."""
    properties = tool.parameters.get("properties")
    required = tool.parameters.get("required")
    required_names = required if isinstance(required, Sequence) else ()
    schemas: Mapping[str, JSON] = properties if isinstance(properties, Mapping) else {}
    return ", ".join(
        f"{name}{'' if name in required_names else '?'}: {_format_type(schema)}"
        for name, schema in schemas.items()
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
    """Return the tool's options that differ from the defaults."""
    marks: list[str] = []
    for field in fields(ToolOptions):
        value: object = getattr(tool.options, field.name)
        name = field.name.replace("_", " ")
        if value is True:
            marks.append(name)
        elif value != getattr(_DEFAULTS, field.name):
            marks.append(f"{name} {_format_value(value)}")
    return marks


def _format_value(value: object) -> str:
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
    """Return the module of an installed package's tool, or file and line of the user's own."""
    module = getattr(tool, "__module__", "")
    if module and not module.startswith("agentcall_file_") and module in sys.modules:
        return module
    path, _, line = tool.location.rpartition(":")
    relative = os.path.relpath(path) if Path(path).is_absolute() else path
    return f"{path if relative.startswith('..') else relative}:{line}"


app = make_group("List tools, show their schemas, call them by hand.")
add_command(
    app,
    "list",
    ToolListOptions,
    list_tools,
    "List the ready tools of installed packages, and those of -t.",
)
add_command(
    app,
    "schema",
    ToolSchemaOptions,
    print_schemas,
    "Print the OpenAI tool object of each tool, as JSON.",
)
add_command(
    app,
    "call",
    ToolCallOptions,
    call_tool,
    "Call a tool by hand and print its result.\n\nThe JSON arguments are repaired and validated "
    "as in a run. Exit code 1: they do not fit, or the tool failed.",
)
