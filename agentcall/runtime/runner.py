"""Starts the runs of agents: in a session or without, awaited, streamed, or from sync code.

For sync code, one background thread runs one event loop for all runs of the process: connections
stay open between runs, and a caller that is itself inside an event loop (Jupyter, FastAPI) may use
it.
"""

from __future__ import annotations

import asyncio
import atexit
import contextvars
import os
import threading
import traceback
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Generator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from concurrent.futures import TimeoutError as TookTooLong
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple, TypeVar
from weakref import WeakKeyDictionary

from agentcall.errors import (
    AgentCallError,
    ModelError,
    PolicyFailed,
    SessionError,
    UsageError,
    attach_result,
    get_attached_result,
)
from agentcall.events import Emit, Event, ProgressEvent, RunFinished
from agentcall.result import RunResult
from agentcall.runtime.agent_spec import AgentSpec
from agentcall.runtime.run import AgentRun
from agentcall.runtime.session import Session, run_in_session
from agentcall.runtime.state import RunInput

T = TypeVar("T")

_CANCEL_SECONDS = 1.5
"""Seconds that a cancelled run may take to clean up: more than it gives its tools."""

_OWN_FOLDER = f"{Path(__file__).parents[1]}{os.sep}"
_LIBRARY_FOLDER = f"{Path(os.__file__).parent}{os.sep}"

_start_lock = threading.Lock()

_thread_ids: WeakKeyDictionary[asyncio.AbstractEventLoop, int | None] = WeakKeyDictionary()
"""The threads of the background loops. Under gevent and eventlet they are green threads of one
thread, so that asyncio calls a loop of another one running."""


async def run_agent(
    spec: AgentSpec, run_input: RunInput, session: Session | None, emit: Emit | None = None
) -> RunResult[Any]:  # Any: the agent knows its output's type
    """Run to the end and return the result. Raises what the run raises."""
    if session is not None:
        return await run_in_session(session, spec, run_input, emit)
    return await AgentRun(spec, run_input, emit).execute()


class EventReader(NamedTuple):
    """Who reads the events of a run one by one.

    emit: hands an event over. wait: waits until the reader has taken all events and waits for more.
    """

    emit: Emit
    wait: Callable[[], Awaitable[None]]


def stream_agent(
    spec: AgentSpec, run_input: RunInput, session: Session | None
) -> AsyncGenerator[ProgressEvent | RunFinished[Any], None]:  # Any: as above
    """Yield the events of a run as they happen; see `stream_events`."""

    def start(reader: EventReader) -> Coroutine[Any, Any, RunResult[Any]]:
        return run_agent(
            spec, run_input._replace(wait_for_reader=reader.wait), session, reader.emit
        )

    return stream_events(start)


async def stream_events(
    start: Callable[[EventReader], Coroutine[Any, Any, RunResult[Any]]],  # Any: as above
) -> AsyncGenerator[ProgressEvent | RunFinished[Any], None]:
    """Yield the events of the run that `start` returns; leaving the loop early cancels the run.

    A request is made only when the reader has taken the events before it and waits for more.
    """
    events: deque[Event] = deque()
    wakeup, is_waiting = asyncio.Event(), asyncio.Event()

    def emit(event: Event) -> None:
        events.append(event)
        wakeup.set()

    async def wait_for_reader() -> None:
        while events or not is_waiting.is_set():
            await is_waiting.wait()
            await asyncio.sleep(0)

    task = asyncio.ensure_future(start(EventReader(emit, wait_for_reader)))
    task.add_done_callback(lambda _: wakeup.set())
    try:
        while not task.done():
            is_waiting.set()
            await wakeup.wait()
            is_waiting.clear()
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
    """Cancel a run if it has not ended, and wait for its end."""
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def _get_result(task: asyncio.Task[RunResult[Any]]) -> object:
    """Return what an ended run had achieved, also if it raised."""
    try:
        return task.result()
    except BaseException as error:  # asyncio.CancelledError too
        return get_attached_result(error)


def run_sync(coroutine: Coroutine[Any, Any, T]) -> T:  # Any: what a coroutine sends is its own
    """Run a coroutine from sync code, with the caller's context variables, and return its result.

    Ctrl-C cancels the coroutine, waits a moment for its end, and is then raised with the `result`
    of the cancelled run. A second Ctrl-C does not wait.
    """
    with _start_lock:
        loop = get_background_loop()
    context = contextvars.copy_context()
    if threading.get_ident() == _thread_ids[loop]:
        # The caller is an async tool, which blocks the loop until this returns.
        with ThreadPoolExecutor(1) as pool:
            return pool.submit(context.run, _run_in_thread, coroutine).result()
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
    except (ModelError, SessionError, UsageError) as error:
        _hide_own_frames(error)
        raise error  # with a bare `raise` Python 3.10 would restore the traceback
    except BaseException as error:
        if not outcome.done():  # Ctrl-C, or another error that is not from the coroutine
            loop.call_soon_threadsafe(stop)
            wait([outcome], _CANCEL_SECONDS)
            if outcome.done():
                attach_result(error, get_attached_result(outcome.exception()))
        raise


def iterate_sync(items: AsyncGenerator[T, None]) -> Generator[T, None, None]:
    """Yield the items of an async generator to sync code; leaving the loop closes it.

    Raises what the generator raises, and UsageError in an async tool, whose loop it would block.
    """
    if threading.get_ident() in _thread_ids.values():
        raise UsageError("an async tool cannot read a stream from sync code; use `async for` in it")
    try:
        while (batch := run_sync(_take_item(items))) is not None:
            yield batch[0]
    finally:
        run_sync(items.aclose())


async def _take_item(items: AsyncGenerator[T, None]) -> tuple[T] | None:
    """Return the next item; None if there is none."""
    async for item in items:
        return (item,)
    return None


def _hide_own_frames(error: AgentCallError) -> None:
    """Reduce the printed traceback to the caller's code and the message.

    It would show the frames of the other thread, and those of the HTTP client for the cause, which
    is kept as the context. A traceback with other code than ours is left as it is.
    """
    frames = traceback.walk_tb(error.__traceback__)
    is_own = all(_is_own_file(frame.f_code.co_filename) for frame, _ in frames)
    if is_own and not isinstance(error, PolicyFailed):  # its cause is the user's code
        error.__context__, error.__cause__ = error.__cause__ or error.__context__, None
        error.__suppress_context__ = True
        error.__traceback__ = None


def _is_own_file(name: str) -> bool:
    """Whether a file belongs to agentcall or to the standard library."""
    is_installed = "site-packages" in name or "dist-packages" in name
    return name.startswith(_OWN_FOLDER) or (name.startswith(_LIBRARY_FOLDER) and not is_installed)


def _run_in_thread(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine in a new thread. Raises UsageError if it is a green thread of this one."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(coroutine)
    coroutine.close()
    raise UsageError(
        "an async tool cannot call run_sync under gevent or eventlet, whose threads are one; use "
        "`await agent.run(...)` in it"
    )


def _copy_outcome(outcome: Future[T], task: asyncio.Task[T]) -> None:
    try:
        outcome.set_result(task.result())
    except BaseException as error:  # asyncio.CancelledError too, with its `result`
        outcome.set_exception(error)


@cache
def get_background_loop(name: str = "agentcall") -> asyncio.AbstractEventLoop:
    """Return the event loop of this name, in its own daemon thread; closed at the end."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name=name, daemon=True)
    thread.start()
    _thread_ids[loop] = thread.ident
    atexit.register(_close_loop, loop, thread)
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=get_background_loop.cache_clear)  # a fork has no threads
    return loop


def _close_loop(loop: asyncio.AbstractEventLoop, thread: threading.Thread) -> None:
    """Close the loop as `asyncio.run` does, so that nothing is left open silently."""
    if not thread.is_alive():
        return
    with suppress(KeyboardInterrupt):  # a second Ctrl-C skips the waiting
        try:
            asyncio.run_coroutine_threadsafe(_cancel_all_tasks(loop), loop).result(timeout=1.0)
        except TookTooLong:  # a task that does not end is left behind, without a warning
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
