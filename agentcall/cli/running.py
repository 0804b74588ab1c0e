"""`agentcall run`: the agent that is meant, its session, and what follows."""

from __future__ import annotations

import shlex
import sys
from collections.abc import AsyncIterator, Mapping
from typing import TYPE_CHECKING, Any

from agentcall.agent import Agent, Prompt
from agentcall.approvals import Decision
from agentcall.cli.asking import build_prompt
from agentcall.cli.calltext import format_pending_calls
from agentcall.cli.conversation import run_and_print
from agentcall.cli.faults import UNREACHABLE, print_warning
from agentcall.cli.launching import ensure_server
from agentcall.cli.making import build_agent
from agentcall.cli.plain import style_text
from agentcall.cli.recipe import make_recipe
from agentcall.cli.run import RunOptions
from agentcall.cli.sessioned import open_session
from agentcall.cli.tracing import trace_to
from agentcall.cli.waiting import save_paused_run
from agentcall.errors import UsageError
from agentcall.events import Event
from agentcall.messages import JSON
from agentcall.result import RunResult
from agentcall.sessions import SQLiteSession

if TYPE_CHECKING:
    from agentcall.cli.keeping import DurableRunner

AnyRunResult = RunResult[Any]  # Any: the output's type is known to the user's agent alone


def run_agent(options: RunOptions) -> int:
    """Runs and prints what the options say; gives the exit code."""
    if options.json and options.events:
        raise UsageError("--json and --events both print to standard output; choose one")
    session = _open_session_and_warn(options)
    agent = build_agent(options)
    prompt = build_prompt(options.prompt, options.images or ())
    if options.launch:
        ensure_server(options.model)
    with trace_to(options.trace, content=options.trace_content):
        if _is_durable(options):
            return _run_durably(agent, prompt, options)
        return run_and_print(AgentRunner(agent, session, make_recipe(options)), prompt, options)


def _is_durable(options: RunOptions) -> bool:
    is_durable = bool(options.durable or options.db or options.run_id)
    if is_durable and (options.last or options.session is not None):
        raise UsageError("a durable run is in no session; leave --durable or --session out")
    return is_durable


def _run_durably(agent: Agent[Any, Any], prompt: Prompt | None, options: RunOptions) -> int:
    """Runs so that another process may go on, and says how."""
    from agentcall.cli.keeping import DurableRunner

    return run_durable(
        DurableRunner(agent, options, db=options.db, run_id=options.run_id), prompt, options
    )


def run_durable(runner: DurableRunner, prompt: Prompt | None, options: RunOptions) -> int:
    """Begins a durable run or goes on with it; gives the exit code."""
    try:
        code = run_and_print(runner, prompt, options)
    except KeyboardInterrupt:
        runner.print_resume_hint()
        raise
    finally:
        runner.close()
    if code == UNREACHABLE:
        runner.print_resume_hint()
    return code


def _open_session_and_warn(options: RunOptions) -> SQLiteSession | None:
    session = open_session(options)
    for waiting in () if session is None else session.paused_runs:
        print_warning(
            f"a run of this session waits for approval: agentcall resume {waiting.run_id}; "
            "until then it counts as not carried out"
        )
    return session


class AgentRunner:
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
        self, result: AnyRunResult, decisions: Mapping[str, Decision | bool]
    ) -> AsyncIterator[Event]:
        """The events of a run after a person has decided."""
        return self._agent.resume_stream(result, decisions, session=self._session)

    def check(self, result: AnyRunResult, decisions: Mapping[str, Decision | bool]) -> None:
        """Raises UsageError for decisions that cannot be carried out."""
        self._agent.check_decisions(result, decisions)

    def print_resume_hint(self, result: AnyRunResult) -> None:
        """Writes the state down, and says on standard error how to go on with it."""
        path = save_paused_run(result, self._recipe, self._session)
        first = shlex.quote(result.pending[0].call.id)
        command = f"agentcall resume {path.stem}"
        lines = [
            *format_pending_calls(result),
            f"approve: {command} --approve {first}",
            f"or:      {command} --deny {first}=WHY, or --edit {first}=JSON; at a terminal it asks",
        ]
        sys.stderr.write(style_text("\n".join(lines), "yellow", sys.stderr) + "\n")
