"""`agentcall runs resume`: the run's agent is made again as it was, and goes on."""

from __future__ import annotations

from collections.abc import Mapping

from agentcall.cli.keeping import journal_url
from agentcall.cli.recipe import parts_of
from agentcall.cli.run import RunOptions
from agentcall.cli.running import run_on
from agentcall.cli.runs import ResumeOptions
from agentcall.durable.journal import Journal
from agentcall.durable.ledger import Ledger
from agentcall.durable.opening import opener
from agentcall.errors import UsageError
from agentcall.messages import JSON


def resumed(options: ResumeOptions) -> int:
    """Goes on with a run and prints what comes of it; gives the exit code."""
    given = {"model": options.model, "tools": options.tools, "agent": options.agent}
    parts = parts_of(_recipe(options))
    parts |= {name: value for name, value in given.items() if value}
    return run_on(
        RunOptions(
            **parts,
            json=options.json,
            quiet=options.quiet,
            durable=True,
            db=options.db,
            run_id=options.run_id,
        )
    )


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
