"""What `agentcall sessions` does, on the user's own file of sessions."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path

import orjson

from agentcall.calltext import call_line
from agentcall.cli.interruptible import InterruptibleLoop
from agentcall.cli.plain import is_terminal, styled
from agentcall.cli.sessions import (
    CompactOptions,
    DeleteOptions,
    ExportOptions,
    ListOptions,
    SearchOptions,
    ShowOptions,
)
from agentcall.errors import UsageError
from agentcall.messages import Assistant, Message, ToolResult
from agentcall.plaintext import harmless, line_of
from agentcall.privatefiles import open_private
from agentcall.session import KeptSession, Listed, SQLiteSession, Store, Summary, Window
from agentcall.session.export import FORMS, as_json, when

_FOLDED = 300


def show_list(options: ListOptions) -> None:
    """Prints the sessions, a line each."""
    sessions = Store().list()
    if options.json:
        _write_json([asdict(each) for each in sessions])
        return
    for each in sessions:
        _write_row((each.id, when(each.changed), _counted(each), line_of(each.title)))


def _counted(session: Listed) -> str:
    waiting = f", {session.waiting} waiting" if session.waiting else ""
    return f"{session.messages} messages{waiting}"


def show(options: ShowOptions) -> None:
    """Prints a session, message by message."""
    session = Store().show(options.id)
    if options.json:
        _write(as_json(session))
        return
    left = session.compacted
    for run in session.runs:
        _write(styled(f"{when(run.began)}  {run.agent}: {run.stop_reason}", "dim", sys.stdout))
        for message in run.messages:
            left -= 1
            _write("\n".join(_lines(message)))
            if left == 0:
                _write(styled(_begins(session), "yellow", sys.stdout))


def _begins(session: KeptSession) -> str:
    head = " ".join(line_of(message.text) for message in session.head[-1:])
    summary = f" a summary ({head}) and" if head else ""
    return f"-- compacted: the next run is given{summary} what follows --"


def _lines(message: Message) -> Iterable[str]:
    match message:
        case ToolResult():
            sign = "error:" if message.is_error else "->"
            yield f"  {sign} {line_of(message.text, _FOLDED)}"
        case Assistant():
            if message.text:
                yield f"assistant: {harmless(message.text)}"
            yield from (f"  {call_line(call, _FOLDED)}" for call in message.calls)
        case _:
            yield f"user: {harmless(message.text)}"


def search(options: SearchOptions) -> bool:
    """Prints what was found; says whether anything was."""
    found = Store().search(options.words, options.session, options.most)
    if options.json:
        _write_json([asdict(each) for each in found])
    else:
        for each in found:
            _write_row((each.session, when(each.at), each.role, line_of(each.excerpt)))
    return bool(found)


def export(options: ExportOptions) -> None:
    """Writes a session to a file or to standard output."""
    ending = Path(options.output or "").suffix.removeprefix(".")
    form = options.format or (ending if ending in FORMS else "md")
    if form not in FORMS:
        raise UsageError(f"--format {form} is none of {', '.join(FORMS)}")
    text = FORMS[form](Store().show(options.id))
    if options.output is None or options.output == "-":
        whole = text.rstrip("\n")
        _write(harmless(whole) if is_terminal(sys.stdout) else whole)
        return
    file = open_private(options.output, os.O_CREAT | os.O_WRONLY | os.O_TRUNC)
    with open(file, "wb") as output:  # noqa: PTH123 - it is open already
        output.write(text.encode("utf-8", "replace"))


def compact(options: CompactOptions) -> None:
    """Makes what the next run is given shorter."""
    Store().show(options.id)  # a session that is not there is told, not begun
    if options.model is not None and not options.summary:
        raise UsageError("-m is for --summary, which a model writes")
    how = Summary(options.model, options.keep) if options.summary else Window(options.keep)
    session = SQLiteSession(options.id, wait=0)
    with InterruptibleLoop() as loop:
        done = loop.run(session.compact(how))
    _write(f"{options.id}: {done.before} messages -> {done.after}")


def delete(options: DeleteOptions) -> None:
    """Deletes sessions, and says what they held."""
    for name in options.ids:
        count = SQLiteSession(name).delete()
        _write(f"deleted {line_of(name)} ({count} messages)")


def _write_row(cells: Sequence[str]) -> None:
    _write(("  " if is_terminal(sys.stdout) else "\t").join(cells))


def _write(text: str) -> None:
    sys.stdout.buffer.write(text.encode("utf-8", "replace") + b"\n")
    sys.stdout.buffer.flush()


def _write_json(value: object) -> None:
    _write(orjson.dumps(value, option=orjson.OPT_INDENT_2).decode())
