"""The stretch of a run that one process runs: from what is recorded to its end, or to a pause."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, Generic

from agentcall.agent import Agent, Deps, Output
from agentcall.approval import Decision, Denied
from agentcall.decisions import prepare_resume
from agentcall.durable.attempt import RunLease
from agentcall.durable.code import AgentFingerprint
from agentcall.durable.ledger import get_call_run_id, map_decision_ids
from agentcall.durable.recorder import describe_unknown_outcome
from agentcall.durable.wire import build_result_body, dump_decision
from agentcall.errors import ModelError, RunBusy, UsageError
from agentcall.events import Emit, Event, RunFinished
from agentcall.messages import JSON, ToolCall, ToolResult
from agentcall.origin import RunInput
from agentcall.result import RunResult
from agentcall.run import AgentRun

_NOT_REPEATED = (
    "This call was begun, and then the program that ran it was cut off. Its outcome is unknown, "
    "and a person decided not to carry it out again"
)


class RunExecution(Generic[Output, Deps]):
    """Goes on with a run that is held; good for once."""

    def __init__(
        self, agent: Agent[Output, Deps], lease: RunLease, deps: object, emit: Emit | None
    ) -> None:
        self._agent = agent
        self._lease = lease
        self._state = lease.state
        self._recorder = lease.recorder
        self._deps = deps
        self._emit = emit
        self._finished_event: RunFinished | None = None

    async def execute(self) -> RunResult[Output]:
        """What the run gives. Raises ModelError, JournalError and RunBusy."""
        await self.record_changes()
        plan = replace(self._agent.spec, steps=self._recorder)
        seen = None if self._emit is None else self._forward_event
        task = asyncio.ensure_future(AgentRun(plan, self._build_input(), seen).execute())
        self._lease.watch(task)
        try:
            result = await task
        except ModelError:
            self._emit_event(self._finished_event)
            raise
        except asyncio.CancelledError:
            if not self._lease.is_stopped:
                raise
            result = await self._get_cancelled_result()
        result = replace(result, notes=tuple(self._state.notes))
        await self._record_result(result)
        self._emit_event(RunFinished(result))
        return result

    async def record_decisions(self, decisions: Mapping[str, Decision | bool]) -> None:
        """Records what a person decided about the calls that wait. Raises UsageError."""
        waiting = self._state.paused_result
        if waiting is None:
            raise UsageError(f"the run {self._state.run_id} does not wait for a decision")
        prepare_resume(waiting, decisions, self._agent.spec)  # refuses what does not fit
        dumped_decisions = {name: dump_decision(decision) for name, decision in decisions.items()}
        names = map_decision_ids(waiting)
        for key, call in self._state.interrupted_calls.items():
            decision = decisions.get(names.get((get_call_run_id(key), call.id), ""))
            if decision is False or isinstance(decision, Denied):
                await self._recorder.record_unknown_outcome(
                    key, _build_denied_result(call, decision or Denied())
                )
        await self._recorder.append("decide", {"decisions": dumped_decisions})

    async def record_changes(self) -> None:
        """Records who goes on with the run, and what has changed since; nothing at its begin."""
        now = AgentFingerprint.from_agent(self._agent)
        changes = [*self._state.fingerprint.describe_changes(now), *self._find_lost_calls()]
        if self._state.sequence > 1 or changes:
            body: dict[str, JSON] = {
                "by": self._lease.claim.lease_id,
                "code": now.json(),
                "notes": changes,
            }
            await self._recorder.append("resume", body)

    def _find_lost_calls(self) -> Iterator[str]:
        """Calls that were cut off and whose tools are gone."""
        registry = self._agent.registry
        for call in self._state.interrupted_calls.values():
            if call.name not in registry:
                yield describe_unknown_outcome(call)

    def _build_input(self) -> RunInput:
        state = self._state
        origin = RunInput(
            run_id=state.run_id,
            messages=state.begin.messages,
            start=state.begin.start,
            deps=self._deps,
            elapsed_seconds=state.spent,
        )
        if state.pending_resume is None:
            return origin
        before, decisions = state.pending_resume
        origin = prepare_resume(before, decisions, self._agent.spec, self._deps)
        return replace(origin, elapsed_seconds=state.spent)

    async def _get_cancelled_result(self) -> RunResult[Any]:  # Any: there is no output
        """The result of a run that somebody cancelled. Raises RunBusy if it was taken over."""
        if not await self._lease.is_cancelled():
            raise RunBusy(f"the run {self._state.run_id} was taken over by another process")
        return self._state.build_cancelled_result("it was cancelled")

    async def _record_result(self, result: RunResult[Any]) -> None:  # Any: as the agent says
        body = build_result_body(result, self._state.get_messages(result.run_id))
        if result.pending:
            await self._recorder.append("pause", body, "paused", result.stop_reason)
        else:
            await self._recorder.append("finish", body, "finished", result.stop_reason)

    def _forward_event(self, event: Event) -> None:
        """Passes events on; that the run has ended is told when it is on the disk."""
        if isinstance(event, RunFinished):
            self._finished_event = event
        else:
            self._emit_event(event)

    def _emit_event(self, event: Event | None) -> None:
        if self._emit is not None and event is not None:
            self._emit(event)


def _build_denied_result(call: ToolCall, verdict: Denied) -> ToolResult:
    reason = f": {verdict.reason}" if verdict.reason else "."
    return ToolResult(call.id, call.name, _NOT_REPEATED + reason, is_error=True, assessed=True)
