"""The one thread that uses a journal: it executes work in the order of its arrival.

Records that wait at the same time are written in one transaction, so that many runs share the cost
of flushing to the disk. Between two batches of work the thread renews the leases of this process
and stops the runs whose lease is lost or that are to be cancelled.
"""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from itertools import groupby
from queue import Empty, SimpleQueue
from typing import Any, NamedTuple, TypeVar

from agentcall.durable.journal import Journal, JournalDatabase, JournalEntry
from agentcall.errors import JournalError

T = TypeVar("T")

_MAX_ITEMS = 200
"""Work items executed between two checks of the leases."""
_JOIN_SECONDS = 5.0
"""Seconds that `close` waits for the thread."""


class _WorkItem(NamedTuple):
    """Work on the journal, or an entry to write."""

    work: Callable[[Journal], Any] | JournalEntry  # Any: the type of the future's result
    future: Future[Any]


class WriterThread:
    """Executes work on the journal of a database, which is opened with the first work item."""

    def __init__(self, open_database: Callable[[], JournalDatabase]) -> None:
        self._open_database = open_database
        self._queue: SimpleQueue[_WorkItem | None] = SimpleQueue()
        self._leases: dict[str, Callable[[], None]] = {}
        self._start_lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._journal: Journal | None = None
        self._next_renewal = 0.0
        self._pid = os.getpid()

    def submit(self, work: Callable[[Journal], T]) -> Future[T]:
        """Execute work on the journal; the future has its result."""
        return self._enqueue(work)

    def write(self, entry: JournalEntry) -> Future[None]:
        """Write an entry; the future is done when it is on the disk, or has a JournalError."""
        return self._enqueue(entry)

    def watch_lease(self, lease_id: str, stop: Callable[[], None]) -> None:
        """Renew a lease from now on; `stop` is called in this thread if its run has to stop."""
        self._leases[lease_id] = stop

    def unwatch_lease(self, lease_id: str) -> None:
        """Stop renewing a lease."""
        self._leases.pop(lease_id, None)

    def close(self) -> None:
        """Execute the work that was submitted, then end the thread and close the journal."""
        with self._start_lock:
            thread, self._thread = self._thread, None
        if thread is not None:
            self._queue.put(None)
            if thread is not threading.current_thread():
                thread.join(_JOIN_SECONDS)

    def _enqueue(self, work: Callable[[Journal], T] | JournalEntry) -> Future[Any]:
        item = _WorkItem(work, Future())
        with self._start_lock:
            # a forked child has no thread, and must not use its parent's connection
            if self._pid != os.getpid():
                self._pid, self._thread, self._journal, self._leases = os.getpid(), None, None, {}
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(
                    target=self._run, name="agentcall journal", daemon=True
                )
                self._thread.start()
            self._queue.put(item)
        return item.future

    def _run(self) -> None:
        is_running = True
        while is_running:
            items = self._take_items()
            is_running = None not in items
            self._process([item for item in items if item is not None])
            self._renew_leases()
        journal, self._journal = self._journal, None
        if journal is not None:
            journal.database.close()

    def _take_items(self) -> list[_WorkItem | None]:
        """Wait for work; return nothing if the leases are due before any arrives."""
        timeout = self._journal.database.heartbeat_seconds if self._journal else None
        items: list[_WorkItem | None] = []
        with suppress(Empty):
            items.append(self._queue.get(timeout=timeout if self._leases else None))
            while len(items) < _MAX_ITEMS and items[-1] is not None:
                items.append(self._queue.get_nowait())
        return items

    def _process(self, items: Iterable[_WorkItem]) -> None:
        for is_entry, group in groupby(items, lambda item: isinstance(item.work, JournalEntry)):
            if is_entry:
                self._write_entries(list(group))
            else:
                for item in group:
                    self._execute(item)

    def _execute(self, item: _WorkItem) -> None:
        if isinstance(item.work, JournalEntry):
            return
        try:
            item.future.set_result(item.work(self._get_journal()))
        except BaseException as error:  # any error belongs to the caller who waits for the future
            item.future.set_exception(error)

    def _write_entries(self, items: Sequence[_WorkItem]) -> None:
        entries = [item.work for item in items if isinstance(item.work, JournalEntry)]
        try:
            errors: Sequence[BaseException | None] = self._get_journal().append(entries)
        except BaseException as error:  # as in `_execute`
            errors = [error] * len(items)
        for item, refusal in zip(items, errors, strict=True):
            if refusal is None:
                item.future.set_result(None)
            else:
                item.future.set_exception(refusal)

    def _get_journal(self) -> Journal:
        if self._journal is None:
            self._journal = Journal(self._open_database())
        return self._journal

    def _renew_leases(self) -> None:
        journal, leases = self._journal, dict(self._leases)
        if journal is None or not leases or time.monotonic() < self._next_renewal:
            return
        self._next_renewal = time.monotonic() + journal.database.heartbeat_seconds
        with suppress(JournalError):  # the next write reports it
            for lease_id in journal.renew_leases(leases):
                if self._leases.pop(lease_id, None) is not None:
                    leases[lease_id]()


async def wait_shielded(future: Future[T]) -> T:
    """Wait for a future, which is not cancelled with the task that waits."""
    return await asyncio.shield(asyncio.wrap_future(future))
