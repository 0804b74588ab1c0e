"""`agentcall tools`: what tools there are, what a model is told of them, and a call by hand."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import typer

from agentcall.cli.options import command_of

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="List tools, show their schemas, call them by hand.",
)

Given = Annotated[
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
class ListOptions:
    """What `agentcall tools list` is told."""

    tools: Given = None
    json: Annotated[bool, typer.Option("--json", help="Print a JSON array.")] = False


@dataclass(frozen=True, slots=True)
class SchemaOptions:
    """What `agentcall tools schema` is told."""

    names: Annotated[
        list[str] | None, typer.Argument(metavar="NAME...", help="Tools; without any, those of -t.")
    ] = None
    tools: Given = None


@dataclass(frozen=True, slots=True)
class CallOptions:
    """What `agentcall tools call` is told."""

    name: Annotated[str, typer.Argument(help="The tool.")]
    arguments: Annotated[
        str, typer.Argument(help="Its arguments, a JSON object; - reads standard input.")
    ] = "{}"
    tools: Given = None


def _list(options: ListOptions) -> None:
    from agentcall.cli.catalogue import show_list

    show_list(options.tools or (), as_json=options.json)


def _schema(options: SchemaOptions) -> None:
    from agentcall.cli.catalogue import show_schemas

    show_schemas(options.names or (), options.tools or ())


def _call(options: CallOptions) -> None:
    from agentcall.cli.handcall import call_by_hand

    if not call_by_hand(options):
        raise typer.Exit(1)


app.command("list", help="List the ready tools of installed packages, and those of -t.")(
    command_of(ListOptions, _list)
)
app.command("schema", help="Print the OpenAI tool object of each tool, as JSON.")(
    command_of(SchemaOptions, _schema)
)
app.command(
    "call",
    help="Call a tool with JSON arguments, repaired and checked as in a run; print its result.\n\n"
    "Exit code 1: the arguments do not fit, or the tool failed.",
)(command_of(CallOptions, _call))
