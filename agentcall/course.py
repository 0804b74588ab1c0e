"""The course of an agent's run: in a session or without, told as it happens or at its end."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator
from typing import Any

from agentcall.errors import keep_result, kept_result
from agentcall.events import Emit, Event
from agentcall.keeping import run_in
from agentcall.memory import Session
from agentcall.origin import Origin
from agentcall.plan import Plan
from agentcall.result import RunResult
from agentcall.run import Run


async def taken(
    plan: Plan, origin: Origin, session: Session | None, emit: Emit | None = None
) -> RunResult[Any]:  # Any: the agent knows its output's type
    """What the run gives. Raises what it raises."""
    if session is not None:
        return await run_in(session, plan, origin, emit)
    return await Run(plan, origin, emit).result()


async def told(plan: Plan, origin: Origin, session: Session | None) -> AsyncGenerator[Event, None]:
    """The events of the run as they happen; leaving the loop early cancels it."""
    events: deque[Event] = deque()
    news = asyncio.Event()

    def emit(event: Event) -> None:
        events.append(event)
        news.set()

    task = asyncio.ensure_future(taken(plan, origin, session, emit))
    task.add_done_callback(lambda _: news.set())
    try:
        while not task.done():
            await news.wait()
            news.clear()
            while events:
                yield events.popleft()
        await task
    except asyncio.CancelledError as error:
        await _stopped(task)
        keep_result(error, _left_by(task))
        raise
    finally:
        await _stopped(task)


async def _stopped(task: asyncio.Task[RunResult[Any]]) -> None:
    """Waits until a run has ended, which is cancelled if it has not."""
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def _left_by(task: asyncio.Task[RunResult[Any]]) -> object:
    """What a run had come to that has ended."""
    try:
        return task.result()
    except BaseException as error:  # asyncio.CancelledError too
        return kept_result(error)
