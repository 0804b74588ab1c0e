"""`agentcall sessions`: conversations that were kept, listed, read, searched, made shorter."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import typer

from agentcall.cli.flags import Model
from agentcall.cli.options import command_of

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="List, show, search, export, compact and delete sessions.\n\n"
    "`agentcall run --session ID` begins one, `agentcall run -c` goes on with the last. They are "
    "in the file AGENTCALL_SESSIONS, else ~/.local/share/agentcall/sessions.db.",
)

Id = Annotated[str, typer.Argument(metavar="ID", help="The session.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@dataclass(frozen=True, slots=True)
class ListOptions:
    """What `agentcall sessions list` is told."""

    json: Json = False


@dataclass(frozen=True, slots=True)
class ShowOptions:
    """What `agentcall sessions show` is told."""

    id: Id
    json: Json = False


@dataclass(frozen=True, slots=True)
class SearchOptions:
    """What `agentcall sessions search` is told."""

    words: Annotated[str, typer.Argument(help="Words that a message has to hold, all of them.")]
    session: Annotated[
        str | None, typer.Option("--session", metavar="ID", help="In this session alone.")
    ] = None
    most: Annotated[int, typer.Option("-n", min=1, help="Messages at most.")] = 20
    json: Json = False


@dataclass(frozen=True, slots=True)
class ExportOptions:
    """What `agentcall sessions export` is told."""

    id: Id
    format: Annotated[
        str | None,
        typer.Option(
            "-f", "--format", help="md, json or html. Default: by the file's name, or md."
        ),
    ] = None
    output: Annotated[
        str | None, typer.Option("-o", "--output", metavar="FILE", help="Else standard output.")
    ] = None


@dataclass(frozen=True, slots=True)
class CompactOptions:
    """What `agentcall sessions compact` is told."""

    id: Id
    keep: Annotated[int, typer.Option(min=0, help="Messages that stay at most.")] = 20
    summary: Annotated[
        bool, typer.Option("--summary", help="A model sums up what was before them.")
    ] = False
    model: Model = None


@dataclass(frozen=True, slots=True)
class DeleteOptions:
    """What `agentcall sessions delete` is told."""

    ids: Annotated[list[str], typer.Argument(metavar="ID...", help="The sessions.")]


def _list(options: ListOptions) -> None:
    from agentcall.cli.keptsessions import show_list

    show_list(options)


def _show(options: ShowOptions) -> None:
    from agentcall.cli.keptsessions import show

    show(options)


def _search(options: SearchOptions) -> None:
    from agentcall.cli.keptsessions import search

    if not search(options):
        raise typer.Exit(1)


def _export(options: ExportOptions) -> None:
    from agentcall.cli.keptsessions import export

    export(options)


def _compact(options: CompactOptions) -> None:
    from agentcall.cli.keptsessions import compact

    compact(options)


def _delete(options: DeleteOptions) -> None:
    from agentcall.cli.keptsessions import delete

    delete(options)


app.command("list", help="List the sessions, the one that changed last first.")(
    command_of(ListOptions, _list)
)
app.command("show", help="Show a session, whole.")(command_of(ShowOptions, _show))
app.command("search", help="Find messages by their words.\n\nExit code 1: there is none.")(
    command_of(SearchOptions, _search)
)
app.command("export", help="Write a session as Markdown, JSON or a web page.")(
    command_of(ExportOptions, _export)
)
app.command(
    "compact",
    help="Make what the next run is given shorter. The session itself keeps all of it.",
)(command_of(CompactOptions, _compact))
app.command("delete", help="Delete sessions, for good.")(command_of(DeleteOptions, _delete))
