"""`agentcall sessions`: list, show, search, export, compact and delete saved conversations."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import typer

from agentcall.cli.command import add_command, make_group
from agentcall.cli.interrupt import InterruptibleLoop
from agentcall.cli.options import JSONOption, ModelOption
from agentcall.cli.terminal import is_terminal, style_text, write_file, write_json, write_text
from agentcall.display import format_call, strip_control_characters, to_single_line
from agentcall.errors import UsageError
from agentcall.messages import Assistant, Message, ToolResult
from agentcall.sessions import SessionStore, SQLiteSession, StoredSession, Summary, Window
from agentcall.sessions.export import EXPORTERS, export_json, format_time

SESSIONS_HELP = """List, show, search, export, compact and delete sessions.

`agentcall run --session ID` starts one, `agentcall run -c` continues the last one. They are in the
file AGENTCALL_SESSIONS, else ~/.local/share/agentcall/sessions.db.
"""

SessionIdArgument = Annotated[str, typer.Argument(metavar="ID", help="The session's id.")]

_MAX_TEXT = 300


@dataclass(frozen=True, slots=True)
class SessionListOptions:
    """Options of `agentcall sessions list`."""

    json: JSONOption = False


@dataclass(frozen=True, slots=True)
class SessionShowOptions:
    """Options of `agentcall sessions show`."""

    id: SessionIdArgument
    json: JSONOption = False


@dataclass(frozen=True, slots=True)
class SessionSearchOptions:
    """Options of `agentcall sessions search`."""

    words: Annotated[str, typer.Argument(help="Words that a message has to contain, all of them.")]
    session: Annotated[
        str | None, typer.Option("--session", metavar="ID", help="Search only this session.")
    ] = None
    most: Annotated[int, typer.Option("-n", min=1, help="Maximum number of messages.")] = 20
    json: JSONOption = False


@dataclass(frozen=True, slots=True)
class SessionExportOptions:
    """Options of `agentcall sessions export`."""

    id: SessionIdArgument
    format: Annotated[
        str | None,
        typer.Option(
            "-f", "--format", help="md, json or html. Default: that of the file's name, else md."
        ),
    ] = None
    output: Annotated[
        str | None,
        typer.Option("-o", "--output", metavar="FILE", help="Default: standard output."),
    ] = None


@dataclass(frozen=True, slots=True)
class SessionCompactOptions:
    """Options of `agentcall sessions compact`."""

    id: SessionIdArgument
    keep: Annotated[int, typer.Option(min=0, help="Maximum number of messages to keep.")] = 20
    summary: Annotated[
        bool, typer.Option("--summary", help="Let a model summarize the messages before them.")
    ] = False
    model: ModelOption = None


@dataclass(frozen=True, slots=True)
class SessionDeleteOptions:
    """Options of `agentcall sessions delete`."""

    ids: Annotated[list[str], typer.Argument(metavar="ID...", help="The sessions' ids.")]


def list_sessions(options: SessionListOptions) -> None:
    """Print the sessions, a line each."""
    sessions = SessionStore().list_sessions()
    if options.json:
        write_json([asdict(session) for session in sessions], indent=True)
        return
    for session in sessions:
        waiting = f", {session.waiting} waiting" if session.waiting else ""
        counts = f"{session.messages} messages{waiting}"
        title = to_single_line(session.title)
        _write_row((session.id, format_time(session.changed), counts, title))


def show_session(options: SessionShowOptions) -> None:
    """Print a session, message by message."""
    session = SessionStore().load_session(options.id)
    if options.json:
        _write_line(export_json(session))
        return
    messages_to_mark = session.compacted
    for run in session.runs:
        heading = f"{format_time(run.began)}  {run.agent}: {run.stop_reason}"
        _write_line(style_text(heading, "dim", sys.stdout))
        for message in run.messages:
            _write_line("\n".join(_format_message(message)))
            messages_to_mark -= 1
            if messages_to_mark == 0:
                _write_line(style_text(_format_compaction(session), "yellow", sys.stdout))


def search_sessions(options: SessionSearchOptions) -> int:
    """Print the matching messages; return 1 if there is none."""
    matches = SessionStore().search(options.words, options.session, options.most)
    if options.json:
        write_json([asdict(match) for match in matches], indent=True)
    else:
        for match in matches:
            excerpt = to_single_line(match.excerpt)
            _write_row((match.session, format_time(match.at), match.role, excerpt))
    return 0 if matches else 1


def export_session(options: SessionExportOptions) -> None:
    """Write a session to a file or to standard output."""
    suffix = Path(options.output or "").suffix.removeprefix(".")
    form = options.format or (suffix if suffix in EXPORTERS else "md")
    if form not in EXPORTERS:
        raise UsageError(f"--format {form} is not one of {', '.join(EXPORTERS)}")
    text = EXPORTERS[form](SessionStore().load_session(options.id))
    if options.output is None or options.output == "-":
        text = text.rstrip("\n")
        _write_line(strip_control_characters(text) if is_terminal(sys.stdout) else text)
    else:
        write_file(Path(options.output), text)


def compact_session(options: SessionCompactOptions) -> None:
    """Shorten the history that the next run gets."""
    SessionStore().load_session(options.id)  # raises for a missing session instead of starting it
    if options.model is not None and not options.summary:
        raise UsageError("-m is the model that writes the summary; add --summary")
    method = Summary(options.model, options.keep) if options.summary else Window(options.keep)
    session = SQLiteSession(options.id, wait=0)
    with InterruptibleLoop() as loop:
        counts = loop.run(session.compact(method))
    _write_line(f"{options.id}: {counts.before} messages -> {counts.after}")


def delete_sessions(options: SessionDeleteOptions) -> None:
    """Delete sessions and print how many messages each had."""
    for session_id in options.ids:
        count = SQLiteSession(session_id).delete()
        _write_line(f"deleted {to_single_line(session_id)} ({count} messages)")


def _format_compaction(session: StoredSession) -> str:
    head = " ".join(to_single_line(message.text) for message in session.head[-1:])
    summary = f"a summary ({head}) and " if head else ""
    return f"-- compacted: the next run gets {summary}the following messages --"


def _format_message(message: Message) -> Iterator[str]:
    match message:
        case ToolResult():
            arrow = "error:" if message.is_error else "->"
            yield f"  {arrow} {to_single_line(message.text, _MAX_TEXT)}"
        case Assistant():
            if message.text:
                yield f"assistant: {strip_control_characters(message.text)}"
            yield from (f"  {format_call(call, _MAX_TEXT)}" for call in message.calls)
        case _:
            yield f"user: {strip_control_characters(message.text)}"


def _write_row(cells: Sequence[str]) -> None:
    _write_line(("  " if is_terminal(sys.stdout) else "\t").join(cells))


def _write_line(line: str) -> None:
    write_text(line + "\n")


app = make_group(SESSIONS_HELP)
add_command(
    app, "list", SessionListOptions, list_sessions, "List the sessions, the last changed first."
)
add_command(app, "show", SessionShowOptions, show_session, "Show all of a session.")
add_command(
    app,
    "search",
    SessionSearchOptions,
    search_sessions,
    "Find messages by their words.\n\nExit code 1: no message matches.",
)
add_command(
    app,
    "export",
    SessionExportOptions,
    export_session,
    "Write a session as Markdown, JSON or a web page.",
)
add_command(
    app,
    "compact",
    SessionCompactOptions,
    compact_session,
    "Shorten the history that the next run gets. The session itself keeps all messages.",
)
add_command(app, "delete", SessionDeleteOptions, delete_sessions, "Delete sessions permanently.")
