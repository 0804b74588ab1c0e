"""`agentcall resume`, also as `agentcall runs resume`: continue a run of the journal."""

from __future__ import annotations

import shlex
import sys
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from pathlib import Path
from typing import Any, cast

from agentcall.agent import Agent
from agentcall.cli.approvals import (
    TerminalPrompter,
    parse_decision_options,
)
from agentcall.cli.command import make_app
from agentcall.cli.durable import (
    AnyRunResult,
    DurableRunner,
    load_run_state,
    open_journal,
    print_pending_calls,
)
from agentcall.cli.errors import WAITING, print_warning
from agentcall.cli.load import build_agent, make_recipe, merge_recipe
from agentcall.cli.options import ResumeOptions, RunOptions
from agentcall.cli.run_loop import AgentRunner, resume_and_print, run_durably
from agentcall.display import format_full_call, to_single_line
from agentcall.durable.run_state import DurableRunState
from agentcall.errors import UsageError
from agentcall.events import Event, RunFinished
from agentcall.messages import JSON, Prompt
from agentcall.sessions import SQLiteSession

RESUME_HELP = """Continue a run that waits for approval or was stopped.

RUN is the id that `agentcall run` printed; without it, the runs that wait for approval are listed.
The agent is made again as it was. Without a decision it asks at the terminal; a call without a
decision keeps waiting. A run that has ended prints its recorded answer.

\b
  agentcall resume 3f2a9c0d1e4b5a67 --approve call00100
  agentcall resume 3f2a9c0d1e4b5a67 --deny call00100="not on a Sunday"
  agentcall resume 3f2a9c0d1e4b5a67 --edit call00100='{"to": "ann"}'
  agentcall resume result.json -a mine.py:agent

Exit codes are those of `agentcall run`.
"""


def resume_run(options: ResumeOptions) -> int:
    """Continue a run, print its answer, and return the exit code; list runs if none is named."""
    if options.run_id is None:
        _list_paused_runs(options.db)
        return 0
    if Path(options.run_id).is_file():
        return _resume_from_file(Path(options.run_id), options)
    state = load_run_state(options.run_id, options.db)
    if state.begin.recipe is None and not options.agent:
        raise UsageError(
            f"the run {options.run_id} was started in Python; name its agent: "
            f"agentcall resume {options.run_id} -a module:agent"
        )
    run_options = _make_run_options(state.begin.recipe or {}, options)
    agent = build_agent(run_options)
    session = _open_session(state)
    if session is not None and state.paused_result is not None:
        runner = AgentRunner(
            agent, session, make_recipe(run_options), db=options.db, is_recorded=True
        )
        return _decide_and_resume(runner, state.paused_result, options, run_options)
    return run_durably(_DecidedRunner(agent, run_options, options), None, run_options)


def _list_paused_runs(db: str | None) -> None:
    """Print a line for each call that waits: run, call, arguments and reason."""
    with open_journal(db) as journal:
        headers = [header for header in journal.list_runs() if header.state == "paused"]
        states = [DurableRunState(h.run_id, journal.read_records(h.run_id)) for h in headers]
    for result in (state.paused_result for state in states if state.paused_result):
        for pending in result.pending:
            call = pending.call
            shown = format_full_call(call, result.get_agent_path(call.id))
            cells = [to_single_line(result.run_id), to_single_line(call.id), shown]
            cells += [to_single_line(pending.reason)] if pending.reason else []
            sys.stdout.write("\t".join(cells) + "\n")


def _resume_from_file(path: Path, options: ResumeOptions) -> int:
    """Continue a run from a result that a program has saved; the file stays."""
    try:
        result = AnyRunResult.from_json(path.read_bytes())
    except UsageError as error:
        raise UsageError(f"{path}: {error}") from None
    if not result.pending:
        raise UsageError(f"the run {result.run_id} does not wait for approval; it has ended")
    if not (options.agent or options.tools):
        raise UsageError(f"{path} does not name its agent; add -a file.py:agent")
    run_options = _make_run_options({}, options)
    runner = AgentRunner(build_agent(run_options), None, make_recipe(run_options))
    return _decide_and_resume(runner, result, options, run_options)


def _decide_and_resume(
    runner: AgentRunner, result: AnyRunResult, options: ResumeOptions, run_options: RunOptions
) -> int:
    decisions = parse_decision_options(options, result)
    if decisions:
        runner.check(result, decisions)
    elif not TerminalPrompter().is_available:
        print_pending_calls(result, shlex.quote(str(options.run_id)), options.db)
        return WAITING
    return resume_and_print(runner, result, decisions, run_options)


def _make_run_options(recipe: Mapping[str, JSON], options: ResumeOptions) -> RunOptions:
    """Return the options of the run, where those of this command replace the recorded ones."""
    fields = merge_recipe(recipe, options)
    return RunOptions(**fields, json=options.json, events=options.events, quiet=options.quiet)


def _open_session(state: DurableRunState) -> SQLiteSession | None:
    recorded = (state.begin.recipe or {}).get("session")
    if recorded is None:
        return None
    session = cast("Mapping[str, str]", recorded)
    return SQLiteSession(session["id"], session["file"], wait=0)


class _DecidedRunner(DurableRunner):
    """Continues a durable run, and applies the decisions of the options when it waits."""

    def __init__(
        self,
        agent: Agent[Any, Any],  # Any: the user's own types
        run_options: RunOptions,
        options: ResumeOptions,
    ) -> None:
        super().__init__(agent, run_options, db=options.db, run_id=options.run_id)
        self._options = options

    async def run_stream(self, prompt: Prompt | None) -> AsyncGenerator[Event, None]:
        """Yield the events up to the pause, and those after the decisions."""
        paused: AnyRunResult | None = None
        async with aclosing(super().run_stream(prompt)) as events:
            async for event in events:
                if (
                    isinstance(event, RunFinished)
                    and event.result.pending
                    and self._options.has_decisions
                ):
                    paused = event.result
                else:
                    yield event
        if paused is not None:
            decisions = parse_decision_options(self._options, paused)
            async with aclosing(self.resume_stream(paused, decisions)) as events:
                async for event in events:
                    yield event
        elif self._options.has_decisions:
            print_warning("no call waits for approval; the decisions were ignored")


app = make_app(ResumeOptions, resume_run, RESUME_HELP)
