"""An event loop for a command: Ctrl-C ends what runs in it at once, whatever threads still do."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
from collections.abc import Collection, Coroutine
from contextlib import suppress
from types import TracebackType
from typing import Any, NoReturn, TypeVar

from typing_extensions import Self

from agentcall.cli.faults import INTERRUPTED

T = TypeVar("T")

_GRACE = 1.0
"""Seconds that what was interrupted has to tidy up."""


class InterruptibleLoop:
    """A loop for several coroutines after each other; a context manager.

    `asyncio.run` waits at its end for every thread that it lent out, and a model's download is
    such a thread.
    """

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        others = asyncio.all_tasks(self._loop)
        with suppress(RuntimeError, KeyboardInterrupt):
            self._loop.run_until_complete(_tidied(others))
        self._loop.set_exception_handler(lambda _loop, _context: None)  # what is left, is left
        self._loop.close()

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:  # Any: what it sends is its own
        """What the coroutine gives. Raises KeyboardInterrupt at Ctrl-C, after cancelling it."""
        task = self._loop.create_task(coroutine)
        interrupted = False

        def stop() -> None:
            nonlocal interrupted
            if interrupted:
                self._loop.stop()
            interrupted = True
            task.cancel()
            stopping.append(self._loop.call_later(_GRACE, self._loop.stop))

        stopping: list[asyncio.TimerHandle] = []
        with suppress(NotImplementedError):  # Windows: KeyboardInterrupt comes out of the loop
            self._loop.add_signal_handler(signal.SIGINT, stop)
        try:
            return self._loop.run_until_complete(task)
        except (RuntimeError, asyncio.CancelledError):
            if interrupted:
                raise KeyboardInterrupt from None
            raise
        finally:
            for timer in stopping:
                timer.cancel()
            with suppress(NotImplementedError):
                self._loop.remove_signal_handler(signal.SIGINT)


async def _tidied(others: Collection[asyncio.Task[Any]]) -> None:  # Any: whatever they give
    for task in others:
        task.cancel()
    if others:
        await asyncio.wait(others, timeout=_GRACE)
    closing = asyncio.ensure_future(asyncio.get_running_loop().shutdown_asyncgens())
    await asyncio.wait([closing], timeout=_GRACE)


def leave_interrupted() -> NoReturn:
    """Ends the process after Ctrl-C, not waiting for threads that nobody can stop."""
    sys.stderr.write("interrupted\n")
    with suppress(OSError):
        sys.stdout.flush()
    sys.stderr.flush()
    main = threading.main_thread()
    if any(not thread.daemon for thread in threading.enumerate() if thread is not main):
        os._exit(INTERRUPTED)
    sys.exit(INTERRUPTED)
