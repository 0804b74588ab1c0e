"""Daemon threads for sync tools: a thread that is free takes the next call.

Starting a thread costs more than twice what waking one does. Rules:
1. Threads are daemons: none holds up the end of the process.
2. No call waits for another: where no thread is free, a new one is started. One that hangs is
   merely never free again.
3. At most `KEPT` free threads are kept.
4. For a call that is likely to end at once the event loop waits, up to `BRIEF` seconds: that
   costs half of being woken.
"""

from __future__ import annotations

import asyncio
import contextvars
import os
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Generic, TypeVar

KEPT = 32
BRIEF = 0.0002

T = TypeVar("T")


async def in_thread(call: Callable[[], T], seconds: float | None, *, is_brief: bool = False) -> T:
    """What the call gives, which must not raise; it sees this task's context variables.

    is_brief: whether it is likely to end within `BRIEF` seconds.
    Raises TimeoutError after so many seconds, and RuntimeError where there is no thread.
    """
    errand = _Errand(call)
    worker = _free.pop() if _free else _Worker()
    worker.take(errand)
    if is_brief and errand.ended.acquire(timeout=BRIEF):
        return errand.gave[0]
    loop = asyncio.get_running_loop()
    future = errand.watched(loop)
    alarm = None if seconds is None else loop.call_later(seconds, errand.settle)
    try:
        await future
    finally:
        if alarm is not None:
            alarm.cancel()
    if not errand.gave:
        raise TimeoutError
    return errand.gave[0]


class _Errand(Generic[T]):
    """A call that a thread makes; `gave` holds what it gave once it has `ended`."""

    def __init__(self, call: Callable[[], T]) -> None:
        self._call = call
        self._context = contextvars.copy_context()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._future: asyncio.Future[None] | None = None
        self.gave: list[T] = []
        self.ended = threading.Lock()
        self.ended.acquire()

    def run(self) -> None:
        self.gave.append(self._context.run(self._call))

    def tell(self) -> None:
        # Released before it is looked whether somebody watches, and the other way round in
        # `watched`: so one of both sees what the other did.
        self.ended.release()
        if self._loop is not None:
            with suppress(RuntimeError):  # the loop has closed: nobody waits any more
                self._loop.call_soon_threadsafe(self.settle)

    def watched(self, loop: asyncio.AbstractEventLoop) -> asyncio.Future[None]:
        """A future that is done when the call has ended."""
        self._future = loop.create_future()
        self._loop = loop
        if self.ended.acquire(blocking=False):
            self.settle()
        return self._future

    def settle(self) -> None:
        if self._future is not None and not self._future.done():
            self._future.set_result(None)


class _Worker:
    def __init__(self) -> None:
        self._errands: list[_Errand[Any]] = []  # Any: one after another, of any type
        self._wake = threading.Lock()
        self._wake.acquire()
        threading.Thread(target=self._live, name="agentcall tool", daemon=True).start()

    def take(self, errand: _Errand[Any]) -> None:  # Any: as above
        self._errands.append(errand)
        self._wake.release()

    def _live(self) -> None:
        stays = True
        while stays:
            self._wake.acquire()
            errand = self._errands.pop()
            errand.run()
            stays = len(_free) < KEPT
            if stays:  # before it is told, so that who was told finds a thread that is free
                _free.append(self)
            errand.tell()
            del errand  # what it gave may be large


_free: list[_Worker] = []

if hasattr(os, "register_at_fork"):  # threads do not come along
    os.register_at_fork(after_in_child=_free.clear)
