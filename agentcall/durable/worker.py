"""A worker: claims the queued runs of its agent and executes them.

Rules:
1. If a worker dies, any other worker claims its runs when their leases expire.
2. A run whose model server fails is tried again later, by any worker. After `MAX_ATTEMPTS` claims
   in a row without a completed step the run has failed, which is recorded with the reason.
3. The same holds for a run during which its workers die.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, NamedTuple

from agentcall.durable.durable_agent import DurableAgent
from agentcall.durable.lease import RunLease
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

MAX_ATTEMPTS = 8
IDLE_SECONDS = 0.5
"""Seconds between two checks of an empty queue."""
_MAX_PAUSE = 60.0


class WorkerResult(NamedTuple):
    """The outcome of a run: its result or its error."""

    run_id: str
    result: RunResult[Any] | None = None  # Any: the type of the agent's output
    error: AgentCallError | None = None


class DurableWorker:
    """Executes the queued runs of one agent; `report` is called with the outcome of each."""

    def __init__(
        self,
        durable: DurableAgent[Any, Any],
        report: Callable[[WorkerResult], None],
        *,
        concurrency: int = 4,
        deps: object = None,
    ) -> None:
        self._durable = durable
        self._report = report
        self._concurrency = concurrency
        self._deps = deps

    async def run(self, *, until_empty: bool = False) -> None:
        """Work until cancelled; with `until_empty`, until no run of the queue is open.

        Raises JournalError if the journal cannot be used any more.
        """
        slots = [
            asyncio.ensure_future(self._run_slot(until_empty=until_empty))
            for _ in range(self._concurrency)
        ]
        try:
            await asyncio.gather(*slots)
        finally:
            for slot in slots:
                slot.cancel()
            await asyncio.gather(*slots, return_exceptions=True)

    async def _run_slot(self, *, until_empty: bool) -> None:
        queue = self._durable.agent.name
        while True:
            lease = await self._claim_next()
            if lease is not None:
                async with lease:
                    await self._execute(lease)
            elif until_empty and not await self._durable.query_journal(
                lambda j: j.has_open_runs(queue)
            ):
                return
            else:
                await asyncio.sleep(IDLE_SECONDS)

    async def _claim_next(self) -> RunLease | None:
        try:
            return await self._durable.claim_next()
        except JournalDamaged as error:
            self._report(WorkerResult("", error=error))
            return None

    async def _execute(self, lease: RunLease) -> None:
        run_id = lease.claim.run_id
        try:
            if lease.claim.claims >= MAX_ATTEMPTS:
                raise _WorkerCrashLoop(
                    f"{MAX_ATTEMPTS} workers claimed the run in turn, and none completed a step"
                )
            result = await self._durable.execute(lease, deps=self._deps)
        except RunBusy as error:
            self._report(WorkerResult(run_id, error=error))
        except JournalError:
            raise
        except AgentCallError as error:
            await self._handle_failure(lease, error)
        else:
            self._report(WorkerResult(run_id, result))

    async def _handle_failure(self, lease: RunLease, error: AgentCallError) -> None:
        """Leave the run for a later attempt, or record that it has failed."""
        claims = lease.claim.claims
        if _is_retryable(error) and claims + 1 < MAX_ATTEMPTS:
            lease.retry_delay = min(2.0**claims, _MAX_PAUSE)
            return
        await lease.record_failure(error)
        self._report(WorkerResult(lease.claim.run_id, error=error))


class _WorkerCrashLoop(AgentCallError):
    """A run during which its workers die."""


def _is_retryable(error: AgentCallError) -> bool:
    is_final = isinstance(error, ModelRefused) and not isinstance(error, RateLimited)
    return isinstance(error, ModelError) and not is_final
