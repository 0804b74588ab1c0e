"""`agentcall tools`: what tools there are, what a model is told of them, and a call by hand."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import typer

from agentcall.cli.options import make_command

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="List tools, show their schemas, call them by hand.",
)

ExtraToolsOption = Annotated[
    list[str] | None,
    typer.Option(
        "-t",
        "--tool",
        metavar="TOOL",
        help="Other tools too: files=FOLDER and its like, module, module:name, file.py, "
        "file.py:name, mcp:COMMAND or mcp:URL. Repeatable.",
    ),
]


@dataclass(frozen=True, slots=True)
class ToolListOptions:
    """What `agentcall tools list` is told."""

    tools: ExtraToolsOption = None
    json: Annotated[bool, typer.Option("--json", help="Print a JSON array.")] = False


@dataclass(frozen=True, slots=True)
class ToolSchemaOptions:
    """What `agentcall tools schema` is told."""

    names: Annotated[
        list[str] | None, typer.Argument(metavar="NAME...", help="Tools; without any, those of -t.")
    ] = None
    tools: ExtraToolsOption = None


@dataclass(frozen=True, slots=True)
class ToolCallOptions:
    """What `agentcall tools call` is told."""

    name: Annotated[str, typer.Argument(help="The tool.")]
    arguments: Annotated[
        str, typer.Argument(help="Its arguments, a JSON object; - reads standard input.")
    ] = "{}"
    tools: ExtraToolsOption = None


def _list_tools_command(options: ToolListOptions) -> None:
    from agentcall.cli.catalogue import print_tools

    print_tools(options.tools or (), as_json=options.json)


def _print_schemas_command(options: ToolSchemaOptions) -> None:
    from agentcall.cli.catalogue import print_schemas

    print_schemas(options.names or (), options.tools or ())


def _call_tool_command(options: ToolCallOptions) -> None:
    from agentcall.cli.handcall import call_tool

    if not call_tool(options):
        raise typer.Exit(1)


app.command("list", help="List the ready tools of installed packages, and those of -t.")(
    make_command(ToolListOptions, _list_tools_command)
)
app.command("schema", help="Print the OpenAI tool object of each tool, as JSON.")(
    make_command(ToolSchemaOptions, _print_schemas_command)
)
app.command(
    "call",
    help="Call a tool with JSON arguments, repaired and checked as in a run; print its result.\n\n"
    "Exit code 1: the arguments do not fit, or the tool failed.",
)(make_command(ToolCallOptions, _call_tool_command))
