"""The one thread that touches a journal: it carries orders out in the order in which they came.

Records that wait at the same time are written together, so that many runs share what it costs to
get bytes onto a disk. Between orders it renews the holds of this process, and tells the runs whose
hold is lost or that somebody wants to stop.
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

from agentcall.durable.database import JournalDatabase
from agentcall.durable.journal import Journal, JournalEntry
from agentcall.errors import JournalError

T = TypeVar("T")

_MAX_ITEMS = 200
"""Orders carried out between two looks at the clock."""
_JOIN_SECONDS = 5.0
"""Seconds to wait for the thread at the end."""


class _WorkItem(NamedTuple):
    """Work on the journal, or an entry to be written."""

    work: Callable[[Journal], Any] | JournalEntry  # Any: what the order's own future gives
    future: Future[Any]


class WriterThread:
    """Works on the journal of a database, which is opened with the first order."""

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
        """What the work on the journal gives."""
        return self._enqueue(work)

    def write(self, entry: JournalEntry) -> Future[None]:
        """Done when the entry is on the disk. Raises JournalError if it never will be."""
        return self._enqueue(entry)

    def watch_lease(self, lease_id: str, stop: Callable[[], None]) -> None:
        """Renews a hold from now on; `stop` is called, in the clerk's thread, if it has to end."""
        self._leases[lease_id] = stop

    def unwatch_lease(self, lease_id: str) -> None:
        """Renews a hold no longer."""
        self._leases.pop(lease_id, None)

    def close(self) -> None:
        """Ends, after the orders that are there."""
        with self._start_lock:
            thread, self._thread = self._thread, None
        if thread is not None:
            self._queue.put(None)
            if thread is not threading.current_thread():
                thread.join(_JOIN_SECONDS)

    def _enqueue(self, work: Callable[[Journal], T] | JournalEntry) -> Future[Any]:
        item = _WorkItem(work, Future())
        with self._start_lock:
            if self._pid != os.getpid():  # a fork: neither thread nor connection came along
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
            self._process([order for order in items if order is not None])
            self._renew_leases()
        journal, self._journal = self._journal, None
        if journal is not None:
            journal.database.close()

    def _take_items(self) -> list[_WorkItem | None]:
        """What waits; nothing if for a beat nothing comes."""
        timeout = self._journal.database.heartbeat_seconds if self._journal else None
        items: list[_WorkItem | None] = []
        with suppress(Empty):
            items.append(self._queue.get(timeout=timeout if self._leases else None))
            while len(items) < _MAX_ITEMS and items[-1] is not None:
                items.append(self._queue.get_nowait())
        return items

    def _process(self, items: Iterable[_WorkItem]) -> None:
        for is_entry, group in groupby(items, lambda order: isinstance(order.work, JournalEntry)):
            if is_entry:
                self._write_entries(list(group))
            else:
                for order in group:
                    self._execute(order)

    def _execute(self, item: _WorkItem) -> None:
        if isinstance(item.work, JournalEntry):
            return
        try:
            item.future.set_result(item.work(self._get_journal()))
        except BaseException as error:  # whatever it is, who gave the order has to know
            item.future.set_exception(error)

    def _write_entries(self, items: Sequence[_WorkItem]) -> None:
        entries = [order.work for order in items if isinstance(order.work, JournalEntry)]
        try:
            faults: Sequence[BaseException | None] = self._get_journal().append(entries)
        except BaseException as error:  # as above
            faults = [error] * len(items)
        for order, fault in zip(items, faults, strict=True):
            if fault is None:
                order.future.set_result(None)
            else:
                order.future.set_exception(fault)

    def _get_journal(self) -> Journal:
        if self._journal is None:
            self._journal = Journal(self._open_database())
        return self._journal

    def _renew_leases(self) -> None:
        journal, leases = self._journal, dict(self._leases)
        if journal is None or not leases or time.monotonic() < self._next_renewal:
            return
        self._next_renewal = time.monotonic() + journal.database.heartbeat_seconds
        with suppress(JournalError):  # whoever writes next will be told
            for hold in journal.renew_leases(leases):
                if self._leases.pop(hold, None) is not None:
                    leases[hold]()


async def wait_shielded(future: Future[T]) -> T:
    """What an order gives; it is carried out even if nobody waits for it any more."""
    return await asyncio.shield(asyncio.wrap_future(future))
