"""Cancels a run, whoever runs it."""

from __future__ import annotations

from agentcall.durable.attempt import claim_run
from agentcall.durable.holder import describe_owner
from agentcall.durable.journal import Journal, JournalEntry
from agentcall.durable.ledger import DurableRunState
from agentcall.durable.record import seal_record
from agentcall.durable.wire import build_result_body
from agentcall.errors import UsageError


def cancel_run(journal: Journal, run_id: str) -> str:
    """Cancels a run, or asks the process that runs it to; says in words which.

    Raises UsageError if there is no such run, or if it has ended.
    """
    header = journal.find_run(run_id)
    if header is None:
        raise UsageError(f"there is no run {run_id} in {journal.database.location}")
    if header.state == "finished":
        raise UsageError(f"the run {run_id} has ended already: {header.outcome}")
    journal.request_cancel(run_id)
    if journal.is_leased(header):
        return f"asked {describe_owner(header.holder)} to stop the run {run_id}"
    claim = claim_run(run_id)(journal)
    try:
        state = DurableRunState(run_id, claim.records)
        result = state.build_cancelled_result("it was cancelled")
        body = build_result_body(result, state.get_messages(run_id))
        record = seal_record(run_id, state.sequence + 1, "finish", body, state.digest)
        entry = JournalEntry(record, claim.lease_id, state.digest, "finished", result.stop_reason)
        for fault in filter(None, journal.append([entry])):
            raise fault
    finally:
        journal.release(run_id, claim.lease_id)
    return f"cancelled the run {run_id}"
