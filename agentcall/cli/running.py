"""`agentcall run`: the agent that is meant, its session, and what follows."""

from __future__ import annotations

import shlex
import sys
from collections.abc import AsyncIterator, Mapping
from typing import TYPE_CHECKING, Any

from agentcall.agent import Agent, Prompt
from agentcall.approval import Decision
from agentcall.cli.asking import prompt_from
from agentcall.cli.calltext import waiting_lines
from agentcall.cli.conversation import conversed
from agentcall.cli.faults import UNREACHED, warn
from agentcall.cli.launching import ensure_up
from agentcall.cli.making import agent_of
from agentcall.cli.plain import styled
from agentcall.cli.recipe import recipe_of
from agentcall.cli.run import RunOptions
from agentcall.cli.sessioned import session_of
from agentcall.cli.tracing import traced
from agentcall.cli.waiting import save
from agentcall.errors import UsageError
from agentcall.events import Event
from agentcall.messages import JSON
from agentcall.result import RunResult
from agentcall.session import SQLiteSession

if TYPE_CHECKING:
    from agentcall.cli.keeping import Kept

Result = RunResult[Any]  # Any: the output's type is known to the user's agent alone


def run_by(options: RunOptions) -> int:
    """Runs and prints what the options say; gives the exit code."""
    if options.json and options.events:
        raise UsageError("--json and --events both print to standard output; choose one")
    session = _session(options)
    agent = agent_of(options)
    prompt = prompt_from(options.prompt, options.images or ())
    if options.launch:
        ensure_up(options.model)
    with traced(options.trace, content=options.trace_content):
        if _is_durable(options):
            return _kept(agent, prompt, options)
        return conversed(Talker(agent, session, recipe_of(options)), prompt, options)


def _is_durable(options: RunOptions) -> bool:
    is_durable = bool(options.durable or options.db or options.run_id)
    if is_durable and (options.last or options.session is not None):
        raise UsageError("a durable run is in no session; leave --durable or --session out")
    return is_durable


def _kept(agent: Agent[Any, Any], prompt: Prompt | None, options: RunOptions) -> int:
    """Runs so that another process may go on, and says how."""
    from agentcall.cli.keeping import Kept

    return kept_run(Kept(agent, options, db=options.db, run_id=options.run_id), prompt, options)


def kept_run(kept: Kept, prompt: Prompt | None, options: RunOptions) -> int:
    """Begins a durable run or goes on with it; gives the exit code."""
    try:
        code = conversed(kept, prompt, options)
    except KeyboardInterrupt:
        kept.tell_how_to_go_on()
        raise
    finally:
        kept.close()
    if code == UNREACHED:
        kept.tell_how_to_go_on()
    return code


def _session(options: RunOptions) -> SQLiteSession | None:
    session = session_of(options)
    for waiting in () if session is None else session.waiting:
        warn(
            f"a run of this session waits for approval: agentcall resume {waiting.run_id}; "
            "until then it counts as not carried out"
        )
    return session


class Talker:
    """An agent at the command line, in a session or without."""

    def __init__(
        self,
        agent: Agent[Any, Any],  # Any: the user's own types
        session: SQLiteSession | None,
        recipe: Mapping[str, JSON],
    ) -> None:
        self._agent = agent
        self._session = session
        self._recipe = recipe

    def run_stream(self, prompt: Prompt | None) -> AsyncIterator[Event]:
        """The events of a run."""
        return self._agent.run_stream(prompt, session=self._session)

    def resume_stream(
        self, result: Result, decisions: Mapping[str, Decision | bool]
    ) -> AsyncIterator[Event]:
        """The events of a run after a person has decided."""
        return self._agent.resume_stream(result, decisions, session=self._session)

    def check(self, result: Result, decisions: Mapping[str, Decision | bool]) -> None:
        """Raises UsageError for decisions that cannot be carried out."""
        self._agent.check(result, decisions)

    def tell_how_to_go_on(self, result: Result) -> None:
        """Writes the state down, and says on standard error how to go on with it."""
        path = save(result, self._recipe, self._session)
        first = shlex.quote(result.pending[0].call.id)
        command = f"agentcall resume {path.stem}"
        lines = [
            *waiting_lines(result),
            f"approve: {command} --approve {first}",
            f"or:      {command} --deny {first}=WHY, or --edit {first}=JSON; at a terminal it asks",
        ]
        sys.stderr.write(styled("\n".join(lines), "yellow", sys.stderr) + "\n")
