"""A conversation of a person with an agent, stored in a session: the part of a chat without UI.

Rules:
1. All state is in the session. A new Conversation over the same session, in another process,
   continues it and knows the calls that still wait for approval.
2. An exchange is a user message and everything that followed it. It is retried or undone as a
   whole, so that a tool call is never separated from its result. Effects of tools remain.
3. The agent may be replaced between two questions.
"""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, Iterable, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol, runtime_checkable

from agentcall.agent import Agent
from agentcall.approvals import Decision
from agentcall.errors import UsageError
from agentcall.events import Event
from agentcall.messages import Content, Prompt, ToolCall, Usage, User
from agentcall.result import RunResult
from agentcall.sessions import (
    ChatSession,
    CompactionResult,
    CompactionStrategy,
    SQLiteSession,
    StoredRun,
    Summary,
)

Result = RunResult[Any]  # Any: the output of any agent

KEEP_MESSAGES = 4
"""Messages that `Conversation.compact` keeps beside the summary."""


@dataclass(frozen=True, slots=True)
class PendingApproval:
    """A call that waits for a person to decide.

    agent: the path of the agent that asks for it, if a tool runs that agent.
    reason: why a person has to decide, unless it is that the tool requires approval.
    """

    run_id: str
    call: ToolCall
    agent: str = ""
    reason: str = ""


@runtime_checkable
class CompactableSession(Protocol):
    """A session that can shorten what its next runs start with."""

    async def compact(self, strategy: CompactionStrategy) -> CompactionResult:
        """Replace the older messages for the next runs."""
        ...


@runtime_checkable
class RenamableSession(Protocol):
    """A session that can be renamed."""

    async def rename(self, session_id: str) -> ChatSession:
        """Rename the session and return it."""
        ...


class Conversation:
    """A conversation with an agent.

    session: any `ChatSession`. `compact` and `rename` are optional methods of it.

    Events are those of `agent.run_stream`: the last one is RunFinished, and leaving the loop early
    stops the run, after which the conversation can continue. The loops raise what a run raises:
    ModelError, SessionBusy, UsageError.
    """

    def __init__(
        self,
        agent: Agent[Any, Any],  # Any: the user's own types
        session: ChatSession,
        *,
        deps: object = None,
    ) -> None:
        self.agent = agent
        self.session = session
        self._deps = deps

    def ask(self, prompt: Prompt) -> AsyncGenerator[Event, None]:
        """Ask a question: a text, or texts and images. Calls that wait continue to wait."""
        return self.agent.run_stream(prompt, session=self.session, deps=self._deps)

    def decide(
        self, decisions: Mapping[str, Decision | bool], run_id: str | None = None
    ) -> AsyncGenerator[Event, None]:
        """Continue the waiting run of this id; by default, the last one.

        decisions: by call id, as in `agent.resume`. Raises UsageError if nothing waits.
        """
        result = self._find_paused(run_id)
        return self.agent.resume_stream(result, decisions, session=self.session, deps=self._deps)

    def check_decisions(
        self, decisions: Mapping[str, Decision | bool], run_id: str | None = None
    ) -> None:
        """Raise UsageError for decisions that `decide` would refuse. Executes nothing."""
        self.agent.check_decisions(self._find_paused(run_id), decisions)

    async def retry(self, prompt: Prompt | None = None) -> AsyncGenerator[Event, None]:
        """Ask the last question again, or another one in its place. Tools are called again.

        Raises UsageError if nothing has been asked.
        """
        exchange = await self.undo()
        question = get_prompt(exchange[0]) if prompt is None else prompt
        async with aclosing(self.ask(question)) as events:
            async for event in events:
                yield event

    async def undo(self, run_id: str | None = None) -> tuple[StoredRun, ...]:
        """Remove the last exchange, or the run of this id and all later ones, and return the runs.

        Raises UsageError if there is nothing to undo.
        """
        return await self.session.undo(run_id)

    def start_new(self) -> None:
        """Start a new session. The present one does not change."""
        self.session = new_session(self.session)

    def open(self, session_id: str) -> None:
        """Continue another session of the same store."""
        self.session = self.session.open(session_id)

    async def compact(self, strategy: CompactionStrategy | None = None) -> CompactionResult:
        """Shorten what the model gets; by default, with a summary that the model writes.

        The session keeps everything. Raises ModelError if the summary fails, and UsageError if the
        session has no method `compact`.
        """
        if not isinstance(self.session, CompactableSession):
            raise UsageError(f"{type(self.session).__name__} cannot compact a session")
        return await self.session.compact(strategy or Summary(self.agent.spec.model, KEEP_MESSAGES))

    async def rename(self, name: str) -> None:
        """Rename the session. Raises UsageError if the name is taken or it cannot be renamed."""
        if not isinstance(self.session, RenamableSession):
            raise UsageError(f"{type(self.session).__name__} cannot rename a session")
        self.session = await self.session.rename(name)

    @property
    def history(self) -> tuple[StoredRun, ...]:
        """All runs of the conversation with their messages, the oldest first."""
        return self.session.history

    @property
    def usage(self) -> Usage:
        """The total usage of all runs."""
        return sum_usage(self.history)

    @property
    def paused_runs(self) -> tuple[Result, ...]:
        """The runs that wait for approval, the oldest first."""
        return tuple(run.paused_result for run in self.history if run.paused_result is not None)

    @property
    def pending(self) -> tuple[PendingApproval, ...]:
        """The calls that wait for a person, those of the oldest run first."""
        return list_pending(self.history)

    def _find_paused(self, run_id: str | None) -> Result:
        paused = {result.run_id: result for result in self.paused_runs}
        if not paused:
            raise UsageError("no call waits for approval")
        selected = run_id or list(paused)[-1]
        if selected not in paused:
            known = ", ".join(paused)
            raise UsageError(f"the run {selected} does not wait for approval; these do: {known}")
        return paused[selected]


def list_pending(runs: Iterable[StoredRun]) -> tuple[PendingApproval, ...]:
    """Return the calls of these runs that wait for a person."""
    results = (run.paused_result for run in runs if run.paused_result is not None)
    return tuple(
        PendingApproval(result.run_id, item.call, result.get_agent_path(item.call.id), item.reason)
        for result in results
        for item in result.pending
    )


def sum_usage(runs: Iterable[StoredRun]) -> Usage:
    """Return the total usage of these runs."""
    return sum((run.usage for run in runs), Usage())


def get_prompt(run: StoredRun) -> Content:
    """Return the user message at the beginning of a run, as a prompt that can be asked again."""
    empty: Content = ""
    return next((m.content for m in run.messages if isinstance(m, User)), empty)


def new_session(template: ChatSession | None = None) -> ChatSession:
    """Return a session that has not begun, named by date and time, in the store of another one."""
    name = f"{datetime.now().astimezone():%Y%m%d-%H%M%S}-{os.urandom(2).hex()}"
    return SQLiteSession(name, wait=0) if template is None else template.open(name)
