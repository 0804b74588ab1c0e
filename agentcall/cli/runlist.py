"""Durable runs on the screen."""

from __future__ import annotations

import sys
import time
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from agentcall.calltext import call_line
from agentcall.cli.keeping import journal_url
from agentcall.cli.plain import is_terminal, shown_json
from agentcall.cli.runs import CancelOptions, ListOptions, ShowOptions
from agentcall.durable.cancel import cancelled
from agentcall.durable.holder import who
from agentcall.durable.journal import Head, Journal
from agentcall.durable.opening import opener
from agentcall.durable.record import Body, Record
from agentcall.durable.wire import call_from
from agentcall.errors import UsageError
from agentcall.messages import JSON, encoded, load
from agentcall.plaintext import line_of

_WIDE = 200


def show_list(options: ListOptions) -> None:
    """Prints the runs."""
    with _journal(options.db) as journal:
        rows = [(head, _state(journal, head)) for head in journal.heads()]
    if options.json:
        _write_json([_row_json(head, state) for head, state in rows])
    elif is_terminal(sys.stdout):
        _show_table(rows)
    else:
        lines = ("\t".join(_row(head, state)) for head, state in rows)
        sys.stdout.writelines(f"{line}\n" for line in lines)


def show_run(options: ShowOptions) -> None:
    """Prints what a run did. Raises UsageError if there is none."""
    with _journal(options.db) as journal:
        head = journal.head(options.run_id)
        records = journal.records(options.run_id)
        if head is None:
            raise UsageError(
                f"there is no run {options.run_id} in {journal.database.place}; "
                "`agentcall runs list` shows those that are there"
            )
        state = _state(journal, head)
    if options.json:
        _write_json([_record_json(record) for record in records])
        return
    sys.stdout.write(line_of(f"{head.run_id}: {state}") + "\n")
    sys.stdout.writelines(f"{line_of(line)}\n" for record in records for line in _lines(record))


def cancel_run(options: CancelOptions) -> None:
    """Cancels a run, and says so. Raises UsageError if it has ended."""
    with _journal(options.db) as journal:
        sys.stdout.write(cancelled(journal, options.run_id) + "\n")


@contextmanager
def _journal(db: str | None) -> Generator[Journal, None, None]:
    database = opener(journal_url(db), make=db is None)()
    try:
        yield Journal(database)
    finally:
        database.close()


def _state(journal: Journal, head: Head) -> str:
    match head.state:
        case "open" if journal.is_held(head):
            return f"running in {who(head.holder)}"
        case "open" if head.queue and not head.holder:
            return "queued"
        case "open":
            return "stopped"
        case "paused":
            return "waits for approval"
        case "failed":
            return f"failed: {head.outcome}"
        case _:
            return f"ended: {head.outcome}"


def _row(head: Head, state: str) -> tuple[str, str, str, str]:
    title = line_of(head.title, _WIDE)
    return line_of(head.run_id), line_of(state), _age(head.created), title


def _row_json(head: Head, state: str) -> JSON:
    return {
        "run_id": head.run_id,
        "state": state,
        "outcome": head.outcome,
        "queue": head.queue,
        "records": head.records,
        "created": head.created,
        "prompt": head.title,
    }


def _age(created: float) -> str:
    seconds = max(time.time() - created, 0)
    for size, name in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.0f} {name} ago"
    return f"{seconds:.0f} s ago"


def _show_table(rows: Iterable[tuple[Head, str]]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, header_style="dim", pad_edge=False)
    for heading, style in (("run", "bold cyan"), ("state", ""), ("begun", "dim"), ("prompt", "")):
        table.add_column(heading, style=style, overflow="fold")
    for head, state in rows:
        table.add_row(*_row(head, state))
    Console(highlight=False, markup=False).print(table)


def _lines(record: Record) -> Iterator[str]:
    """What a record says, in words."""
    body = record.fields
    when = time.strftime("%H:%M:%S", time.localtime(body.get("at", 0)))
    for words in _words(record.kind, body):
        yield f"{record.place:>4}  {when}  {words}"


def _words(kind: str, body: Body) -> Iterator[str]:
    match kind:
        case "begin":
            for message in load(body["messages"])[body["start"] :]:
                yield f"begun: {getattr(message, 'text', '')[:_WIDE]}"
        case "resume":
            yield f"gone on with by {who(body['by'])}"
            yield from (f"note: {note}" for note in body["notes"])
        case "turn":
            called = ", ".join(call["name"] for call in body["turn"]["calls"])
            text = line_of(body["turn"]["text"], _WIDE)
            yield f"the model: {text}" if not called else f"the model calls {called}"
        case "start":
            yield f"started: {call_line(call_from(body['call']), _WIDE)}"
        case "end":
            yield f"ended: {line_of(body['result']['content'], _WIDE)}"
        case _:
            yield from _last_words(kind, body)


def _last_words(kind: str, body: Body) -> Iterator[str]:
    match kind:
        case "pause":
            for pending in body["result"]["pending"]:
                why = f": {line_of(pending['reason'], _WIDE)}" if pending["reason"] else ""
                yield f"{line_of(pending['call']['function']['name'])} waits for approval{why}"
        case "decide":
            for name, decision in body["decisions"].items():
                yield f"a person {'refused' if 'deny' in decision else 'approved'} {name}"
        case "fail":
            yield f"failed: {body['type']}: {body['message']}"
        case _:
            yield f"ended: {body['result']['stop_reason']}: {body['result']['text'][:_WIDE]}"


def _record_json(record: Record) -> dict[str, Any]:  # Any: JSON
    return {"place": record.place, "kind": record.kind, **record.fields}


def _write_json(value: JSON) -> None:
    sys.stdout.buffer.write(shown_json(encoded(value)) + b"\n")
    sys.stdout.buffer.flush()
