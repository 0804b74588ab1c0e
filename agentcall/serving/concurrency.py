"""A limit on concurrent runs, with a bounded queue.

Rules:
1. At most `running` runs hold a slot; up to `waiting` others wait for one, in order of arrival.
2. A run beyond both limits is refused at once, so that memory does not grow with the requests.
3. A refusal estimates when a slot will be free, from how long the last slots were held.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from time import monotonic

from agentcall.errors import ConcurrencyLimitExceeded, UsageError

_WEIGHT = 0.2
"""The weight of the last run in the moving average of durations."""


class ConcurrencyLimiter:
    """Limits concurrent runs, of one agent or several, in one event loop.

    running: how many runs may execute at the same time.
    waiting: how many more may wait for a slot.

    >>> import asyncio
    >>> from agentcall import Agent
    >>> from agentcall.testing import ScriptedModel, say
    >>> limiter = ConcurrencyLimiter(running=10, waiting=100)
    >>> async def answer(prompt: str) -> str:
    ...     async with limiter.slot():
    ...         return (await Agent(ScriptedModel([say("hi")])).run(prompt)).output
    >>> asyncio.run(answer("hello"))
    'hi'
    """

    def __init__(self, *, running: int, waiting: int) -> None:
        if running < 1 or waiting < 0:
            raise UsageError(
                f"ConcurrencyLimiter(running={running}, waiting={waiting}): running must be at "
                "least 1, and waiting at least 0"
            )
        self._max_waiting = waiting
        self._max_running = running
        self._free = asyncio.Semaphore(running)
        self._running = 0
        self._waiting = 0
        self._average: float | None = None

    @property
    def running(self) -> int:
        """The number of runs that hold a slot."""
        return self._running

    @property
    def waiting(self) -> int:
        """The number of runs that wait for a slot."""
        return self._waiting

    @asynccontextmanager
    async def slot(self) -> AsyncGenerator[None, None]:
        """Hold a slot, waiting for it if necessary.

        Raises:
            ConcurrencyLimitExceeded: if too many runs wait already.
        """
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
            f"{self._running} runs are executing and {self._waiting} are waiting, which is the "
            f"limit; try again in {seconds} seconds",
            retry_after=float(seconds),
        )
