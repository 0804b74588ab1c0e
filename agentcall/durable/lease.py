"""A lease on a run, from its claim to its release."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import NamedTuple

from typing_extensions import Self

from agentcall.durable.journal import Journal, JournalRecord
from agentcall.durable.run_state import DurableRunState
from agentcall.durable.steps import StepRecorder
from agentcall.durable.writer_thread import WriterThread, wait_shielded
from agentcall.errors import JournalDamaged, JournalError, UsageError

_DAMAGED_PAUSE = 3600.0
"""Seconds for which workers do not claim a run with damaged records."""


class ClaimedRun(NamedTuple):
    """A run and its records.

    lease_id: "" for a run that has ended or waits, which needs no lease.
    claims: how often in a row the run was claimed without completing a step.
    """

    run_id: str
    lease_id: str
    records: list[JournalRecord]
    claims: int = 0


def begin_run(journal: Journal, first: JournalRecord, title: str) -> ClaimedRun:
    """Create a run, or claim the existing one of this id. Raises RunBusy."""
    lease_id = journal.database.lease_owner.create_lease()
    if journal.create_run(first, lease_id, title=title):
        return ClaimedRun(first.run_id, lease_id, [first])
    journal.database.lease_owner.drop_lease(lease_id)
    return open_run(journal, first.run_id)


def open_run(journal: Journal, run_id: str) -> ClaimedRun:
    """Claim an existing run, or load it without a lease if it has ended or waits.

    Raises RunBusy, and UsageError if it does not exist.
    """
    header = journal.find_run(run_id)
    if header is not None and header.state in ("paused", "finished"):
        return ClaimedRun(run_id, "", journal.read_records(run_id))
    return claim_run(journal, run_id)


def claim_run(journal: Journal, run_id: str) -> ClaimedRun:
    """Claim an existing run. Raises RunBusy, and UsageError if it does not exist."""
    lease_id = journal.database.lease_owner.create_lease()
    try:
        journal.claim(run_id, lease_id)
    except BaseException:
        journal.database.lease_owner.drop_lease(lease_id)
        raise
    return _load_claimed(journal, run_id, lease_id, 0)


def claim_next_run(journal: Journal, queue: str) -> ClaimedRun | None:
    """Claim the next run of a queue; return None if there is none."""
    lease_id = journal.database.lease_owner.create_lease()
    header = journal.claim_next(queue, lease_id)
    if header is None:
        journal.database.lease_owner.drop_lease(lease_id)
        return None
    return _load_claimed(journal, header.run_id, lease_id, header.claims)


def _load_claimed(journal: Journal, run_id: str, lease_id: str, claims: int) -> ClaimedRun:
    try:
        return ClaimedRun(run_id, lease_id, journal.read_records(run_id), claims)
    except BaseException as error:
        pause = _DAMAGED_PAUSE if isinstance(error, JournalDamaged) else 0.0
        with suppress(JournalError):
            journal.release(run_id, lease_id, delay=pause)
        raise


class RunLease:
    """The lease of this process on a run, with the state of the run; a context manager.

    retry_delay: seconds after the release for which no worker claims the run.
    """

    def __init__(self, writer: WriterThread, claim: ClaimedRun) -> None:
        self.claim = claim
        self.state = DurableRunState(claim.run_id, claim.records)
        self.recorder = StepRecorder(writer, claim.lease_id, self.state)
        self.is_stopped = False
        self.retry_delay = 0.0
        self._writer = writer

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_error: object) -> None:
        if not self.claim.lease_id:
            return
        self._writer.unwatch_lease(self.claim.lease_id)
        with suppress(JournalError):  # then the lease ends by expiry or with the process
            run_id, lease_id, delay = self.claim.run_id, self.claim.lease_id, self.retry_delay
            await wait_shielded(
                self._writer.submit(lambda j: j.release(run_id, lease_id, delay=delay))
            )

    def watch(self, task: asyncio.Task[object]) -> None:
        """Cancel the task when the lease is lost or the run is to be cancelled."""
        loop = asyncio.get_running_loop()

        def stop() -> None:
            self.is_stopped = True
            with suppress(RuntimeError):  # the loop is closed, and the task with it
                loop.call_soon_threadsafe(task.cancel)

        self._writer.watch_lease(self.claim.lease_id, stop)

    async def is_cancelled(self) -> bool:
        """Return whether the run is to be cancelled."""
        run_id = self.claim.run_id
        return await wait_shielded(
            self._writer.submit(lambda journal: journal.is_cancel_requested(run_id))
        )

    async def record_failure(self, error: BaseException) -> None:
        """Record the error that ends the run for good."""
        name = type(error).__name__
        await self.recorder.append("fail", {"type": name, "message": str(error)}, "failed", name)


def check_run_id(run_id: str) -> None:
    """Raise UsageError if the run id is not valid."""
    if not (run_id and len(run_id) <= 200 and run_id.isprintable() and run_id == run_id.strip()):
        raise UsageError(
            f"{run_id!r:.220} is not a run id; use 1 to 200 printable characters, with no blank at "
            "either end"
        )
