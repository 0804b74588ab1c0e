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
from agentcall.approval import Decision
from agentcall.errors import UsageError
from agentcall.events import Event
from agentcall.messages import Content, ToolCall, Usage, User
from agentcall.result import RunResult
from agentcall.session import Compacted, Compaction, KeptRun, SQLiteSession, Summary

Result = RunResult[Any]  # Any: of whatever agent

KEPT = 4
"""Messages that stay beside the summary where a talk is made shorter."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """A call that waits for a person to decide.

    asked_by: the agent that asks for it, where it is a tool of the one that is talked to.
    reason: why somebody has to decide, where more is to be said than that the tool wants it.
    """

    run_id: str
    call: ToolCall
    asked_by: str = ""
    reason: str = ""


class Talk:
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
        result = self._waiting(run_id)
        return self.agent.resume_stream(result, decisions, session=self.session, deps=self._deps)

    def check(self, decisions: Mapping[str, Decision | bool], run_id: str | None = None) -> None:
        """Raises UsageError for decisions that `decide` would refuse; carries nothing out."""
        self.agent.check(self._waiting(run_id), decisions)

    async def retry(self, prompt: Prompt | None = None) -> AsyncGenerator[Event, None]:
        """Asks the last question anew, or another in its place; tools are called again.

        Raises UsageError where nothing was asked.
        """
        exchange = await self.undo()
        question = asked(exchange[0]) if prompt is None else prompt
        async with aclosing(self.ask(question)) as events:
            async for event in events:
                yield event

    async def undo(self, run_id: str | None = None) -> tuple[KeptRun, ...]:
        """Takes the last exchange back, or the run of this id and all behind it; gives the runs.

        Raises UsageError where there is nothing to take back.
        """
        return await self.session.take_back(run_id)

    def clear(self) -> None:
        """Begins anew, in a session of its own; the one before stays as it is."""
        self.session = new_session(self.session)

    async def compact(self, how: Compaction | None = None) -> Compacted:
        """Makes what the model is given shorter; by default by a summary that it writes itself.

        The session keeps everything. Raises ModelError if the summary cannot be made.
        """
        return await self.session.compact(how or Summary(self.agent.plan.model, KEPT))

    async def rename(self, name: str) -> None:
        """Keeps the conversation under this name. Raises UsageError for one that is taken."""
        self.session = await self.session.renamed(name)

    # What there is.

    @property
    def history(self) -> tuple[KeptRun, ...]:
        """All runs of the conversation with their messages, the oldest first."""
        try:
            return self.session.store.show(self.session.id).runs
        except UsageError:  # it has not begun
            return ()

    @property
    def usage(self) -> Usage:
        """What all runs of the conversation have used so far."""
        return self.session.store.usage(self.session.id)

    @property
    def pending(self) -> tuple[Waiting, ...]:
        """The calls that wait for a person, the oldest run's first."""
        return tuple(each for result in self.session.waiting for each in waiting_in(result))

    def _waiting(self, run_id: str | None) -> Result:
        waiting = {result.run_id: result for result in self.session.waiting}
        if not waiting:
            raise UsageError("no call waits for approval")
        wanted = run_id or list(waiting)[-1]
        if wanted not in waiting:
            known = ", ".join(waiting)
            raise UsageError(f"the run {wanted} does not wait for approval; these do: {known}")
        return waiting[wanted]


def waiting_in(result: Result) -> tuple[Waiting, ...]:
    """The calls that a result waits for."""
    return tuple(
        Waiting(result.run_id, each.call, result.asked_by(each.call.id), each.reason)
        for each in result.pending
    )


def asked(run: KeptRun) -> Prompt:
    """What the user said at the beginning of a run, fit to be asked anew."""
    content: Content = next((m.content for m in run.messages if isinstance(m, User)), "")
    return content


def new_session(like: SQLiteSession | None = None) -> SQLiteSession:
    """A session that has not begun, named by date and time; in the file of another one."""
    name = f"{datetime.now().astimezone():%Y%m%d-%H%M%S}-{os.urandom(2).hex()}"
    if like is None:
        return SQLiteSession(name, wait=0)
    return SQLiteSession(name, like.store.path, wait=like.wait)
