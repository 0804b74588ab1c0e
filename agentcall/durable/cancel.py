"""Cancels a run, whoever runs it."""

from __future__ import annotations

from agentcall.durable.attempt import claimed
from agentcall.durable.holder import who
from agentcall.durable.journal import Entry, Journal
from agentcall.durable.ledger import Ledger
from agentcall.durable.record import sealed
from agentcall.durable.wire import result_body
from agentcall.errors import UsageError


def cancelled(journal: Journal, run_id: str) -> str:
    """Cancels a run, or asks the process that runs it to; says in words which.

    Raises UsageError if there is no such run, or if it has ended.
    """
    head = journal.head(run_id)
    if head is None:
        raise UsageError(f"there is no run {run_id} in {journal.database.place}")
    if head.state == "finished":
        raise UsageError(f"the run {run_id} has ended already: {head.outcome}")
    journal.ask_to_stop(run_id)
    if journal.is_held(head):
        return f"asked {who(head.holder)} to stop the run {run_id}"
    held = claimed(run_id)(journal)
    try:
        ledger = Ledger(run_id, held.records)
        result = ledger.stopped("it was cancelled")
        body = result_body(result, ledger.said(run_id))
        record = sealed(run_id, ledger.place + 1, "finish", body, ledger.digest)
        entry = Entry(record, held.hold, ledger.digest, "finished", result.stop_reason)
        for fault in filter(None, journal.write([entry])):
            raise fault
    finally:
        journal.release(run_id, held.hold)
    return f"cancelled the run {run_id}"
