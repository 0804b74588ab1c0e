"""What `agentcall resume` does: the run that waits goes on, by words or by a person."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Iterable, Mapping
from pathlib import Path
from typing import Any

from agentcall.agent import Agent
from agentcall.approvals import Decision
from agentcall.cli.approving import TerminalPrompter
from agentcall.cli.calltext import format_pending_calls
from agentcall.cli.conversation import resume_and_print
from agentcall.cli.faults import UNREACHABLE, WAITING
from agentcall.cli.making import build_agent
from agentcall.cli.recipe import make_recipe, merge_recipe
from agentcall.cli.resume import ResumeOptions
from agentcall.cli.run import RunOptions
from agentcall.cli.running import AgentRunner, AnyRunResult
from agentcall.cli.said import DECISION_HINT, parse_decision_options
from agentcall.cli.waiting import PausedRun, claim_paused_run, list_paused_runs, load_paused_run
from agentcall.display import format_full_call, to_single_line
from agentcall.errors import UsageError
from agentcall.events import Event, ToolCallStarted
from agentcall.messages import JSON


def resume_run(options: ResumeOptions) -> int:
    """Goes on with a run and prints what comes of it; gives the exit code."""
    if options.state is None:
        _print_paused_runs(list_paused_runs())
        return 0
    state = load_paused_run(options.state)
    decisions = dict(parse_decision_options(options, state.result))
    told = _make_run_options(state, options)
    if not state.result.pending:
        raise UsageError(f"the run {state.result.run_id} waits for nothing; it has ended")
    if state.path is None and not (told.agent or told.tools):
        raise UsageError("this state does not say which agent it is of; name it: -a file.py:agent")
    continued = _PausedRunRunner(build_agent(told), make_recipe(told), state)
    if decisions:
        continued.check(state.result, decisions)
    elif not TerminalPrompter().is_available:
        continued.print_pending_calls()
        return WAITING
    with continued:
        return continued.release(resume_and_print(continued, state.result, decisions, told))


class _PausedRunRunner(AgentRunner):
    """A run that goes on, whose state is taken away from others when it does."""

    def __init__(
        self,
        agent: Agent[Any, Any],  # Any: the user's own types
        recipe: Mapping[str, JSON],
        state: PausedRun,
    ) -> None:
        super().__init__(agent, state.session, recipe)
        self._state = state
        self._claimed_path: Path | None = None
        self._has_begun = state.session is not None  # the session knows that it has gone on

    def __enter__(self) -> None:
        """Nothing is taken yet."""

    def __exit__(self, *_error: object) -> None:
        """Gives the state back where something went wrong before anything was carried out."""
        if self._claimed_path is not None and self._state.path is not None and not self._has_begun:
            self._claimed_path.rename(self._state.path)

    def release(self, code: int) -> int:
        """Lets the state go, unless the run could not go on; gives the exit code again."""
        if self._claimed_path is not None and (self._has_begun or code != UNREACHABLE):
            self._claimed_path.unlink(missing_ok=True)
            self._claimed_path = None
        return code

    def resume_stream(
        self, result: AnyRunResult, decisions: Mapping[str, Decision | bool]
    ) -> AsyncIterator[Event]:
        """The events of the run; the first time, the state is taken."""
        if result is self._state.result:
            self._claimed_path = claim_paused_run(self._state)
        return self._watch_start(super().resume_stream(result, decisions))

    async def _watch_start(self, events: AsyncIterator[Event]) -> AsyncIterator[Event]:
        async for event in events:
            self._has_begun = self._has_begun or isinstance(event, ToolCallStarted)
            yield event

    def print_pending_calls(self) -> None:
        """Says what waits, on standard error."""
        sys.stderr.writelines(f"{line}\n" for line in format_pending_calls(self._state.result))
        sys.stderr.write(f"{DECISION_HINT}\n")


def _make_run_options(state: PausedRun, options: ResumeOptions) -> RunOptions:
    """The options of the run as it was made, and as it is told now."""
    parts = merge_recipe(state.recipe, options)
    return RunOptions(**parts, json=options.json, events=options.events, quiet=options.quiet)


def _print_paused_runs(states: Iterable[PausedRun]) -> None:
    for state in states:
        result = state.result
        for pending in result.pending:
            call = pending.call
            shown = format_full_call(call, result.get_agent_path(call.id))
            why = f"\t{to_single_line(pending.reason)}" if pending.reason else ""
            sys.stdout.write(
                f"{to_single_line(result.run_id)}\t{to_single_line(call.id)}\t{shown}{why}\n"
            )
