"""What `agentcall resume` does: the run that waits goes on, by words or by a person."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Iterable, Mapping
from pathlib import Path
from typing import Any

from agentcall.agent import Agent
from agentcall.approval import Decision
from agentcall.calltext import whole_call
from agentcall.cli.approving import Keyboard
from agentcall.cli.calltext import waiting_lines
from agentcall.cli.conversation import conversed_on
from agentcall.cli.faults import UNREACHED, WAITING
from agentcall.cli.making import agent_of
from agentcall.cli.recipe import parts_now, recipe_of
from agentcall.cli.resume import ResumeOptions
from agentcall.cli.run import RunOptions
from agentcall.cli.running import Result, Talker
from agentcall.cli.said import HOW, decisions_of
from agentcall.cli.waiting import State, listed, load, take
from agentcall.errors import UsageError
from agentcall.events import Event, ToolCallStarted
from agentcall.messages import JSON
from agentcall.plaintext import line_of


def resume_by(options: ResumeOptions) -> int:
    """Goes on with a run and prints what comes of it; gives the exit code."""
    if options.state is None:
        _show_list(listed())
        return 0
    state = load(options.state)
    decisions = dict(decisions_of(options, state.result))
    told = _run_options(state, options)
    if not state.result.pending:
        raise UsageError(f"the run {state.result.run_id} waits for nothing; it has ended")
    if state.path is None and not (told.agent or told.tools):
        raise UsageError("this state does not say which agent it is of; name it: -a file.py:agent")
    continued = _Continued(agent_of(told), recipe_of(told), state)
    if decisions:
        continued.check(state.result, decisions)
    elif not Keyboard().is_there:
        continued.show_waiting()
        return WAITING
    with continued:
        return continued.left_with(conversed_on(continued, state.result, decisions, told))


class _Continued(Talker):
    """A run that goes on, whose state is taken away from others when it does."""

    def __init__(
        self,
        agent: Agent[Any, Any],  # Any: the user's own types
        recipe: Mapping[str, JSON],
        state: State,
    ) -> None:
        super().__init__(agent, state.session, recipe)
        self._state = state
        self._taken: Path | None = None
        self._has_begun = state.session is not None  # the session knows that it has gone on

    def __enter__(self) -> None:
        """Nothing is taken yet."""

    def __exit__(self, *_error: object) -> None:
        """Gives the state back where something went wrong before anything was carried out."""
        if self._taken is not None and self._state.path is not None and not self._has_begun:
            self._taken.rename(self._state.path)

    def left_with(self, code: int) -> int:
        """Lets the state go, unless the run could not go on; gives the exit code again."""
        if self._taken is not None and (self._has_begun or code != UNREACHED):
            self._taken.unlink(missing_ok=True)
            self._taken = None
        return code

    def resume_stream(
        self, result: Result, decisions: Mapping[str, Decision | bool]
    ) -> AsyncIterator[Event]:
        """The events of the run; the first time, the state is taken."""
        if result is self._state.result:
            self._taken = take(self._state)
        return self._watched(super().resume_stream(result, decisions))

    async def _watched(self, events: AsyncIterator[Event]) -> AsyncIterator[Event]:
        async for event in events:
            self._has_begun = self._has_begun or isinstance(event, ToolCallStarted)
            yield event

    def show_waiting(self) -> None:
        """Says what waits, on standard error."""
        sys.stderr.writelines(f"{line}\n" for line in waiting_lines(self._state.result))
        sys.stderr.write(f"{HOW}\n")


def _run_options(state: State, options: ResumeOptions) -> RunOptions:
    """The options of the run as it was made, and as it is told now."""
    parts = parts_now(state.recipe, options)
    return RunOptions(**parts, json=options.json, events=options.events, quiet=options.quiet)


def _show_list(states: Iterable[State]) -> None:
    for state in states:
        result = state.result
        for pending in result.pending:
            call = pending.call
            shown = whole_call(call, result.asked_by(call.id))
            why = f"\t{line_of(pending.reason)}" if pending.reason else ""
            sys.stdout.write(f"{line_of(result.run_id)}\t{line_of(call.id)}\t{shown}{why}\n")
