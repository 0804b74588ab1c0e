"""The thin door from sync code to the async core.

One background thread holds one event loop for all sync runs of the process: connections stay
open between runs, and a caller that already runs in an event loop (Jupyter, FastAPI) may use it.

The course of an agent's run: in a session or without, told as it happens or at its end.
"""

from __future__ import annotations

import asyncio
import atexit
import contextvars
import os
import threading
from collections import deque
from collections.abc import AsyncGenerator, Coroutine
from concurrent.futures import Future, ThreadPoolExecutor, wait
from concurrent.futures import TimeoutError as TookTooLong
from contextlib import suppress
from functools import cache
from typing import Any, TypeVar

from agentcall.errors import attach_result, get_attached_result
from agentcall.events import Emit, Event
from agentcall.result import RunResult
from agentcall.runtime.context import RunInput
from agentcall.runtime.run import AgentRun
from agentcall.runtime.session import Session, run_in_session
from agentcall.runtime.spec import AgentSpec


async def run_agent(
    spec: AgentSpec, run_input: RunInput, session: Session | None, emit: Emit | None = None
) -> RunResult[Any]:  # Any: the agent knows its output's type
    """What the run gives. Raises what it raises."""
    if session is not None:
        return await run_in_session(session, spec, run_input, emit)
    return await AgentRun(spec, run_input, emit).execute()


async def stream_agent(
    spec: AgentSpec, run_input: RunInput, session: Session | None
) -> AsyncGenerator[Event, None]:
    """The events of the run as they happen; leaving the loop early cancels it."""
    events: deque[Event] = deque()
    wakeup = asyncio.Event()

    def emit(event: Event) -> None:
        events.append(event)
        wakeup.set()

    task = asyncio.ensure_future(run_agent(spec, run_input, session, emit))
    task.add_done_callback(lambda _: wakeup.set())
    try:
        while not task.done():
            await wakeup.wait()
            wakeup.clear()
            while events:
                yield events.popleft()
        await task
    except asyncio.CancelledError as error:
        await _cancel_and_wait(task)
        attach_result(error, _get_result(task))
        raise
    finally:
        await _cancel_and_wait(task)


async def _cancel_and_wait(task: asyncio.Task[RunResult[Any]]) -> None:
    """Waits until a run has ended, which is cancelled if it has not."""
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def _get_result(task: asyncio.Task[RunResult[Any]]) -> object:
    """What a run had come to that has ended."""
    try:
        return task.result()
    except BaseException as error:  # asyncio.CancelledError too
        return get_attached_result(error)


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
