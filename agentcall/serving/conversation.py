"""A person and an agent in conversation, kept in a session: what every chat does, without a screen.

Rules:
1. What was said is in the session and nowhere else: a new Talk over it, in another process, goes on
   with the same conversation and knows the calls that still wait for approval.
2. An exchange is the user's words and all that came of them. It is asked anew or taken back whole,
   so that a tool call and its result are never torn apart. What tools did stays done.
3. The agent may be another one from one question to the next.
"""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from agentcall.agent import Agent, Prompt
from agentcall.approvals import Decision
from agentcall.errors import UsageError
from agentcall.events import Event
from agentcall.messages import Content, ToolCall, Usage, User
from agentcall.result import RunResult
from agentcall.sessions import (
    CompactionResult,
    CompactionStrategy,
    SQLiteSession,
    StoredRun,
    Summary,
)

Result = RunResult[Any]  # Any: of whatever agent

KEEP_MESSAGES = 4
"""Messages that stay beside the summary where a talk is made shorter."""


@dataclass(frozen=True, slots=True)
class PendingApproval:
    """A call that waits for a person to decide.

    asked_by: the agent that asks for it, where it is a tool of the one that is talked to.
    reason: why somebody has to decide, where more is to be said than that the tool wants it.
    """

    run_id: str
    call: ToolCall
    agent: str = ""
    reason: str = ""


class Conversation:
    """A conversation with an agent.

    Events come as those of `agent.run_stream` do: RunFinished is the last, and leaving the loop
    early stops the run, which leaves the conversation fit to go on. They raise what a run raises:
    ModelError, SessionBusy, UsageError.
    """

    def __init__(
        self,
        agent: Agent[Any, Any],  # Any: the user's own types
        session: SQLiteSession,
        *,
        deps: object = None,
    ) -> None:
        self.agent = agent
        self.session = session
        self._deps = deps

    # What a person does.

    def ask(self, prompt: Prompt) -> AsyncGenerator[Event, None]:
        """Asks; the prompt is a text, or texts and images. Calls that wait go on waiting."""
        return self.agent.run_stream(prompt, session=self.session, deps=self._deps)

    def decide(
        self, decisions: Mapping[str, Decision | bool], run_id: str | None = None
    ) -> AsyncGenerator[Event, None]:
        """Goes on with a run that waits: the one of this id, or the last.

        decisions: by call id, as those of `agent.resume`. Raises UsageError if nothing waits.
        """
        result = self._find_paused(run_id)
        return self.agent.resume_stream(result, decisions, session=self.session, deps=self._deps)

    def check_decisions(
        self, decisions: Mapping[str, Decision | bool], run_id: str | None = None
    ) -> None:
        """Raises UsageError for decisions that `decide` would refuse; carries nothing out."""
        self.agent.check_decisions(self._find_paused(run_id), decisions)

    async def retry(self, prompt: Prompt | None = None) -> AsyncGenerator[Event, None]:
        """Asks the last question anew, or another in its place; tools are called again.

        Raises UsageError where nothing was asked.
        """
        exchange = await self.undo()
        question = get_prompt(exchange[0]) if prompt is None else prompt
        async with aclosing(self.ask(question)) as events:
            async for event in events:
                yield event

    async def undo(self, run_id: str | None = None) -> tuple[StoredRun, ...]:
        """Takes the last exchange back, or the run of this id and all behind it; gives the runs.

        Raises UsageError where there is nothing to take back.
        """
        return await self.session.undo(run_id)

    def start_new(self) -> None:
        """Begins anew, in a session of its own; the one before stays as it is."""
        self.session = new_session(self.session)

    async def compact(self, strategy: CompactionStrategy | None = None) -> CompactionResult:
        """Makes what the model is given shorter; by default by a summary that it writes itself.

        The session keeps everything. Raises ModelError if the summary cannot be made.
        """
        return await self.session.compact(strategy or Summary(self.agent.spec.model, KEEP_MESSAGES))

    async def rename(self, name: str) -> None:
        """Keeps the conversation under this name. Raises UsageError for one that is taken."""
        self.session = await self.session.rename(name)

    # What there is.

    @property
    def history(self) -> tuple[StoredRun, ...]:
        """All runs of the conversation with their messages, the oldest first."""
        try:
            return self.session.store.load_session(self.session.id).runs
        except UsageError:  # it has not begun
            return ()

    @property
    def usage(self) -> Usage:
        """What all runs of the conversation have used so far."""
        return self.session.store.load_usage(self.session.id)

    @property
    def pending(self) -> tuple[PendingApproval, ...]:
        """The calls that wait for a person, the oldest run's first."""
        return tuple(each for result in self.session.paused_runs for each in list_pending(result))

    def _find_paused(self, run_id: str | None) -> Result:
        paused = {result.run_id: result for result in self.session.paused_runs}
        if not paused:
            raise UsageError("no call waits for approval")
        selected = run_id or list(paused)[-1]
        if selected not in paused:
            known = ", ".join(paused)
            raise UsageError(f"the run {selected} does not wait for approval; these do: {known}")
        return paused[selected]


def list_pending(result: Result) -> tuple[PendingApproval, ...]:
    """The calls that a result waits for."""
    return tuple(
        PendingApproval(result.run_id, each.call, result.get_agent_path(each.call.id), each.reason)
        for each in result.pending
    )


def get_prompt(run: StoredRun) -> Prompt:
    """What the user said at the beginning of a run, fit to be asked anew."""
    content: Content = next((m.content for m in run.messages if isinstance(m, User)), "")
    return content


def new_session(template: SQLiteSession | None = None) -> SQLiteSession:
    """A session that has not begun, named by date and time; in the file of another one."""
    name = f"{datetime.now().astimezone():%Y%m%d-%H%M%S}-{os.urandom(2).hex()}"
    if template is None:
        return SQLiteSession(name, wait=0)
    return SQLiteSession(name, template.store.path, wait=template.wait)
