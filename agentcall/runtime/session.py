"""Sessions: conversations that continue from run to run, and a run in one.

A session is any object with the methods of `Session`. A chat needs those of `ChatSession` too: then
`agentcall.serving.conversation.Conversation`, the web page and the terminal chat work with it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol, cast

from agentcall.approvals import ApprovalRule
from agentcall.errors import ContextOverflow, SessionError, UsageError
from agentcall.events import Emit, Event, RunFinished
from agentcall.messages import Message, ToolResult, Usage, User, fill_missing_results
from agentcall.result import RunResult
from agentcall.runtime.agent_spec import AgentSpec
from agentcall.runtime.checkpoint import RecordedCall, RunCheckpoint, StepExecutor
from agentcall.runtime.planned_call import PlannedCall
from agentcall.runtime.run import AgentRun
from agentcall.runtime.state import RunInput
from agentcall.runtime.turn import ModelTurn

if TYPE_CHECKING:  # few sessions compact anything
    from agentcall.runtime.compaction import CompactionPlan, CompactionStrategy

AWAITING_APPROVAL = "This call waits for a person's approval and has not been carried out."
_TITLE_LENGTH = 80


@dataclass(frozen=True, slots=True)
class SessionSnapshot:
    """What the next run of a session starts with: its conversation and its approval rules."""

    messages: tuple[Message, ...] = ()
    approval_rules: tuple[ApprovalRule, ...] = ()

    @classmethod
    def from_results(cls, results: Iterable[RunResult[Any]]) -> SessionSnapshot:
        """Return the snapshot of a session that stores the result of each run."""
        results = tuple(results)
        runs = map(StoredRun.from_result, results)
        rules = dict.fromkeys(rule for result in results for rule in result.approval_rules)
        return cls(tuple(message for run in runs for message in run.messages), tuple(rules))


@dataclass(frozen=True, slots=True)
class StoredRun:
    """A run of a session.

    began: seconds since the epoch.
    messages: those of this run alone, with a result for every tool call.
    paused_result: the result of a run that waits for approval; `agent.resume` takes it.
    """

    id: str
    began: float
    agent: str
    stop_reason: str
    usage: Usage
    messages: tuple[Message, ...]
    paused_result: RunResult[Any] | None = None

    @classmethod
    def from_result(cls, result: RunResult[Any], began: float | None = None) -> StoredRun:
        """Return the run that a session stores for a result."""
        paused = result if result.pending else None
        return cls(
            result.run_id,
            time.time() if began is None else began,
            result.agent,
            result.stop_reason,
            result.usage,
            complete_messages(result.new_messages, paused),
            paused,
        )


@dataclass(frozen=True, slots=True)
class SessionSummary:
    """A session in a list.

    began, changed: seconds since the epoch. title: the beginning of the user's first message.
    runs, messages: their numbers; `waiting`: the number of runs that wait for approval.
    """

    id: str
    began: float
    changed: float
    runs: int
    messages: int
    waiting: int
    title: str

    @classmethod
    def from_runs(cls, session_id: str, runs: Sequence[StoredRun]) -> SessionSummary:
        """Summarize a session that has at least one run."""
        return cls(
            session_id,
            runs[0].began,
            runs[-1].began,
            len(runs),
            sum(len(run.messages) for run in runs),
            sum(run.paused_result is not None for run in runs),
            make_title(runs[0].messages[0]) if runs[0].messages else "",
        )


class Session(Protocol):
    """A stored conversation, which `agent.run(prompt, session=...)` continues."""

    def acquire(
        self, run_id: str, waiting: Collection[str] = ()
    ) -> AbstractAsyncContextManager[SessionSnapshot]:
        """Hold the session for one run at a time; the context is the conversation before the run.

        run_id: this run, which is left out of the snapshot.
        waiting: ids of the calls that a resumed run waits for. Raises UsageError if the session
            knows that the run does not wait for them.
        """
        ...

    async def save(self, result: RunResult[Any]) -> None:
        """Store the state of a run: before each of its steps, and when it has ended.

        A later state of a run replaces the earlier one.
        """
        ...


class CompactedSession(Session, Protocol):
    """A session that stores what the next runs get in place of older messages."""

    @property
    def compaction(self) -> CompactionStrategy | None:
        """The rule for a conversation that is longer than the window of the model."""
        ...

    async def save_compaction(self, plan: CompactionPlan) -> None:
        """Give the next runs less of the conversation; called during a run, after `save`."""
        ...


class ChatSession(Session, Protocol):
    """A session that a person can look at, undo and switch from to another one."""

    @property
    def id(self) -> str:
        """The id of the session."""
        ...

    @property
    def snapshot(self) -> SessionSnapshot:
        """What the next run starts with."""
        ...

    @property
    def history(self) -> tuple[StoredRun, ...]:
        """All runs, the oldest first; empty if the session has not begun."""
        ...

    async def undo(self, run_id: str | None = None) -> tuple[StoredRun, ...]:
        """Remove a run and all later ones, and return them.

        run_id: the first one to remove; by default, the last run that began with a user message.
        Raises UsageError if there is no such run.
        """
        ...

    def open(self, session_id: str) -> ChatSession:
        """Return another session of the same store, which may not have begun."""
        ...

    def list_sessions(self) -> Sequence[SessionSummary]:
        """Return the sessions of the store, the one that changed last first."""
        ...


def complete_messages(
    messages: Sequence[Message], paused_result: RunResult[Any] | None
) -> tuple[Message, ...]:
    """Return the messages of a run with a result, or a placeholder, for every call."""
    waiting = [] if paused_result is None else [p.call for p in paused_result.own_pending]
    waiting += [] if paused_result is None else [paused.call for paused in paused_result.paused]
    placeholders = {
        c.id: ToolResult(c.id, c.name, AWAITING_APPROVAL, is_error=True, assessed=True)
        for c in waiting
    }
    return fill_missing_results(messages, placeholders)


def find_undo_start(runs: Sequence[StoredRun], run_id: str | None = None) -> int:
    """Return the index of the first run that `ChatSession.undo` removes. Raises UsageError."""
    for index in reversed(range(len(runs))):
        messages = runs[index].messages
        if runs[index].id == run_id or (
            run_id is None and messages and isinstance(messages[0], User)
        ):
            return index
    if run_id is not None:
        raise UsageError(f"there is no run {run_id!r} in this session")
    raise UsageError("there is nothing to undo: nothing has been asked yet")


def check_pending(runs: Sequence[StoredRun], run_id: str, waiting: Collection[str]) -> None:
    """Check the arguments of `Session.acquire`. Raises UsageError."""
    for run in runs:
        paused = run.paused_result
        if run.id == run_id and paused and {p.call.id for p in paused.pending} == set(waiting):
            return
    raise UsageError(
        f"the run {run_id} of this session does not wait for these calls: it has continued since, "
        "or is not of this session. Nothing was executed"
    )


def make_title(message: Message) -> str:
    """Return the beginning of a message as a title of one line."""
    text = " ".join(message.text.split())
    return text if len(text) <= _TITLE_LENGTH else text[: _TITLE_LENGTH - 1] + "…"


async def run_in_session(
    session: Session, spec: AgentSpec, run_input: RunInput, emit: Emit | None
) -> RunResult[Any]:  # Any: the agent knows its output's type
    """Run in a session and return the result. The session stores the run however it ends.

    RunFinished is emitted after the session has stored the run. Raises what the run raises, and
    SessionError with the result if that could not be stored.
    """
    nested = (pending for paused in run_input.paused for pending in paused.pending)
    waiting = [pending.call.id for pending in (*run_input.pending, *nested)]
    async with session.acquire(run_input.run_id, waiting) as snapshot:
        steps, events = _SavingStepExecutor(spec.steps, session), _DeferredFinish(emit)
        begin = run_input if waiting else _prepend_history(run_input, snapshot)
        begin = begin._replace(compact=getattr(session, "compaction", None))
        if not waiting and hasattr(session, "save_compaction"):
            begin = begin._replace(save_compaction=steps.save_compaction)
        run = steps.run = AgentRun(
            replace(spec, steps=steps), begin, None if emit is None else events.handle
        )
        is_refused = False
        try:
            return await run.execute()
        except ContextOverflow:
            is_refused = run.is_unanswered
            raise
        finally:
            result = run.final_result or run.partial_result
            if is_refused:  # the question does not fit, so it must not be in the next run's way
                result = replace(result, messages=result.messages[: result.start])
            await _finish_despite_cancel(_save_result(session, result))
            events.flush()


def _prepend_history(run_input: RunInput, snapshot: SessionSnapshot) -> RunInput:
    """Return the input of a new run, with the conversation of the session before its prompt."""
    if not (snapshot.messages or run_input.messages):
        raise UsageError("a run needs a prompt; this session has none yet to continue")
    return run_input._replace(
        messages=(*snapshot.messages, *run_input.messages),
        start=len(snapshot.messages),
        approval_rules=snapshot.approval_rules,
    )


class _SavingStepExecutor:
    """Saves the state of the run to the session before each step."""

    def __init__(self, steps: StepExecutor, session: Session) -> None:
        self._steps = steps
        self._session = session
        self._saved_count = -1
        self._lock = asyncio.Lock()
        self.run: AgentRun | None = None

    def load_checkpoint(self, run_id: str) -> RunCheckpoint | None:
        """Return the checkpoint of the steps below."""
        return self._steps.load_checkpoint(run_id)

    def find_recorded_call(self, key: str) -> RecordedCall | None:
        """Return what the steps below know of a call."""
        return self._steps.find_recorded_call(key)

    async def save_checkpoint(self, run_id: str, checkpoint: RunCheckpoint) -> None:
        """Save it in the steps below; the session is saved before the request."""
        await self._steps.save_checkpoint(run_id, checkpoint)

    async def call_model(
        self,
        key: str,
        request: Callable[[], Awaitable[ModelTurn]],
        checkpoint: Callable[[], RunCheckpoint],
    ) -> ModelTurn:
        """Save, then request the turn."""
        await self._save_changes()
        return await self._steps.call_model(key, request, checkpoint)

    async def call_tool(
        self, step: PlannedCall, call: Callable[[], Awaitable[ToolResult]]
    ) -> ToolResult:
        """Save, then call the tool: no tool starts before its call is stored."""
        await self._save_changes()
        return await self._steps.call_tool(step, call)

    async def save_compaction(self, plan: CompactionPlan) -> None:
        """Store a plan for the next runs, after the messages that it is about."""
        await self._save_changes()
        await cast("CompactedSession", self._session).save_compaction(plan)

    async def _save_changes(self) -> None:
        async with self._lock:  # the calls of one turn arrive together
            if self.run is not None and self.run.message_count != self._saved_count:
                size = self.run.message_count
                await self._session.save(self.run.partial_result)
                self._saved_count = size


class _DeferredFinish:
    """Passes events on, except for the last one, which waits until the run is stored."""

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


async def _save_result(session: Session, result: RunResult[Any]) -> None:
    try:
        await session.save(result)
    except SessionError as error:
        error.result = result
        raise


async def _finish_despite_cancel(work: Awaitable[None]) -> None:
    """Wait for the work even if this task is cancelled meanwhile."""
    task = asyncio.ensure_future(work)
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        await task
        raise
