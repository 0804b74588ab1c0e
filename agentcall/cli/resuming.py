"""`agentcall runs resume`: the run's agent is made again as it was, and goes on."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from typing import Any

from agentcall.agent import Agent, Prompt
from agentcall.cli.faults import warn
from agentcall.cli.keeping import Kept, journal_url
from agentcall.cli.making import agent_of
from agentcall.cli.recipe import parts_now
from agentcall.cli.run import RunOptions
from agentcall.cli.running import kept_run
from agentcall.cli.runs import ResumeOptions
from agentcall.cli.said import decisions_of
from agentcall.durable.journal import Journal
from agentcall.durable.ledger import Ledger
from agentcall.durable.opening import opener
from agentcall.errors import UsageError
from agentcall.events import Event, RunFinished
from agentcall.messages import JSON
from agentcall.result import RunResult


def resumed(options: ResumeOptions) -> int:
    """Goes on with a run and prints what comes of it; gives the exit code."""
    parts = parts_now(_recipe(options), options)
    told = RunOptions(**parts, json=options.json, quiet=options.quiet)
    agent = agent_of(told)
    if options.is_said:
        return kept_run(_Decided(agent, told, options), None, told)
    return kept_run(Kept(agent, told, db=options.db, run_id=options.run_id), None, told)


class _Decided(Kept):
    """A durable run that waits, with what the command line decides about its calls."""

    def __init__(
        self,
        agent: Agent[Any, Any],  # Any: the user's own types
        told: RunOptions,
        options: ResumeOptions,
    ) -> None:
        super().__init__(agent, told, db=options.db, run_id=options.run_id)
        self._options = options

    async def run_stream(self, prompt: Prompt | None) -> AsyncGenerator[Event, None]:
        """The events up to where it waits, and those after the decisions."""
        waits: RunResult[Any] | None = None  # Any: as above
        async with aclosing(super().run_stream(prompt)) as events:
            async for event in events:
                if isinstance(event, RunFinished) and event.result.pending:
                    waits = event.result
                else:
                    yield event
        if waits is None:
            warn("no call waits, so that nothing was decided")
            return
        decisions = dict(decisions_of(self._options, waits))
        async with aclosing(self.resume_stream(waits, decisions)) as events:
            async for event in events:
                yield event


def _recipe(options: ResumeOptions) -> Mapping[str, JSON]:
    """How the run's agent was made. Raises UsageError if that is not known."""
    database = opener(journal_url(options.db), make=options.db is None)()
    try:
        records = Journal(database).records(options.run_id)
    finally:
        database.close()
    if not records:
        raise UsageError(
            f"there is no run {options.run_id} in {database.place}; "
            "`agentcall runs list` shows those that are there"
        )
    recipe = Ledger(options.run_id, records).begin.recipe
    if recipe is None and not options.agent:
        raise UsageError(
            f"the run {options.run_id} was begun in Python; name its agent: "
            f"agentcall runs resume {options.run_id} -a module:agent"
        )
    return recipe or {}
