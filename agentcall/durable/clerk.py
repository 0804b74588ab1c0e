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

from agentcall.durable.database import Database
from agentcall.durable.journal import Entry, Journal
from agentcall.errors import JournalError

T = TypeVar("T")

_MOST = 200
"""Orders carried out between two looks at the clock."""
_LEAVE = 5.0
"""Seconds to wait for the thread at the end."""


class _Order(NamedTuple):
    """Work on the journal, or an entry to be written."""

    work: Callable[[Journal], Any] | Entry  # Any: what the order's own future gives
    given: Future[Any]


class Clerk:
    """Works on the journal of a database, which is opened with the first order."""

    def __init__(self, opened: Callable[[], Database]) -> None:
        self._opened = opened
        self._orders: SimpleQueue[_Order | None] = SimpleQueue()
        self._holds: dict[str, Callable[[], None]] = {}
        self._starting = threading.Lock()
        self._thread: threading.Thread | None = None
        self._journal: Journal | None = None
        self._beaten = 0.0
        self._pid = os.getpid()

    def order(self, work: Callable[[Journal], T]) -> Future[T]:
        """What the work on the journal gives."""
        return self._put(work)

    def write(self, entry: Entry) -> Future[None]:
        """Done when the entry is on the disk. Raises JournalError if it never will be."""
        return self._put(entry)

    def watch(self, hold: str, stop: Callable[[], None]) -> None:
        """Renews a hold from now on; `stop` is called, in the clerk's thread, if it has to end."""
        self._holds[hold] = stop

    def forget(self, hold: str) -> None:
        """Renews a hold no longer."""
        self._holds.pop(hold, None)

    def close(self) -> None:
        """Ends, after the orders that are there."""
        with self._starting:
            thread, self._thread = self._thread, None
        if thread is not None:
            self._orders.put(None)
            if thread is not threading.current_thread():
                thread.join(_LEAVE)

    def _put(self, work: Callable[[Journal], T] | Entry) -> Future[Any]:
        order = _Order(work, Future())
        with self._starting:
            if self._pid != os.getpid():  # a fork: neither thread nor connection came along
                self._pid, self._thread, self._journal, self._holds = os.getpid(), None, None, {}
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(
                    target=self._live, name="agentcall journal", daemon=True
                )
                self._thread.start()
            self._orders.put(order)
        return order.given

    def _live(self) -> None:
        stays = True
        while stays:
            orders = self._waiting()
            stays = None not in orders
            self._carry_out([order for order in orders if order is not None])
            self._beat()
        journal, self._journal = self._journal, None
        if journal is not None:
            journal.database.close()

    def _waiting(self) -> list[_Order | None]:
        """What waits; nothing if for a beat nothing comes."""
        beat = self._journal.database.beat if self._journal else None
        orders: list[_Order | None] = []
        with suppress(Empty):
            orders.append(self._orders.get(timeout=beat if self._holds else None))
            while len(orders) < _MOST and orders[-1] is not None:
                orders.append(self._orders.get_nowait())
        return orders

    def _carry_out(self, orders: Iterable[_Order]) -> None:
        for is_entry, group in groupby(orders, lambda order: isinstance(order.work, Entry)):
            if is_entry:
                self._write(list(group))
            else:
                for order in group:
                    self._work(order)

    def _work(self, order: _Order) -> None:
        if isinstance(order.work, Entry):
            return
        try:
            order.given.set_result(order.work(self._open()))
        except BaseException as error:  # whatever it is, who gave the order has to know
            order.given.set_exception(error)

    def _write(self, orders: Sequence[_Order]) -> None:
        entries = [order.work for order in orders if isinstance(order.work, Entry)]
        try:
            faults: Sequence[BaseException | None] = self._open().write(entries)
        except BaseException as error:  # as above
            faults = [error] * len(orders)
        for order, fault in zip(orders, faults, strict=True):
            if fault is None:
                order.given.set_result(None)
            else:
                order.given.set_exception(fault)

    def _open(self) -> Journal:
        if self._journal is None:
            self._journal = Journal(self._opened())
        return self._journal

    def _beat(self) -> None:
        journal, holds = self._journal, dict(self._holds)
        if journal is None or not holds or time.monotonic() < self._beaten:
            return
        self._beaten = time.monotonic() + journal.database.beat
        with suppress(JournalError):  # whoever writes next will be told
            for hold in journal.renew(holds):
                if self._holds.pop(hold, None) is not None:
                    holds[hold]()


async def done(order: Future[T]) -> T:
    """What an order gives; it is carried out even if nobody waits for it any more."""
    return await asyncio.shield(asyncio.wrap_future(order))
