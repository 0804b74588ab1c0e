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

MAX_IDLE_THREADS = 32
BRIEF_SECONDS = 0.0002

T = TypeVar("T")


async def run_in_thread(
    call: Callable[[], T], seconds: float | None, *, is_brief: bool = False
) -> T:
    """What the call gives, which must not raise; it sees this task's context variables.

    is_brief: whether it is likely to end within `BRIEF` seconds.
    Raises TimeoutError after so many seconds, and RuntimeError where there is no thread.
    """
    errand = _ThreadTask(call)
    worker = _idle_threads.pop() if _idle_threads else _WorkerThread()
    worker.submit(errand)
    if is_brief and errand.end_lock.acquire(timeout=BRIEF_SECONDS):
        return errand.results[0]
    loop = asyncio.get_running_loop()
    future = errand.watch(loop)
    alarm = None if seconds is None else loop.call_later(seconds, errand.resolve_future)
    try:
        await future
    finally:
        if alarm is not None:
            alarm.cancel()
    if not errand.results:
        raise TimeoutError
    return errand.results[0]


class _ThreadTask(Generic[T]):
    """A call that a thread makes; `gave` holds what it gave once it has `ended`."""

    def __init__(self, call: Callable[[], T]) -> None:
        self._call = call
        self._context = contextvars.copy_context()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._future: asyncio.Future[None] | None = None
        self.results: list[T] = []
        self.end_lock = threading.Lock()
        self.end_lock.acquire()

    def run(self) -> None:
        self.results.append(self._context.run(self._call))

    def finish(self) -> None:
        # Released before it is looked whether somebody watches, and the other way round in
        # `watched`: so one of both sees what the other did.
        self.end_lock.release()
        if self._loop is not None:
            with suppress(RuntimeError):  # the loop has closed: nobody waits any more
                self._loop.call_soon_threadsafe(self.resolve_future)

    def watch(self, loop: asyncio.AbstractEventLoop) -> asyncio.Future[None]:
        """A future that is done when the call has ended."""
        self._future = loop.create_future()
        self._loop = loop
        if self.end_lock.acquire(blocking=False):
            self.resolve_future()
        return self._future

    def resolve_future(self) -> None:
        if self._future is not None and not self._future.done():
            self._future.set_result(None)


class _WorkerThread:
    def __init__(self) -> None:
        self._tasks: list[_ThreadTask[Any]] = []  # Any: one after another, of any type
        self._wake = threading.Lock()
        self._wake.acquire()
        threading.Thread(target=self._run_tasks, name="agentcall tool", daemon=True).start()

    def submit(self, task: _ThreadTask[Any]) -> None:  # Any: as above
        self._tasks.append(task)
        self._wake.release()

    def _run_tasks(self) -> None:
        stays = True
        while stays:
            self._wake.acquire()
            errand = self._tasks.pop()
            errand.run()
            stays = len(_idle_threads) < MAX_IDLE_THREADS
            if stays:  # before it is told, so that who was told finds a thread that is free
                _idle_threads.append(self)
            errand.finish()
            del errand  # what it gave may be large


_idle_threads: list[_WorkerThread] = []

if hasattr(os, "register_at_fork"):  # threads do not come along
    os.register_at_fork(after_in_child=_idle_threads.clear)
