"""The course of an agent's run: in a session or without, told as it happens or at its end."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator
from typing import Any

from agentcall.errors import attach_result, get_attached_result
from agentcall.events import Emit, Event
from agentcall.keeping import run_in_session
from agentcall.memory import Session
from agentcall.origin import RunInput
from agentcall.plan import AgentSpec
from agentcall.result import RunResult
from agentcall.run import AgentRun


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
