"""`agentcall sessions`: conversations that were kept, listed, read, searched, made shorter."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import typer

from agentcall.cli.flags import ModelOption
from agentcall.cli.options import make_command

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="List, show, search, export, compact and delete sessions.\n\n"
    "`agentcall run --session ID` begins one, `agentcall run -c` goes on with the last. They are "
    "in the file AGENTCALL_SESSIONS, else ~/.local/share/agentcall/sessions.db.",
)

SessionIdArgument = Annotated[str, typer.Argument(metavar="ID", help="The session.")]
SessionJSONOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@dataclass(frozen=True, slots=True)
class SessionListOptions:
    """What `agentcall sessions list` is told."""

    json: SessionJSONOption = False


@dataclass(frozen=True, slots=True)
class SessionShowOptions:
    """What `agentcall sessions show` is told."""

    id: SessionIdArgument
    json: SessionJSONOption = False


@dataclass(frozen=True, slots=True)
class SessionSearchOptions:
    """What `agentcall sessions search` is told."""

    words: Annotated[str, typer.Argument(help="Words that a message has to hold, all of them.")]
    session: Annotated[
        str | None, typer.Option("--session", metavar="ID", help="In this session alone.")
    ] = None
    most: Annotated[int, typer.Option("-n", min=1, help="Messages at most.")] = 20
    json: SessionJSONOption = False


@dataclass(frozen=True, slots=True)
class SessionExportOptions:
    """What `agentcall sessions export` is told."""

    id: SessionIdArgument
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
class SessionCompactOptions:
    """What `agentcall sessions compact` is told."""

    id: SessionIdArgument
    keep: Annotated[int, typer.Option(min=0, help="Messages that stay at most.")] = 20
    summary: Annotated[
        bool, typer.Option("--summary", help="A model sums up what was before them.")
    ] = False
    model: ModelOption = None


@dataclass(frozen=True, slots=True)
class SessionDeleteOptions:
    """What `agentcall sessions delete` is told."""

    ids: Annotated[list[str], typer.Argument(metavar="ID...", help="The sessions.")]


def _list_sessions_command(options: SessionListOptions) -> None:
    from agentcall.cli.keptsessions import print_sessions

    print_sessions(options)


def _show_session_command(options: SessionShowOptions) -> None:
    from agentcall.cli.keptsessions import print_session

    print_session(options)


def _search_sessions_command(options: SessionSearchOptions) -> None:
    from agentcall.cli.keptsessions import search_sessions

    if not search_sessions(options):
        raise typer.Exit(1)


def _export_session_command(options: SessionExportOptions) -> None:
    from agentcall.cli.keptsessions import export_session

    export_session(options)


def _compact_session_command(options: SessionCompactOptions) -> None:
    from agentcall.cli.keptsessions import compact_session

    compact_session(options)


def _delete_sessions_command(options: SessionDeleteOptions) -> None:
    from agentcall.cli.keptsessions import delete_sessions

    delete_sessions(options)


app.command("list", help="List the sessions, the one that changed last first.")(
    make_command(SessionListOptions, _list_sessions_command)
)
app.command("show", help="Show a session, whole.")(
    make_command(SessionShowOptions, _show_session_command)
)
app.command("search", help="Find messages by their words.\n\nExit code 1: there is none.")(
    make_command(SessionSearchOptions, _search_sessions_command)
)
app.command("export", help="Write a session as Markdown, JSON or a web page.")(
    make_command(SessionExportOptions, _export_session_command)
)
app.command(
    "compact",
    help="Make what the next run is given shorter. The session itself keeps all of it.",
)(make_command(SessionCompactOptions, _compact_session_command))
app.command("delete", help="Delete sessions, for good.")(
    make_command(SessionDeleteOptions, _delete_sessions_command)
)
