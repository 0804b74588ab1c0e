"""An event loop for a command: Ctrl-C ends what runs in it at once, whatever threads still do."""

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

from agentcall.cli.faults import INTERRUPTED
from agentcall.errors import attach_result, get_attached_result

T = TypeVar("T")

_GRACE_SECONDS = 1.5
"""Seconds that what was interrupted has to tidy up: more than a run gives its tools."""


class InterruptibleLoop:
    """A loop for several coroutines after each other; a context manager.

    `asyncio.run` waits at its end for every thread that it lent out, and a model's download is
    such a thread. A second Ctrl-C waits for nothing.

    interrupts: how often Ctrl-C came in the last `run`.
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
        self._loop.set_exception_handler(lambda _loop, _context: None)  # what is left, is left
        self._loop.close()

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:  # Any: what it sends is its own
        """What the coroutine gives. Raises KeyboardInterrupt at Ctrl-C, after cancelling it.

        Its `result` is that of a run that was cancelled.
        """
        self.interrupts = 0
        task = self._loop.create_task(coroutine)
        stopping: list[asyncio.TimerHandle] = []

        def stop() -> None:
            task.cancel()
            stopping.append(self._loop.call_later(_GRACE_SECONDS, self._loop.stop))

        def handle_sigint(number: int, frame: object) -> None:
            self.interrupts += 1
            if self.interrupts > 1:  # the loop may be blocked and never get to `stop`
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
    """A context in which Ctrl-C waits until somebody takes it, where nothing else handles it.

    So it does no harm between two prompts. A second one that finds the first still waiting is
    raised at once.
    """

    def __init__(self) -> None:
        self._is_pending = False

    def __enter__(self) -> Self:
        self._previous_handler = signal.signal(signal.SIGINT, self._handle_sigint)
        return self

    def __exit__(self, *_error: object) -> None:
        signal.signal(signal.SIGINT, self._previous_handler)

    def raise_if_pending(self) -> None:
        """Raises KeyboardInterrupt if Ctrl-C came since."""
        if self._is_pending:
            self._is_pending = False
            raise KeyboardInterrupt

    def _handle_sigint(self, number: int, frame: object) -> None:
        if self._is_pending:
            raise KeyboardInterrupt
        self._is_pending = True


async def _cancel_tasks(others: Collection[asyncio.Task[Any]]) -> None:  # Any: whatever they give
    for task in others:
        task.cancel()
    if others:
        await asyncio.wait(others, timeout=_GRACE_SECONDS)
    closing = asyncio.ensure_future(asyncio.get_running_loop().shutdown_asyncgens())
    await asyncio.wait([closing], timeout=_GRACE_SECONDS)


def exit_after_interrupt() -> NoReturn:
    """Ends the process after Ctrl-C, not waiting for threads that nobody can stop."""
    sys.stderr.write("interrupted\n")
    with suppress(OSError):
        sys.stdout.flush()
    sys.stderr.flush()
    # coroutines that are still open are closed with the program, and may find no event loop then
    sys.unraisablehook = lambda _: None
    main = threading.main_thread()
    if any(not thread.daemon for thread in threading.enumerate() if thread is not main):
        os._exit(INTERRUPTED)
    sys.exit(INTERRUPTED)
