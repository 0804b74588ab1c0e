"""A run in a session: it begins with the conversation so far, and is put down as it goes on."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

from agentcall.errors import SessionError, UsageError
from agentcall.events import Emit, Event, RunFinished
from agentcall.memory import Memory, Session
from agentcall.messages import ToolResult
from agentcall.origin import Origin
from agentcall.plan import Plan
from agentcall.result import RunResult
from agentcall.run import Run
from agentcall.steps import Past, Point, Steps, ToolStep
from agentcall.turn import Turn


async def run_in(
    session: Session, plan: Plan, origin: Origin, emit: Emit | None
) -> RunResult[Any]:  # Any: the agent knows its output's type
    """What the run gives; it is in the session when this ends, however it ends.

    RunFinished is told when the run is in the session. Raises what the run raises, and SessionError
    with the result where that could not be put down.
    """
    below = (pending for paused in origin.paused for pending in paused.pending)
    waiting = [pending.call.id for pending in (*origin.pending, *below)]
    async with session.hold(origin.run_id, waiting) as memory:
        steps, told = _Noted(plan.steps, session), _HeldBack(emit)
        begun = origin if waiting else _begun(origin, memory)
        run = steps.run = Run(replace(plan, steps=steps), begun, None if emit is None else told.see)
        try:
            return await run.result()
        finally:
            await _surely(_kept(session, run.ended or run.so_far))
            told.release()


def _begun(origin: Origin, memory: Memory) -> Origin:
    """A new run, behind what the session remembers."""
    if not (memory.messages or origin.messages):
        raise UsageError("a run needs a prompt; this session has none yet to go on with")
    return replace(
        origin,
        messages=(*memory.messages, *origin.messages),
        start=len(memory.messages),
        grants=memory.grants,
    )


class _Noted:
    """Steps before each of which the session is told what the run has come to."""

    def __init__(self, steps: Steps, session: Session) -> None:
        self._steps = steps
        self._session = session
        self._size = -1
        self._one = asyncio.Lock()
        self.run: Run | None = None

    def reached(self, run_id: str) -> Point | None:
        """Where the steps below came to."""
        return self._steps.reached(run_id)

    def past(self, key: str) -> Past | None:
        """What the steps below know."""
        return self._steps.past(key)

    async def model(
        self, key: str, ask: Callable[[], Awaitable[Turn]], point: Callable[[], Point]
    ) -> Turn:
        """Notes, and asks."""
        await self._note()
        return await self._steps.model(key, ask, point)

    async def tool(self, step: ToolStep, call: Callable[[], Awaitable[ToolResult]]) -> ToolResult:
        """Notes, and calls: no tool begins before its call is put down."""
        await self._note()
        return await self._steps.tool(step, call)

    async def _note(self) -> None:
        async with self._one:  # calls of one turn come here together
            if self.run is not None and self.run.size != self._size:
                size = self.run.size
                await self._session.keep(self.run.so_far)
                self._size = size


class _HeldBack:
    """Passes events on, but for the last, which waits until the run is put down."""

    def __init__(self, emit: Emit | None) -> None:
        self._emit = emit
        self._last: Event | None = None

    def see(self, event: Event) -> None:
        if isinstance(event, RunFinished):
            self._last = event
        elif self._emit is not None:
            self._emit(event)

    def release(self) -> None:
        if self._emit is not None and self._last is not None:
            self._emit(self._last)


async def _kept(session: Session, result: RunResult[Any]) -> None:  # Any: as above
    try:
        await session.keep(result)
    except SessionError as error:
        error.result = result
        raise


async def _surely(work: Awaitable[None]) -> None:
    """Waits for the work also when it is cancelled meanwhile."""
    task = asyncio.ensure_future(work)
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        await task
        raise
