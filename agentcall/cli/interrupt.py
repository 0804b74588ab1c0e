"""An event loop for a command that Ctrl-C ends at once, whatever its threads are doing."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
from collections.abc import Collection, Coroutine
from contextlib import suppress
from typing import Any, NoReturn, TypeVar

from typing_extensions import Self

from agentcall.cli.errors import INTERRUPTED
from agentcall.errors import attach_result, get_attached_result

T = TypeVar("T")

_GRACE_SECONDS = 1.5
"""Seconds that interrupted tasks have to clean up: more than a run gives its tools."""


class InterruptibleLoop:
    """An event loop that runs coroutines one after another; a context manager.

    `asyncio.run` would wait at its end for all threads of its executor, and the download of a
    model is one. A second Ctrl-C waits for nothing.

    interrupts: how often Ctrl-C was pressed during the last `run`.
    """

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self.interrupts = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        others = asyncio.all_tasks(self._loop)
        with suppress(RuntimeError, KeyboardInterrupt):
            if self.interrupts < 2:
                self._loop.run_until_complete(_cancel_tasks(others))
        # tasks that are still pending would print warnings when they are destroyed
        self._loop.set_exception_handler(lambda _loop, _context: None)
        self._loop.close()

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:  # Any: it sends nothing
        """Return the coroutine's result. Raises KeyboardInterrupt at Ctrl-C, after cancelling it.

        The partial result of a cancelled run is attached to the exception.
        """
        self.interrupts = 0
        task = self._loop.create_task(coroutine)
        stopping: list[asyncio.TimerHandle] = []

        def stop() -> None:
            task.cancel()
            stopping.append(self._loop.call_later(_GRACE_SECONDS, self._loop.stop))

        def handle_sigint(number: int, frame: object) -> None:
            self.interrupts += 1
            if self.interrupts > 1:  # the loop may be blocked and never call `stop`
                raise KeyboardInterrupt
            self._loop.call_soon_threadsafe(stop)

        before = signal.signal(signal.SIGINT, handle_sigint)
        try:
            return self._loop.run_until_complete(task)
        except (RuntimeError, asyncio.CancelledError) as error:
            if not self.interrupts:
                raise
            interrupt = KeyboardInterrupt()
            attach_result(interrupt, get_attached_result(error))
            raise interrupt from None
        finally:
            for timer in stopping:
                timer.cancel()
            signal.signal(signal.SIGINT, before)


class DeferredInterrupt:
    """A context that keeps Ctrl-C until `raise_if_pending`, so that it is harmless between prompts.

    A second Ctrl-C is raised at once if the first is still pending.
    """

    def __init__(self) -> None:
        self._is_pending = False

    def __enter__(self) -> Self:
        self._previous_handler = signal.signal(signal.SIGINT, self._handle_sigint)
        return self

    def __exit__(self, *_error: object) -> None:
        signal.signal(signal.SIGINT, self._previous_handler)

    def raise_if_pending(self) -> None:
        """Raise KeyboardInterrupt if Ctrl-C was pressed since the last call."""
        if self._is_pending:
            self._is_pending = False
            raise KeyboardInterrupt

    def _handle_sigint(self, number: int, frame: object) -> None:
        if self._is_pending:
            raise KeyboardInterrupt
        self._is_pending = True


async def _cancel_tasks(others: Collection[asyncio.Task[Any]]) -> None:  # Any: unused results
    for task in others:
        task.cancel()
    if others:
        await asyncio.wait(others, timeout=_GRACE_SECONDS)
    closing = asyncio.ensure_future(asyncio.get_running_loop().shutdown_asyncgens())
    await asyncio.wait([closing], timeout=_GRACE_SECONDS)


def exit_after_interrupt() -> NoReturn:
    """End the process after Ctrl-C without waiting for threads, which cannot be stopped."""
    sys.stderr.write("interrupted\n")
    with suppress(OSError):
        sys.stdout.flush()
    sys.stderr.flush()
    # coroutines that are still open are closed at exit, when there is no event loop any more
    sys.unraisablehook = lambda _: None
    main = threading.main_thread()
    if any(not thread.daemon for thread in threading.enumerate() if thread is not main):
        os._exit(INTERRUPTED)
    sys.exit(INTERRUPTED)
