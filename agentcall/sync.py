"""The thin door from sync code to the async core.

One background thread holds one event loop for all sync runs of the process: connections stay
open between runs, and a caller that already runs in an event loop (Jupyter, FastAPI) may use it.
"""

from __future__ import annotations

import asyncio
import atexit
import contextvars
import os
import threading
from collections.abc import Coroutine
from concurrent.futures import Future, ThreadPoolExecutor, wait
from concurrent.futures import TimeoutError as TookTooLong
from contextlib import suppress
from functools import cache
from typing import Any, TypeVar

from agentcall.errors import attach_result, get_attached_result

T = TypeVar("T")

_CANCEL_SECONDS = 1.5
"""Seconds that a cancelled run has to put things in order: more than it gives its tools."""

_start_lock = threading.Lock()


def run_sync(coroutine: Coroutine[Any, Any, T]) -> T:  # Any: what a coroutine sends is its own
    """What the coroutine gives; it sees the caller's context variables.

    Ctrl-C cancels it, waits a moment for its end, and is raised then, with the `result` of a run
    that was cancelled. A second Ctrl-C does not wait.
    """
    with _start_lock:
        loop = get_background_loop()
    context = contextvars.copy_context()
    if _get_running_loop() is loop:
        return _run_in_new_thread(coroutine, context)
    outcome: Future[T] = Future()
    tasks: list[asyncio.Task[T]] = []

    def start() -> None:
        task = context.run(loop.create_task, coroutine)
        task.add_done_callback(lambda _: _copy_outcome(outcome, task))
        tasks.append(task)

    def stop() -> None:
        for task in tasks:
            task.cancel()

    loop.call_soon_threadsafe(start)
    try:
        return outcome.result()
    except BaseException as error:
        if not outcome.done():  # the error is not the coroutine's: it is Ctrl-C or the like
            loop.call_soon_threadsafe(stop)
            wait([outcome], _CANCEL_SECONDS)
            if outcome.done():
                attach_result(error, get_attached_result(outcome.exception()))
        raise


def _get_running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def _copy_outcome(outcome: Future[T], task: asyncio.Task[T]) -> None:
    try:
        outcome.set_result(task.result())
    except BaseException as error:  # asyncio.CancelledError too, with what it brings along
        outcome.set_exception(error)


def _run_in_new_thread(coroutine: Coroutine[Any, Any, T], context: contextvars.Context) -> T:
    """For a call from within the background loop: an async tool that runs an agent by run_sync."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(context.run, asyncio.run, coroutine).result()


@cache
def get_background_loop(name: str = "agentcall") -> asyncio.AbstractEventLoop:
    """The event loop of this name, in a daemon thread of its own; closed when the process ends."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name=name, daemon=True)
    thread.start()
    atexit.register(_close_loop, loop, thread)
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=get_background_loop.cache_clear)  # a fork has no threads
    return loop


def _close_loop(loop: asyncio.AbstractEventLoop, thread: threading.Thread) -> None:
    """Ends the loop as `asyncio.run` does, so that nothing is left open without a word."""
    with suppress(KeyboardInterrupt):  # whoever cannot wait for that need not
        _shut_down_loop(loop, thread)


def _shut_down_loop(loop: asyncio.AbstractEventLoop, thread: threading.Thread) -> None:
    if not thread.is_alive():
        return
    try:
        asyncio.run_coroutine_threadsafe(_cancel_all_tasks(loop), loop).result(timeout=1.0)
    except TookTooLong:  # a task that will not end has to be left, without a word
        loop.set_exception_handler(lambda _loop, _context: None)
    loop.call_soon_threadsafe(loop.stop)
    thread.join(timeout=1.0)
    if not thread.is_alive():
        loop.close()


async def _cancel_all_tasks(loop: asyncio.AbstractEventLoop) -> None:
    tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await loop.shutdown_asyncgens()
