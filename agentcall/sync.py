"""The thin door from sync code to the async core.

One background thread holds one event loop for all sync runs of the process: connections stay
open between runs, and a caller that already runs in an event loop (Jupyter, FastAPI) may use it.
"""

from __future__ import annotations

import asyncio
import atexit
import contextvars
import threading
from collections.abc import Coroutine
from functools import cache
from typing import Any, TypeVar

T = TypeVar("T")


def run_sync(coroutine: Coroutine[Any, Any, T]) -> T:  # Any: what a coroutine sends is its own
    """What the coroutine gives; Ctrl-C cancels it and waits until it has ended."""
    context = contextvars.copy_context()
    future = asyncio.run_coroutine_threadsafe(_in_context(coroutine, context), _loop())
    try:
        return future.result()
    except BaseException:
        if future.cancel():
            _settled(_loop())
        raise


async def _in_context(coroutine: Coroutine[Any, Any, T], context: contextvars.Context) -> T:
    for variable, value in context.items():
        variable.set(value)
    return await coroutine


@cache
def _loop() -> asyncio.AbstractEventLoop:
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="agentcall", daemon=True)
    thread.start()
    atexit.register(_close, loop, thread)
    return loop


def _settled(loop: asyncio.AbstractEventLoop) -> None:
    """Waits a moment for what was cancelled to end."""
    asyncio.run_coroutine_threadsafe(asyncio.sleep(0.05), loop).result(timeout=1.0)


def _close(loop: asyncio.AbstractEventLoop, thread: threading.Thread) -> None:
    """Ends the loop as `asyncio.run` does, so that sessions are closed without a warning."""
    asyncio.run_coroutine_threadsafe(loop.shutdown_asyncgens(), loop).result(timeout=2.0)
    loop.call_soon_threadsafe(loop.stop)
    thread.join(timeout=2.0)
    if not thread.is_alive():
        loop.close()
