"""So many runs at a time, so many that wait, and a clear word for the rest.

Rules:
1. At most `running` hold a place; up to `waiting` wait for one, in the order in which they came.
2. Whoever comes when all that is taken is refused at once: nothing is begun that cannot be carried
   through, and memory does not grow with what is asked.
3. A refusal says when a place may be free, by how long the last ones were held.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from time import monotonic

from agentcall.errors import ConcurrencyLimitExceeded, UsageError

_WEIGHT = 0.2
"""What the last hold counts in the average of all."""


class ConcurrencyLimiter:
    """Places for runs, of an agent or of many; for one event loop.

    running: runs that go on at the same time.
    waiting: runs that may wait for a place besides.

    >>> import asyncio
    >>> from agentcall import Agent
    >>> from agentcall.testing import ScriptedModel, say
    >>> places = Places(running=10, waiting=100)
    >>> async def answer(prompt: str) -> str:
    ...     async with places.one():
    ...         return (await Agent(ScriptedModel([say("hi")])).run(prompt)).output
    >>> asyncio.run(answer("hello"))
    'hi'
    """

    def __init__(self, *, running: int, waiting: int) -> None:
        if running < 1 or waiting < 0:
            raise UsageError(
                f"Places(running={running}, waiting={waiting}): at least one has to run, and none "
                "or more may wait"
            )
        self._max_waiting = waiting
        self._max_running = running
        self._free = asyncio.Semaphore(running)
        self._running = 0
        self._waiting = 0
        self._average: float | None = None

    @property
    def running(self) -> int:
        """How many hold a place."""
        return self._running

    @property
    def waiting(self) -> int:
        """How many wait for a place."""
        return self._waiting

    @asynccontextmanager
    async def slot(self) -> AsyncGenerator[None, None]:
        """Holds a place, and waits for it if it may. Raises Busy if it may not."""
        await self._acquire()
        self._running += 1
        started = monotonic()
        try:
            yield
        finally:
            self._running -= 1
            self._free.release()
            self._update_average(monotonic() - started)

    async def _acquire(self) -> None:
        if self._free.locked() and self._waiting >= self._max_waiting:
            raise self._make_busy_error()
        self._waiting += 1
        try:
            await self._free.acquire()
        finally:
            self._waiting -= 1

    def _update_average(self, seconds: float) -> None:
        previous = self._average
        self._average = seconds if previous is None else previous + _WEIGHT * (seconds - previous)

    def _make_busy_error(self) -> ConcurrencyLimitExceeded:
        rounds = (self._waiting + 1) / self._max_running
        seconds = max(1, math.ceil(rounds * (self._average or 1.0)))
        return ConcurrencyLimitExceeded(
            f"{self._running} runs are under way and {self._waiting} wait, which is all that may; "
            f"try again in {seconds} seconds",
            retry_after=float(seconds),
        )
