"""A hold on a run, from its claim to its release."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import NamedTuple

from typing_extensions import Self

from agentcall.durable.clerk import Clerk, done
from agentcall.durable.journal import Journal
from agentcall.durable.ledger import Ledger
from agentcall.durable.record import Record
from agentcall.durable.recorder import Recorder
from agentcall.errors import JournalDamaged, JournalError, UsageError

_LONG = 3600.0
"""Seconds for which workers leave a run alone whose records are damaged."""


class Held(NamedTuple):
    """A run and its records; `hold` is "" where it is not held.

    `claims` is how often in a row it was taken and did not come on.
    """

    run_id: str
    hold: str
    records: list[Record]
    claims: int = 0


# What the clerk does to get one.


def begun(first: Record, title: str) -> Callable[[Journal], Held]:
    """Begins a run, or goes on with the one that is there. Raises RunBusy."""

    def work(journal: Journal) -> Held:
        hold = journal.database.hold()
        if journal.add(first, hold, title=title):
            return Held(first.run_id, hold, [first])
        journal.database.drop(hold)
        return known(first.run_id)(journal)

    return work


def known(run_id: str) -> Callable[[Journal], Held]:
    """Claims a run that is there, unless it has ended or waits: then it is not held.

    Raises RunBusy, and UsageError if there is none.
    """

    def work(journal: Journal) -> Held:
        head = journal.head(run_id)
        if head is not None and head.state in ("paused", "finished"):
            return Held(run_id, "", journal.records(run_id))
        return claimed(run_id)(journal)

    return work


def claimed(run_id: str) -> Callable[[Journal], Held]:
    """Claims a run that is there. Raises RunBusy, and UsageError if there is none."""

    def work(journal: Journal) -> Held:
        hold = journal.database.hold()
        try:
            journal.claim(run_id, hold)
        except BaseException:
            journal.database.drop(hold)
            raise
        return _loaded(journal, run_id, hold, 0)

    return work


def taken(queue: str) -> Callable[[Journal], Held | None]:
    """Takes the next run of a queue; None if none is to be had."""

    def work(journal: Journal) -> Held | None:
        hold = journal.database.hold()
        head = journal.take(queue, hold)
        if head is None:
            journal.database.drop(hold)
            return None
        return _loaded(journal, head.run_id, hold, head.claims)

    return work


def _loaded(journal: Journal, run_id: str, hold: str, claims: int) -> Held:
    try:
        return Held(run_id, hold, journal.records(run_id), claims)
    except BaseException as error:
        pause = _LONG if isinstance(error, JournalDamaged) else 0.0
        with suppress(JournalError):
            journal.release(run_id, hold, pause=pause)
        raise


class Attempt:
    """A try to bring a run to its end, under a hold; a context manager that gives the hold up.

    `pause`: seconds for which no worker takes the run afterwards.
    """

    def __init__(self, clerk: Clerk, held: Held) -> None:
        self.held = held
        self.ledger = Ledger(held.run_id, held.records)
        self.recorder = Recorder(clerk, held.hold, self.ledger)
        self.is_stopped = False
        self.pause = 0.0
        self._clerk = clerk

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_error: object) -> None:
        if not self.held.hold:
            return
        self._clerk.forget(self.held.hold)
        with suppress(JournalError):  # where it cannot be written, the hold ends by itself
            run_id, hold, pause = self.held.run_id, self.held.hold, self.pause
            await done(self._clerk.order(lambda j: j.release(run_id, hold, pause=pause)))

    def watch(self, task: asyncio.Task[object]) -> None:
        """Cancels the task if the hold is lost, or if somebody wants the run to stop."""
        loop = asyncio.get_running_loop()

        def stop() -> None:
            self.is_stopped = True
            with suppress(RuntimeError):  # the loop has ended, and the task with it
                loop.call_soon_threadsafe(task.cancel)

        self._clerk.watch(self.held.hold, stop)

    async def is_cancelled(self) -> bool:
        """Whether somebody wanted the run to stop."""
        run_id = self.held.run_id
        return await done(self._clerk.order(lambda journal: journal.is_asked_to_stop(run_id)))

    async def fail(self, error: BaseException) -> None:
        """Records that no worker need try again."""
        name, words = type(error).__name__, str(error)
        await self.recorder.written("fail", {"type": name, "message": words}, "failed", name)


def refuse_bad_id(run_id: str) -> None:
    """Raises UsageError for a run id that would not do."""
    if not (run_id and len(run_id) <= 200 and run_id.isprintable() and run_id == run_id.strip()):
        raise UsageError(
            f"{run_id!r:.220} is no run id; use 1 to 200 printable characters without blanks around"
        )
