"""`agentcall runs resume`: the run's agent is made again as it was, and goes on."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from typing import Any

from agentcall.agent import Agent, Prompt
from agentcall.cli.faults import warn
from agentcall.cli.keeping import Kept, journal_url
from agentcall.cli.making import agent_of
from agentcall.cli.recipe import parts_of
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


def resumed(options: ResumeOptions) -> int:
    """Goes on with a run and prints what comes of it; gives the exit code."""
    given = {"model": options.model, "tools": options.tools, "agent": options.agent}
    parts = parts_of(_recipe(options))
    parts |= {name: value for name, value in given.items() if value}
    told = RunOptions(**parts, json=options.json, quiet=options.quiet)
    return kept_run(_Decided(agent_of(told), told, options), None, told)


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
        async for event in super().run_stream(prompt):
            if not (isinstance(event, RunFinished) and self._options.is_said):
                yield event
                continue
            if not event.result.pending:
                warn("no call waits, so that nothing was decided")
                yield event
                continue
            decisions = dict(decisions_of(self._options, event.result))
            async for later in self.resume_stream(event.result, decisions):
                yield later


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
