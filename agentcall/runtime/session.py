"""A run in a session: it begins with the conversation so far, and is put down as it goes on.

What a session is: a conversation that is kept from run to run.
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
from agentcall.runtime.checkpoint import RecordedCall, RunCheckpoint, StepExecutor, ToolStep
from agentcall.runtime.context import RunInput
from agentcall.runtime.run import AgentRun
from agentcall.runtime.spec import AgentSpec
from agentcall.runtime.turn import ModelTurn


@dataclass(frozen=True, slots=True)
class SessionSnapshot:
    """What a session gives a run to begin with: the conversation, and what was approved always."""

    messages: tuple[Message, ...] = ()
    approval_rules: tuple[ApprovalRule, ...] = ()


class Session(Protocol):
    """Keeps a conversation; `agent.run(prompt, session=...)` goes on with it."""

    def acquire(
        self, run_id: str, waiting: Collection[str] = ()
    ) -> AbstractAsyncContextManager[SessionSnapshot]:
        """The conversation before this run, held for one run at a time.

        waiting: the ids of the calls that a resumed run waits for. Raises UsageError if the session
            knows that the run has gone on since.
        """
        ...

    async def save(self, result: RunResult[Any]) -> None:
        """Puts down what a run has come to: before each of its steps, and when it has ended.

        The last word about a run takes the place of those before.
        """
        ...


async def run_in_session(
    session: Session, spec: AgentSpec, run_input: RunInput, emit: Emit | None
) -> RunResult[Any]:  # Any: the agent knows its output's type
    """What the run gives; it is in the session when this ends, however it ends.

    RunFinished is told when the run is in the session. Raises what the run raises, and SessionError
    with the result where that could not be put down.
    """
    nested = (pending for paused in run_input.paused for pending in paused.pending)
    waiting = [pending.call.id for pending in (*run_input.pending, *nested)]
    async with session.acquire(run_input.run_id, waiting) as snapshot:
        steps, events = _SavingStepExecutor(spec.steps, session), _DeferredFinish(emit)
        begin = run_input if waiting else _prepend_history(run_input, snapshot)
        run = steps.run = AgentRun(
            replace(spec, steps=steps), begin, None if emit is None else events.handle
        )
        try:
            return await run.execute()
        finally:
            await _finish_despite_cancel(
                _save_result(session, run.final_result or run.partial_result)
            )
            events.flush()


def _prepend_history(run_input: RunInput, snapshot: SessionSnapshot) -> RunInput:
    """A new run, behind what the session remembers."""
    if not (snapshot.messages or run_input.messages):
        raise UsageError("a run needs a prompt; this session has none yet to go on with")
    return replace(
        run_input,
        messages=(*snapshot.messages, *run_input.messages),
        start=len(snapshot.messages),
        approval_rules=snapshot.approval_rules,
    )


class _SavingStepExecutor:
    """Steps before each of which the session is told what the run has come to."""

    def __init__(self, steps: StepExecutor, session: Session) -> None:
        self._steps = steps
        self._session = session
        self._saved_count = -1
        self._lock = asyncio.Lock()
        self.run: AgentRun | None = None

    def load_checkpoint(self, run_id: str) -> RunCheckpoint | None:
        """Where the steps below came to."""
        return self._steps.load_checkpoint(run_id)

    def find_recorded_call(self, key: str) -> RecordedCall | None:
        """What the steps below know."""
        return self._steps.find_recorded_call(key)

    async def call_model(
        self,
        key: str,
        request: Callable[[], Awaitable[ModelTurn]],
        checkpoint: Callable[[], RunCheckpoint],
    ) -> ModelTurn:
        """Notes, and asks."""
        await self._save_changes()
        return await self._steps.call_model(key, request, checkpoint)

    async def call_tool(
        self, step: ToolStep, call: Callable[[], Awaitable[ToolResult]]
    ) -> ToolResult:
        """Notes, and calls: no tool begins before its call is put down."""
        await self._save_changes()
        return await self._steps.call_tool(step, call)

    async def _save_changes(self) -> None:
        async with self._lock:  # calls of one turn come here together
            if self.run is not None and self.run.message_count != self._saved_count:
                size = self.run.message_count
                await self._session.save(self.run.partial_result)
                self._saved_count = size


class _DeferredFinish:
    """Passes events on, but for the last, which waits until the run is put down."""

    def __init__(self, emit: Emit | None) -> None:
        self._emit = emit
        self._last: Event | None = None

    def handle(self, event: Event) -> None:
        if isinstance(event, RunFinished):
            self._last = event
        elif self._emit is not None:
            self._emit(event)

    def flush(self) -> None:
        if self._emit is not None and self._last is not None:
            self._emit(self._last)


async def _save_result(session: Session, result: RunResult[Any]) -> None:  # Any: as above
    try:
        await session.save(result)
    except SessionError as error:
        error.result = result
        raise


async def _finish_despite_cancel(work: Awaitable[None]) -> None:
    """Waits for the work also when it is cancelled meanwhile."""
    task = asyncio.ensure_future(work)
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        await task
        raise
