"""A pool of daemon threads for sync tools. Idle threads are reused.

Starting a thread costs more than twice as much as waking one. Rules:

1. Threads are daemons, so that none delays the exit of the process.
2. No call waits for another: a new thread is started when none is idle. A call that hangs only
   costs its own thread.
3. At most `MAX_IDLE_THREADS` idle threads are kept.
4. For a call that probably ends at once the event loop blocks for up to `BRIEF_SECONDS`, which
   costs half as much as being woken.
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
    """Return the result of a call, which must not raise, with this task's context variables.

    seconds: timeout; the call itself continues in its thread after it.
    is_brief: whether the call probably ends within `BRIEF_SECONDS`.
    Raises TimeoutError, and RuntimeError if the system has no thread left.
    """
    task = _ThreadTask(call)
    worker = _idle_threads.pop() if _idle_threads else _WorkerThread()
    worker.submit(task)
    if is_brief and task.end_lock.acquire(timeout=BRIEF_SECONDS):
        return task.results[0]
    loop = asyncio.get_running_loop()
    future = task.watch(loop)
    timer = None if seconds is None else loop.call_later(seconds, task.resolve_future)
    try:
        await future
    finally:
        if timer is not None:
            timer.cancel()
    if not task.results:
        raise TimeoutError
    return task.results[0]


class _ThreadTask(Generic[T]):
    """A call for a thread. `results` has its result once `end_lock` has been released."""

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
        # This releases the lock first and then reads `_loop`; `watch` sets `_loop` first and then
        # tries the lock. So at least one of them sees the other, whichever thread is faster.
        self.end_lock.release()
        if self._loop is not None:
            with suppress(RuntimeError):  # the loop is closed: nobody waits any more
                self._loop.call_soon_threadsafe(self.resolve_future)

    def watch(self, loop: asyncio.AbstractEventLoop) -> asyncio.Future[None]:
        """Return a future that is done when the call has ended."""
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
        self._tasks: list[_ThreadTask[Any]] = []  # Any: tasks of any result type; at most one
        self._wake = threading.Lock()
        self._wake.acquire()
        threading.Thread(target=self._run_tasks, name="agentcall tool", daemon=True).start()

    def submit(self, task: _ThreadTask[Any]) -> None:  # Any: see _tasks
        self._tasks.append(task)
        self._wake.release()

    def _run_tasks(self) -> None:
        stays = True
        while stays:
            self._wake.acquire()
            task = self._tasks.pop()
            task.run()
            stays = len(_idle_threads) < MAX_IDLE_THREADS
            if stays:  # before `finish`, so that the caller's next call finds this thread idle
                _idle_threads.append(self)
            task.finish()
            del task  # its result may be large


_idle_threads: list[_WorkerThread] = []

if hasattr(os, "register_at_fork"):  # a forked child has none of its parent's threads
    os.register_at_fork(after_in_child=_idle_threads.clear)
