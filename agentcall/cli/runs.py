"""`agentcall runs`: list, show, resume and cancel the runs of a journal."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated

import typer

from agentcall.cli.command import add_command, make_group
from agentcall.cli.durable import make_unknown_run_error, open_journal
from agentcall.cli.options import DatabaseOption, JSONArrayOption, ResumeOptions
from agentcall.cli.resume import RESUME_HELP, resume_run
from agentcall.cli.terminal import is_terminal, make_table, write_json
from agentcall.display import format_call, to_single_line
from agentcall.durable.durable_agent import cancel_run
from agentcall.durable.journal import Journal, JournalRecord, RecordBody, RunHeader
from agentcall.messages import JSON, load_messages, tool_call_from_json
from agentcall.storage.locks import describe_owner

RunIdArgument = Annotated[str, typer.Argument(metavar="RUN", help="The run's id.")]

_MAX_WIDTH = 200


@dataclass(frozen=True, slots=True)
class RunListOptions:
    """Options of `agentcall runs list`."""

    db: DatabaseOption = None
    json: JSONArrayOption = False


@dataclass(frozen=True, slots=True)
class RunShowOptions:
    """Options of `agentcall runs show`."""

    run_id: RunIdArgument
    db: DatabaseOption = None
    json: Annotated[bool, typer.Option("--json", help="Print the records as JSON.")] = False


@dataclass(frozen=True, slots=True)
class RunCancelOptions:
    """Options of `agentcall runs cancel`."""

    run_id: RunIdArgument
    db: DatabaseOption = None


def list_runs(options: RunListOptions) -> None:
    """Print the runs, the newest first."""
    with open_journal(options.db) as journal:
        rows = [(header, _describe_state(journal, header)) for header in journal.list_runs()]
    if options.json:
        write_json([_row_to_json(header, state) for header, state in rows])
    elif is_terminal(sys.stdout):
        _print_table([_format_row(header, state) for header, state in rows])
    else:
        sys.stdout.writelines("\t".join(_format_row(*row)) + "\n" for row in rows)


def show_run(options: RunShowOptions) -> None:
    """Print what a run did. Raises UsageError if there is no such run."""
    with open_journal(options.db) as journal:
        header = journal.find_run(options.run_id)
        records = journal.read_records(options.run_id)
        if header is None:
            raise make_unknown_run_error(options.run_id, journal)
        state = _describe_state(journal, header)
    if options.json:
        write_json([{"place": r.sequence, "kind": r.kind, **r.fields} for r in records])
        return
    sys.stdout.write(to_single_line(f"{header.run_id}: {state}") + "\n")
    for record in records:
        sys.stdout.writelines(f"{to_single_line(line)}\n" for line in _format_record(record))


def cancel(options: RunCancelOptions) -> None:
    """Cancel a run, or ask its process to. Raises UsageError if the run has ended."""
    with open_journal(options.db) as journal:
        sys.stdout.write(cancel_run(journal, options.run_id) + "\n")


def _describe_state(journal: Journal, header: RunHeader) -> str:
    match header.state:
        case "open" if journal.is_leased(header):
            return f"running in {describe_owner(header.holder)}"
        case "open" if header.queue and not header.holder:
            return "queued"
        case "open":
            return "stopped"
        case "paused":
            return "waits for approval"
        case "failed":
            return f"failed: {header.outcome}"
        case _:
            return f"ended: {header.outcome}"


def _format_row(header: RunHeader, state: str) -> tuple[str, str, str, str]:
    return (
        to_single_line(header.run_id),
        to_single_line(state),
        _format_age(header.created),
        to_single_line(header.title, _MAX_WIDTH),
    )


def _row_to_json(header: RunHeader, state: str) -> JSON:
    return {
        "run_id": header.run_id,
        "state": state,
        "outcome": header.outcome,
        "queue": header.queue,
        "records": header.records,
        "created": header.created,
        "prompt": header.title,
    }


def _format_age(created: float) -> str:
    seconds = max(time.time() - created, 0)
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit} ago"
    return f"{seconds:.0f} s ago"


def _print_table(rows: list[tuple[str, str, str, str]]) -> None:
    from rich.console import Console
    from rich.table import Column

    table = make_table(
        Column("run", style="bold cyan", overflow="fold"),
        Column("state", overflow="fold"),
        Column("started", style="dim", overflow="fold"),
        Column("prompt", overflow="fold"),
    )
    for row in rows:
        table.add_row(*row)
    Console(highlight=False, markup=False).print(table)


def _format_record(record: JournalRecord) -> Iterator[str]:
    body = record.fields
    when = time.strftime("%H:%M:%S", time.localtime(body.get("at", 0)))
    for line in _describe_record(record.kind, body):
        yield f"{record.sequence:>4}  {when}  {line}"


def _describe_record(kind: str, body: RecordBody) -> Iterator[str]:
    match kind:
        case "begin":
            for message in load_messages(body["messages"])[body["start"] :]:
                yield f"started: {getattr(message, 'text', '')[:_MAX_WIDTH]}"
        case "resume":
            yield f"continued by {describe_owner(body['by'])}"
            yield from (f"note: {note}" for note in body["notes"])
        case "turn" if body["turn"]["calls"]:
            yield f"the model calls {', '.join(call['name'] for call in body['turn']['calls'])}"
        case "turn":
            yield f"the model: {to_single_line(body['turn']['text'], _MAX_WIDTH)}"
        case "point":
            yield "the next request has a message that was sent to the run"
        case "start":
            yield f"calls: {format_call(tool_call_from_json(body['call']), _MAX_WIDTH)}"
        case "end":
            yield f"result: {to_single_line(body['result']['content'], _MAX_WIDTH)}"
        case _:
            yield from _describe_last_record(kind, body)


def _describe_last_record(kind: str, body: RecordBody) -> Iterator[str]:
    match kind:
        case "pause":
            for pending in body["result"]["pending"]:
                reason = to_single_line(pending["reason"], _MAX_WIDTH)
                name = to_single_line(pending["call"]["function"]["name"])
                yield f"{name} waits for approval{f': {reason}' if reason else ''}"
        case "decide":
            for call_id, decision in body["decisions"].items():
                yield f"a person {'denied' if 'deny' in decision else 'approved'} {call_id}"
        case "fail":
            yield f"failed: {body['type']}: {body['message']}"
        case _:
            yield f"ended: {body['result']['stop_reason']}: {body['result']['text'][:_MAX_WIDTH]}"


app = make_group("List, show, resume and cancel recorded runs.")
add_command(app, "list", RunListOptions, list_runs, "List the runs, the newest first.")
add_command(app, "show", RunShowOptions, show_run, "Show what a run did, record by record.")
add_command(app, "resume", ResumeOptions, resume_run, RESUME_HELP)
add_command(app, "cancel", RunCancelOptions, cancel, "Cancel a run, also one in another process.")
