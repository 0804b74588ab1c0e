"""`agentcall runs resume`: the run's agent is made again as it was, and goes on."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from typing import Any

from agentcall.agent import Agent, Prompt
from agentcall.cli.faults import print_warning
from agentcall.cli.keeping import DurableRunner, resolve_journal_url
from agentcall.cli.making import build_agent
from agentcall.cli.recipe import merge_recipe
from agentcall.cli.run import RunOptions
from agentcall.cli.running import run_durable
from agentcall.cli.runs import RunResumeOptions
from agentcall.cli.said import parse_decision_options
from agentcall.durable.journal import Journal
from agentcall.durable.open import make_opener
from agentcall.durable.state import DurableRunState
from agentcall.errors import UsageError
from agentcall.events import Event, RunFinished
from agentcall.messages import JSON
from agentcall.result import RunResult


def resume_durable_run(options: RunResumeOptions) -> int:
    """Goes on with a run and prints what comes of it; gives the exit code."""
    parts = merge_recipe(_load_recipe(options), options)
    told = RunOptions(**parts, json=options.json, quiet=options.quiet)
    agent = build_agent(told)
    if options.has_decisions:
        return run_durable(_DecidedRunner(agent, told, options), None, told)
    return run_durable(DurableRunner(agent, told, db=options.db, run_id=options.run_id), None, told)


class _DecidedRunner(DurableRunner):
    """A durable run that waits, with what the command line decides about its calls."""

    def __init__(
        self,
        agent: Agent[Any, Any],  # Any: the user's own types
        told: RunOptions,
        options: RunResumeOptions,
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
            print_warning("no call waits, so that nothing was decided")
            return
        decisions = dict(parse_decision_options(self._options, waits))
        async with aclosing(self.resume_stream(waits, decisions)) as events:
            async for event in events:
                yield event


def _load_recipe(options: RunResumeOptions) -> Mapping[str, JSON]:
    """How the run's agent was made. Raises UsageError if that is not known."""
    database = make_opener(resolve_journal_url(options.db), make=options.db is None)()
    try:
        records = Journal(database).read_records(options.run_id)
    finally:
        database.close()
    if not records:
        raise UsageError(
            f"there is no run {options.run_id} in {database.location}; "
            "`agentcall runs list` shows those that are there"
        )
    recipe = DurableRunState(options.run_id, records).begin.recipe
    if recipe is None and not options.agent:
        raise UsageError(
            f"the run {options.run_id} was begun in Python; name its agent: "
            f"agentcall runs resume {options.run_id} -a module:agent"
        )
    return recipe or {}
