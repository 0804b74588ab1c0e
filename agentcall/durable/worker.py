"""A worker: takes the runs that were left to its agent, and brings them to their end.

Rules:
1. A run that a worker died with is taken over when its hold has run out, by any worker.
2. A run whose model's server fails is tried again later, by any worker, `TRIES` times without
   coming on; then it has failed, which is recorded with the reason.
3. So has a run that took its workers down as often.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, NamedTuple

from agentcall.durable.attempt import Attempt
from agentcall.durable.runs import Durable
from agentcall.errors import (
    AgentCallError,
    JournalDamaged,
    JournalError,
    ModelError,
    ModelRefused,
    RateLimited,
    RunBusy,
)
from agentcall.result import RunResult

TRIES = 8
IDLE = 0.5
"""Seconds between two looks into an empty queue."""
_LONGEST = 60.0


class Done(NamedTuple):
    """What became of a run: its result, or what stood against it."""

    run_id: str
    result: RunResult[Any] | None = None  # Any: the output's type is known to the agent alone
    error: AgentCallError | None = None


class Worker:
    """Works for one agent; `tell` is told what became of each run."""

    def __init__(
        self,
        durable: Durable[Any, Any],
        tell: Callable[[Done], None],
        *,
        concurrency: int = 4,
        deps: object = None,
    ) -> None:
        self._durable = durable
        self._tell = tell
        self._concurrency = concurrency
        self._deps = deps

    async def work(self, *, until_empty: bool = False) -> None:
        """Goes on until it is cancelled, or until no run of the queue is left open.

        Raises JournalError if the journal cannot be used any more.
        """
        slots = [
            asyncio.ensure_future(self._slot(until_empty=until_empty))
            for _ in range(self._concurrency)
        ]
        try:
            await asyncio.gather(*slots)
        finally:
            for slot in slots:
                slot.cancel()
            await asyncio.gather(*slots, return_exceptions=True)

    async def _slot(self, *, until_empty: bool) -> None:
        queue = self._durable.agent.name
        while True:
            attempt = await self._taken()
            if attempt is not None:
                async with attempt:
                    await self._bring(attempt)
            elif until_empty and not await self._durable.ask(lambda j: j.has_open(queue)):
                return
            else:
                await asyncio.sleep(IDLE)

    async def _taken(self) -> Attempt | None:
        try:
            return await self._durable.take()
        except JournalDamaged as error:
            self._tell(Done("", error=error))
            return None

    async def _bring(self, attempt: Attempt) -> None:
        run_id = attempt.held.run_id
        try:
            if attempt.held.claims >= TRIES:
                raise _Deadly(f"{TRIES} workers took the run in turn, and none came on with it")
            result = await self._durable.carry_out(attempt, deps=self._deps)
        except RunBusy as error:
            self._tell(Done(run_id, error=error))
        except JournalError:
            raise
        except AgentCallError as error:
            await self._failed(attempt, error)
        else:
            self._tell(Done(run_id, result))

    async def _failed(self, attempt: Attempt, error: AgentCallError) -> None:
        """Leaves a run for later, if it may go better then."""
        claims = attempt.held.claims
        if _may_pass(error) and claims + 1 < TRIES:
            attempt.pause = min(2.0**claims, _LONGEST)
            return
        await attempt.fail(error)
        self._tell(Done(attempt.held.run_id, error=error))


class _Deadly(AgentCallError):
    """A run that its workers do not survive."""


def _may_pass(error: AgentCallError) -> bool:
    is_final = isinstance(error, ModelRefused) and not isinstance(error, RateLimited)
    return isinstance(error, ModelError) and not is_final
