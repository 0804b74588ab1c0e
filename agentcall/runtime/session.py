"""Sessions: the protocol of a conversation that is kept from run to run, and a run in one.

A run in a session starts with the conversation so far, and is saved before each of its steps.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, replace
from typing import Any, Protocol

from agentcall.approvals import ApprovalRule
from agentcall.errors import SessionError, UsageError
from agentcall.events import Emit, Event, RunFinished
from agentcall.messages import Message, ToolResult
from agentcall.result import RunResult
from agentcall.runtime.checkpoint import RecordedCall, RunCheckpoint, StepExecutor
from agentcall.runtime.planned_call import PlannedCall
from agentcall.runtime.run import AgentRun
from agentcall.runtime.spec import AgentSpec
from agentcall.runtime.state import RunInput
from agentcall.runtime.turn import ModelTurn


@dataclass(frozen=True, slots=True)
class SessionSnapshot:
    """What a run in a session starts with: the conversation and the approval rules."""

    messages: tuple[Message, ...] = ()
    approval_rules: tuple[ApprovalRule, ...] = ()


class Session(Protocol):
    """Keeps a conversation; `agent.run(prompt, session=...)` continues it."""

    def acquire(
        self, run_id: str, waiting: Collection[str] = ()
    ) -> AbstractAsyncContextManager[SessionSnapshot]:
        """Lock the session for one run, and return the conversation before it.

        waiting: the ids of the calls that a resumed run waits for. Raises UsageError if the session
            knows that the run has continued since.
        """
        ...

    async def save(self, result: RunResult[Any]) -> None:
        """Save what a run has achieved: before each of its steps, and when it has ended.

        The last result of a run replaces those that were saved before.
        """
        ...


async def run_in_session(
    session: Session, spec: AgentSpec, run_input: RunInput, emit: Emit | None
) -> RunResult[Any]:  # Any: the agent knows its output's type
    """Return the result of the run; it is saved in the session, however the run ends.

    RunFinished is reported after the run is saved. Raises what the run raises, and SessionError
    with the result if that could not be saved.
    """
    nested = (pending for paused in run_input.paused for pending in paused.pending)
    waiting = [pending.call.id for pending in (*run_input.pending, *nested)]
    finished: list[RunFinished] = []

    def emit_until_finished(event: Event) -> None:
        if isinstance(event, RunFinished):
            finished.append(event)
        elif emit is not None:
            emit(event)

    async with session.acquire(run_input.run_id, waiting) as snapshot:
        steps = _SavingStepExecutor(spec.steps, session)
        run = steps.run = AgentRun(
            replace(spec, steps=steps),
            run_input if waiting else _prepend_history(run_input, snapshot),
            None if emit is None else emit_until_finished,
        )
        try:
            return await run.execute()
        finally:
            await _save_despite_cancel(session, run.final_result or run.partial_result)
            for event in finished:
                if emit is not None:
                    emit(event)


def _prepend_history(run_input: RunInput, snapshot: SessionSnapshot) -> RunInput:
    """Return the input of a new run after the conversation so far."""
    if not (snapshot.messages or run_input.messages):
        raise UsageError("a run needs a prompt; this session has none yet to continue")
    return replace(
        run_input,
        messages=(*snapshot.messages, *run_input.messages),
        start=len(snapshot.messages),
        approval_rules=snapshot.approval_rules,
    )


class _SavingStepExecutor:
    """Saves the run in its session before each step."""

    def __init__(self, steps: StepExecutor, session: Session) -> None:
        self._steps = steps
        self._session = session
        self._saved_count = -1
        self._lock = asyncio.Lock()
        self.run: AgentRun | None = None

    def load_checkpoint(self, run_id: str) -> RunCheckpoint | None:
        """Return what the wrapped executor returns."""
        return self._steps.load_checkpoint(run_id)

    def find_recorded_call(self, key: str) -> RecordedCall | None:
        """Return what the wrapped executor returns."""
        return self._steps.find_recorded_call(key)

    async def call_model(
        self,
        key: str,
        request: Callable[[], Awaitable[ModelTurn]],
        checkpoint: Callable[[], RunCheckpoint],
    ) -> ModelTurn:
        """Save the run and ask the model."""
        await self._save_changes()
        return await self._steps.call_model(key, request, checkpoint)

    async def call_tool(
        self, step: PlannedCall, call: Callable[[], Awaitable[ToolResult]]
    ) -> ToolResult:
        """Save the run and execute the call: no tool starts before its call is saved."""
        await self._save_changes()
        return await self._steps.call_tool(step, call)

    async def _save_changes(self) -> None:
        async with self._lock:  # the calls of one turn arrive together
            if self.run is not None and self.run.message_count != self._saved_count:
                size = self.run.message_count
                await self._session.save(self.run.partial_result)
                self._saved_count = size


async def _save_despite_cancel(session: Session, result: RunResult[Any]) -> None:
    """Save the result, even if the waiting task is cancelled."""
    task = asyncio.ensure_future(session.save(result))
    try:
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError:
            await task
            raise
    except SessionError as error:
        error.result = result
        raise
