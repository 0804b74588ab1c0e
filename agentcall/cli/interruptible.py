"""An event loop for a command: Ctrl-C ends what runs in it at once, whatever threads still do."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
from collections.abc import Coroutine
from contextlib import suppress
from types import TracebackType
from typing import Any, TypeVar

from typing_extensions import Self

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
        with suppress(asyncio.TimeoutError, TimeoutError, KeyboardInterrupt):
            closing = asyncio.wait_for(self._loop.shutdown_asyncgens(), _GRACE)
            self._loop.run_until_complete(closing)
        self._loop.close()

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:  # Any: what it sends is its own
        """What the coroutine gives. Raises KeyboardInterrupt at Ctrl-C, after cancelling it."""
        task = self._loop.create_task(coroutine)
        try:
            self._watch(task)
            return self._loop.run_until_complete(task)
        except (KeyboardInterrupt, asyncio.CancelledError):
            raise self._interrupted(task) from None
        except RuntimeError:
            if task.done():
                raise
            raise self._interrupted(task) from None
        finally:
            with suppress(NotImplementedError):
                self._loop.remove_signal_handler(signal.SIGINT)

    def _watch(self, task: asyncio.Task[T]) -> None:
        def stop() -> None:
            task.cancel()
            self._loop.call_later(_GRACE, self._loop.stop)

        # Windows has no such handlers; there KeyboardInterrupt comes out of the loop.
        with suppress(NotImplementedError):
            self._loop.add_signal_handler(signal.SIGINT, stop)

    def _interrupted(self, task: asyncio.Task[T]) -> KeyboardInterrupt:
        task.cancel()
        return KeyboardInterrupt()


def leave(code: int) -> None:
    """Ends the process, not waiting for threads that nobody can stop."""
    sys.stdout.flush()
    sys.stderr.flush()
    main = threading.main_thread()
    if any(not thread.daemon for thread in threading.enumerate() if thread is not main):
        os._exit(code)
    sys.exit(code)
