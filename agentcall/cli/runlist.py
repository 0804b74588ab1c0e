"""Durable runs on the screen."""

from __future__ import annotations

import sys
import time
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from agentcall.cli.keeping import resolve_journal_url
from agentcall.cli.plain import escape_json, is_terminal
from agentcall.cli.runs import RunCancelOptions, RunListOptions, RunShowOptions
from agentcall.display import format_call, to_single_line
from agentcall.durable.agent import cancel_run
from agentcall.durable.journal import Journal, JournalRecord, RecordBody, RunHeader
from agentcall.durable.open import make_opener
from agentcall.errors import UsageError
from agentcall.messages import JSON, encode_json, load_messages, tool_call_from_json
from agentcall.storage.locks import describe_owner

_MAX_WIDTH = 200


def print_runs(options: RunListOptions) -> None:
    """Prints the runs."""
    with _open_journal(options.db) as journal:
        rows = [(head, _describe_state(journal, head)) for head in journal.list_runs()]
    if options.json:
        _write_json([_row_to_json(head, state) for head, state in rows])
    elif is_terminal(sys.stdout):
        _print_table(rows)
    else:
        lines = ("\t".join(_format_row(head, state)) for head, state in rows)
        sys.stdout.writelines(f"{line}\n" for line in lines)


def print_run(options: RunShowOptions) -> None:
    """Prints what a run did. Raises UsageError if there is none."""
    with _open_journal(options.db) as journal:
        head = journal.find_run(options.run_id)
        records = journal.read_records(options.run_id)
        if head is None:
            raise UsageError(
                f"there is no run {options.run_id} in {journal.database.location}; "
                "`agentcall runs list` shows those that are there"
            )
        state = _describe_state(journal, head)
    if options.json:
        _write_json([_record_to_json(record) for record in records])
        return
    sys.stdout.write(to_single_line(f"{head.run_id}: {state}") + "\n")
    sys.stdout.writelines(
        f"{to_single_line(line)}\n" for record in records for line in _format_record(record)
    )


def cancel_and_print(options: RunCancelOptions) -> None:
    """Cancels a run, and says so. Raises UsageError if it has ended."""
    with _open_journal(options.db) as journal:
        sys.stdout.write(cancel_run(journal, options.run_id) + "\n")


@contextmanager
def _open_journal(db: str | None) -> Generator[Journal, None, None]:
    database = make_opener(resolve_journal_url(db), make=db is None)()
    try:
        yield Journal(database)
    finally:
        database.close()


def _describe_state(journal: Journal, head: RunHeader) -> str:
    match head.state:
        case "open" if journal.is_leased(head):
            return f"running in {describe_owner(head.holder)}"
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


def _format_row(head: RunHeader, state: str) -> tuple[str, str, str, str]:
    title = to_single_line(head.title, _MAX_WIDTH)
    return to_single_line(head.run_id), to_single_line(state), _format_age(head.created), title


def _row_to_json(head: RunHeader, state: str) -> JSON:
    return {
        "run_id": head.run_id,
        "state": state,
        "outcome": head.outcome,
        "queue": head.queue,
        "records": head.records,
        "created": head.created,
        "prompt": head.title,
    }


def _format_age(created: float) -> str:
    seconds = max(time.time() - created, 0)
    for size, name in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.0f} {name} ago"
    return f"{seconds:.0f} s ago"


def _print_table(rows: Iterable[tuple[RunHeader, str]]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, header_style="dim", pad_edge=False)
    for heading, style in (("run", "bold cyan"), ("state", ""), ("begun", "dim"), ("prompt", "")):
        table.add_column(heading, style=style, overflow="fold")
    for head, state in rows:
        table.add_row(*_format_row(head, state))
    Console(highlight=False, markup=False).print(table)


def _format_record(record: JournalRecord) -> Iterator[str]:
    """What a record says, in words."""
    body = record.fields
    when = time.strftime("%H:%M:%S", time.localtime(body.get("at", 0)))
    for words in _describe_record(record.kind, body):
        yield f"{record.sequence:>4}  {when}  {words}"


def _describe_record(kind: str, body: RecordBody) -> Iterator[str]:
    match kind:
        case "begin":
            for message in load_messages(body["messages"])[body["start"] :]:
                yield f"begun: {getattr(message, 'text', '')[:_MAX_WIDTH]}"
        case "resume":
            yield f"gone on with by {describe_owner(body['by'])}"
            yield from (f"note: {note}" for note in body["notes"])
        case "turn":
            called = ", ".join(call["name"] for call in body["turn"]["calls"])
            text = to_single_line(body["turn"]["text"], _MAX_WIDTH)
            yield f"the model: {text}" if not called else f"the model calls {called}"
        case "start":
            yield f"started: {format_call(tool_call_from_json(body['call']), _MAX_WIDTH)}"
        case "end":
            yield f"ended: {to_single_line(body['result']['content'], _MAX_WIDTH)}"
        case _:
            yield from _describe_end_record(kind, body)


def _describe_end_record(kind: str, body: RecordBody) -> Iterator[str]:
    match kind:
        case "pause":
            for pending in body["result"]["pending"]:
                why = (
                    f": {to_single_line(pending['reason'], _MAX_WIDTH)}"
                    if pending["reason"]
                    else ""
                )
                yield (
                    f"{to_single_line(pending['call']['function']['name'])} waits for approval{why}"
                )
        case "decide":
            for name, decision in body["decisions"].items():
                yield f"a person {'refused' if 'deny' in decision else 'approved'} {name}"
        case "fail":
            yield f"failed: {body['type']}: {body['message']}"
        case _:
            yield f"ended: {body['result']['stop_reason']}: {body['result']['text'][:_MAX_WIDTH]}"


def _record_to_json(record: JournalRecord) -> dict[str, Any]:  # Any: JSON
    return {"place": record.sequence, "kind": record.kind, **record.fields}


def _write_json(value: JSON) -> None:
    sys.stdout.buffer.write(escape_json(encode_json(value)) + b"\n")
    sys.stdout.buffer.flush()
