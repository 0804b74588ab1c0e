"""The stretch of a run that one process runs: from what is recorded to its end, or to a pause."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, Generic

from agentcall.agent import Agent, Deps, Output
from agentcall.approval import Decision, Denied
from agentcall.decisions import resumed
from agentcall.durable.attempt import Attempt
from agentcall.durable.code import Code
from agentcall.durable.ledger import run_of_call, waiting_names
from agentcall.durable.recorder import unknown_note
from agentcall.durable.wire import decision_json, result_body
from agentcall.errors import ModelError, RunBusy, UsageError
from agentcall.events import Emit, Event, RunFinished
from agentcall.messages import JSON, ToolCall, ToolResult
from agentcall.origin import Origin
from agentcall.result import RunResult
from agentcall.run import Run

_NOT_AGAIN = (
    "This call was begun, and then the program that ran it was cut off. Its outcome is unknown, "
    "and a person decided not to carry it out again"
)


class Leg(Generic[Output, Deps]):
    """Goes on with a run that is held; good for once."""

    def __init__(
        self, agent: Agent[Output, Deps], attempt: Attempt, deps: object, emit: Emit | None
    ) -> None:
        self._agent = agent
        self._attempt = attempt
        self._ledger = attempt.ledger
        self._recorder = attempt.recorder
        self._deps = deps
        self._emit = emit
        self._ended: RunFinished | None = None

    async def result(self) -> RunResult[Output]:
        """What the run gives. Raises ModelError, JournalError and RunBusy."""
        await self.tell_changes()
        plan = replace(self._agent.plan, steps=self._recorder)
        seen = None if self._emit is None else self._seen
        task = asyncio.ensure_future(Run(plan, self._origin(), seen).result())
        self._attempt.watch(task)
        try:
            result = await task
        except ModelError:
            self._tell(self._ended)
            raise
        except asyncio.CancelledError:
            if not self._attempt.is_stopped:
                raise
            result = await self._stopped()
        result = replace(result, notes=tuple(self._ledger.notes))
        await self._keep(result)
        self._tell(RunFinished(result))
        return result

    async def decide(self, decisions: Mapping[str, Decision | bool]) -> None:
        """Records what a person decided about the calls that wait. Raises UsageError."""
        waiting = self._ledger.waiting
        if waiting is None:
            raise UsageError(f"the run {self._ledger.run_id} does not wait for a decision")
        resumed(waiting, decisions, self._agent.plan)  # refuses what does not fit
        said = {name: decision_json(decision) for name, decision in decisions.items()}
        names = waiting_names(waiting)
        for key, call in self._ledger.cut_off.items():
            decision = decisions.get(names.get((run_of_call(key), call.id), ""))
            if decision is False or isinstance(decision, Denied):
                await self._recorder.settle(key, _not_again(call, decision or Denied()))
        await self._recorder.written("decide", {"decisions": said})

    async def tell_changes(self) -> None:
        """Records who goes on with the run, and what has changed since; nothing at its begin."""
        now = Code.of(self._agent)
        changes = [*self._ledger.code.changes(now), *self._lost_calls()]
        if self._ledger.place > 1 or changes:
            body: dict[str, JSON] = {
                "by": self._attempt.held.hold,
                "code": now.json(),
                "notes": changes,
            }
            await self._recorder.written("resume", body)

    def _lost_calls(self) -> Iterator[str]:
        """Calls that were cut off and whose tools are gone."""
        registry = self._agent.registry
        for call in self._ledger.cut_off.values():
            if call.name not in registry:
                yield unknown_note(call)

    def _origin(self) -> Origin:
        ledger = self._ledger
        origin = Origin(
            run_id=ledger.run_id,
            messages=ledger.begin.messages,
            start=ledger.begin.start,
            deps=self._deps,
            spent=ledger.spent,
        )
        if ledger.decided is None:
            return origin
        before, decisions = ledger.decided
        origin = resumed(before, decisions, self._agent.plan, self._deps)
        return replace(origin, spent=ledger.spent)

    async def _stopped(self) -> RunResult[Any]:  # Any: there is no output
        """The result of a run that somebody cancelled. Raises RunBusy if it was taken over."""
        if not await self._attempt.is_cancelled():
            raise RunBusy(f"the run {self._ledger.run_id} was taken over by another process")
        return self._ledger.stopped("it was cancelled")

    async def _keep(self, result: RunResult[Any]) -> None:  # Any: as the agent says
        body = result_body(result, self._ledger.said(result.run_id))
        if result.pending:
            await self._recorder.written("pause", body, "paused", result.stop_reason)
        else:
            await self._recorder.written("finish", body, "finished", result.stop_reason)

    def _seen(self, event: Event) -> None:
        """Passes events on; that the run has ended is told when it is on the disk."""
        if isinstance(event, RunFinished):
            self._ended = event
        else:
            self._tell(event)

    def _tell(self, event: Event | None) -> None:
        if self._emit is not None and event is not None:
            self._emit(event)


def _not_again(call: ToolCall, verdict: Denied) -> ToolResult:
    reason = f": {verdict.reason}" if verdict.reason else "."
    return ToolResult(call.id, call.name, _NOT_AGAIN + reason, is_error=True, assessed=True)
