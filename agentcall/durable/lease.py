"""A hold on a run, from its claim to its release."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import NamedTuple

from typing_extensions import Self

from agentcall.durable.journal import Journal, JournalRecord
from agentcall.durable.state import DurableRunState
from agentcall.durable.steps import StepRecorder
from agentcall.durable.writer_thread import WriterThread, wait_shielded
from agentcall.errors import JournalDamaged, JournalError, UsageError

_DAMAGED_PAUSE = 3600.0
"""Seconds for which workers leave a run alone whose records are damaged."""


class ClaimedRun(NamedTuple):
    """A run and its records; `hold` is "" where it is not held.

    `claims` is how often in a row it was taken and did not come on.
    """

    run_id: str
    lease_id: str
    records: list[JournalRecord]
    claims: int = 0


# What the clerk does to get one.


def begin_run(first: JournalRecord, title: str) -> Callable[[Journal], ClaimedRun]:
    """Begins a run, or goes on with the one that is there. Raises RunBusy."""

    def work(journal: Journal) -> ClaimedRun:
        lease_id = journal.database.create_lease()
        if journal.create_run(first, lease_id, title=title):
            return ClaimedRun(first.run_id, lease_id, [first])
        journal.database.drop_lease(lease_id)
        return open_run(first.run_id)(journal)

    return work


def open_run(run_id: str) -> Callable[[Journal], ClaimedRun]:
    """Claims a run that is there, unless it has ended or waits: then it is not held.

    Raises RunBusy, and UsageError if there is none.
    """

    def work(journal: Journal) -> ClaimedRun:
        head = journal.find_run(run_id)
        if head is not None and head.state in ("paused", "finished"):
            return ClaimedRun(run_id, "", journal.read_records(run_id))
        return claim_run(run_id)(journal)

    return work


def claim_run(run_id: str) -> Callable[[Journal], ClaimedRun]:
    """Claims a run that is there. Raises RunBusy, and UsageError if there is none."""

    def work(journal: Journal) -> ClaimedRun:
        lease_id = journal.database.create_lease()
        try:
            journal.claim(run_id, lease_id)
        except BaseException:
            journal.database.drop_lease(lease_id)
            raise
        return _load_claimed(journal, run_id, lease_id, 0)

    return work


def claim_next_run(queue: str) -> Callable[[Journal], ClaimedRun | None]:
    """Takes the next run of a queue; None if none is to be had."""

    def work(journal: Journal) -> ClaimedRun | None:
        lease_id = journal.database.create_lease()
        head = journal.claim_next(queue, lease_id)
        if head is None:
            journal.database.drop_lease(lease_id)
            return None
        return _load_claimed(journal, head.run_id, lease_id, head.claims)

    return work


def _load_claimed(journal: Journal, run_id: str, lease_id: str, claims: int) -> ClaimedRun:
    try:
        return ClaimedRun(run_id, lease_id, journal.read_records(run_id), claims)
    except BaseException as error:
        pause = _DAMAGED_PAUSE if isinstance(error, JournalDamaged) else 0.0
        with suppress(JournalError):
            journal.release(run_id, lease_id, delay=pause)
        raise


class RunLease:
    """A try to bring a run to its end, under a hold; a context manager that gives the hold up.

    `pause`: seconds for which no worker takes the run afterwards.
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
        with suppress(JournalError):  # where it cannot be written, the hold ends by itself
            run_id, lease_id, delay = self.claim.run_id, self.claim.lease_id, self.retry_delay
            await wait_shielded(
                self._writer.submit(lambda j: j.release(run_id, lease_id, delay=delay))
            )

    def watch(self, task: asyncio.Task[object]) -> None:
        """Cancels the task if the hold is lost, or if somebody wants the run to stop."""
        loop = asyncio.get_running_loop()

        def stop() -> None:
            self.is_stopped = True
            with suppress(RuntimeError):  # the loop has ended, and the task with it
                loop.call_soon_threadsafe(task.cancel)

        self._writer.watch_lease(self.claim.lease_id, stop)

    async def is_cancelled(self) -> bool:
        """Whether somebody wanted the run to stop."""
        run_id = self.claim.run_id
        return await wait_shielded(
            self._writer.submit(lambda journal: journal.is_cancel_requested(run_id))
        )

    async def record_failure(self, error: BaseException) -> None:
        """Records that no worker need try again."""
        name, words = type(error).__name__, str(error)
        await self.recorder.append("fail", {"type": name, "message": words}, "failed", name)


def check_run_id(run_id: str) -> None:
    """Raises UsageError for a run id that would not do."""
    if not (run_id and len(run_id) <= 200 and run_id.isprintable() and run_id == run_id.strip()):
        raise UsageError(
            f"{run_id!r:.220} is no run id; use 1 to 200 printable characters without blanks around"
        )
