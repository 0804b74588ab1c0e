"""What `agentcall sessions` does, on the user's own file of sessions."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path

import orjson

from agentcall.cli.interruptible import InterruptibleLoop
from agentcall.cli.plain import is_terminal, style_text
from agentcall.cli.sessions import (
    SessionCompactOptions,
    SessionDeleteOptions,
    SessionExportOptions,
    SessionListOptions,
    SessionSearchOptions,
    SessionShowOptions,
)
from agentcall.display import format_call, strip_control_characters, to_single_line
from agentcall.errors import UsageError
from agentcall.messages import Assistant, Message, ToolResult
from agentcall.sessions import (
    ChatSession,
    SessionStore,
    SessionSummary,
    SQLiteSession,
    StoredSession,
    Summary,
    Window,
)
from agentcall.sessions.export import EXPORTERS, export_json, format_time, load_session
from agentcall.storage.private_files import open_private

_MAX_TEXT = 300


def print_sessions(options: SessionListOptions) -> None:
    """Prints the sessions, a line each."""
    sessions = SessionStore().list_sessions()
    if options.json:
        _write_json([asdict(each) for each in sessions])
        return
    for each in sessions:
        _write_row(
            (each.id, format_time(each.changed), _format_counts(each), to_single_line(each.title))
        )


def _format_counts(session: SessionSummary) -> str:
    waiting = f", {session.waiting} waiting" if session.waiting else ""
    return f"{session.messages} messages{waiting}"


def print_session(options: SessionShowOptions) -> None:
    """Prints a session, message by message."""
    session = SessionStore().load_session(options.id)
    if options.json:
        _write(export_json(session))
        return
    left = session.compacted
    for run in session.runs:
        _write(
            style_text(
                f"{format_time(run.began)}  {run.agent}: {run.stop_reason}", "dim", sys.stdout
            )
        )
        for message in run.messages:
            left -= 1
            _write("\n".join(_format_message(message)))
            if left == 0:
                _write(style_text(_format_compaction(session), "yellow", sys.stdout))


def _format_compaction(session: StoredSession) -> str:
    head = " ".join(to_single_line(message.text) for message in session.head[-1:])
    summary = f" a summary ({head}) and" if head else ""
    return f"-- compacted: the next run is given{summary} what follows --"


def _format_message(message: Message) -> Iterable[str]:
    match message:
        case ToolResult():
            sign = "error:" if message.is_error else "->"
            yield f"  {sign} {to_single_line(message.text, _MAX_TEXT)}"
        case Assistant():
            if message.text:
                yield f"assistant: {strip_control_characters(message.text)}"
            yield from (f"  {format_call(call, _MAX_TEXT)}" for call in message.calls)
        case _:
            yield f"user: {strip_control_characters(message.text)}"


def search_sessions(options: SessionSearchOptions) -> bool:
    """Prints what was found; says whether anything was."""
    found = SessionStore().search(options.words, options.session, options.most)
    if options.json:
        _write_json([asdict(each) for each in found])
    else:
        for each in found:
            _write_row(
                (each.session, format_time(each.at), each.role, to_single_line(each.excerpt))
            )
    return bool(found)


def export_session(options: SessionExportOptions, session: ChatSession | None = None) -> None:
    """Write a session to a file or to standard output; by default, one of the user's own file."""
    ending = Path(options.output or "").suffix.removeprefix(".")
    form = options.format or (ending if ending in EXPORTERS else "md")
    if form not in EXPORTERS:
        raise UsageError(f"--format {form} is none of {', '.join(EXPORTERS)}")
    text = EXPORTERS[form](load_session(session or SQLiteSession(options.id)))
    if options.output is None or options.output == "-":
        whole = text.rstrip("\n")
        _write(strip_control_characters(whole) if is_terminal(sys.stdout) else whole)
        return
    file = open_private(options.output, os.O_CREAT | os.O_WRONLY | os.O_TRUNC)
    with open(file, "wb") as output:  # noqa: PTH123 - it is open already
        output.write(text.encode("utf-8", "replace"))


def compact_session(options: SessionCompactOptions) -> None:
    """Makes what the next run is given shorter."""
    SessionStore().load_session(options.id)  # a session that is not there is told, not begun
    if options.model is not None and not options.summary:
        raise UsageError("-m is for --summary, which a model writes")
    how = Summary(options.model, options.keep) if options.summary else Window(options.keep)
    session = SQLiteSession(options.id, wait=0)
    with InterruptibleLoop() as loop:
        done = loop.run(session.compact(how))
    _write(f"{options.id}: {done.before} messages -> {done.after}")


def delete_sessions(options: SessionDeleteOptions) -> None:
    """Deletes sessions, and says what they held."""
    for name in options.ids:
        count = SQLiteSession(name).delete()
        _write(f"deleted {to_single_line(name)} ({count} messages)")


def _write_row(cells: Sequence[str]) -> None:
    _write(("  " if is_terminal(sys.stdout) else "\t").join(cells))


def _write(text: str) -> None:
    sys.stdout.buffer.write(text.encode("utf-8", "replace") + b"\n")
    sys.stdout.buffer.flush()


def _write_json(value: object) -> None:
    _write(orjson.dumps(value, option=orjson.OPT_INDENT_2).decode())
