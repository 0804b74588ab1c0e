"""`agentcall run`: one prompt, answered by a model with tools."""

from __future__ import annotations

from typing import Any

from agentcall.agent import Agent
from agentcall.cli.command import make_app, trace_to
from agentcall.cli.errors import print_warning
from agentcall.cli.load import build_agent, build_prompt, make_recipe, open_session
from agentcall.cli.model_server import ensure_server
from agentcall.cli.options import RunOptions
from agentcall.cli.run_loop import AgentRunner, run_and_print, run_durably
from agentcall.errors import UsageError
from agentcall.messages import Prompt

RUN_HELP = """Ask a model, with tools, and print its answer.

The answer goes to standard output and everything else to standard error, so `> answer.txt` holds
only the answer. Piped input is put before PROMPT. On a terminal the answer streams.

\b
  agentcall run "What is 17% of 2,340?" -t calculator
  cat log.txt | agentcall run "What went wrong here?" -m http://127.0.0.1:8080/v1
  agentcall run "Book a table for two" -t booking.py --json
  agentcall run "And for three?" -c

\b
Exit codes:
  0    a final answer
  1    the run ended without one (a limit, a loop, an unreadable answer)
  2    the command is wrong (no such model or tool, ...)
  3    the model's server cannot be reached, or refuses the request
  4    a call waits for approval and nobody can be asked; `agentcall resume` continues
  130  Ctrl-C

\b
Environment:
  AGENTCALL_MODEL     the model, if -m is not given
  AGENTCALL_API_KEY   the API key of the model's server
  AGENTCALL_SESSIONS  the file of sessions. Default: ~/.local/share/agentcall/sessions.db
  AGENTCALL_DB        the journal of runs. Default: ~/.local/state/agentcall/runs.db
  AGENTCALL_TRACE     a file, as for --trace, for every command that runs agents
  AGENTCALL_DEBUG=1   show tracebacks
"""


def run_agent(options: RunOptions) -> int:
    """Run, print the answer, and return the exit code."""
    if options.json and options.events:
        raise UsageError("--json and --events both print to standard output; choose one")
    session = open_session(options)
    for paused in () if session is None else session.paused_runs:
        print_warning(
            f"a run of this session waits for approval: agentcall resume {paused.run_id}; "
            "until then its calls count as not executed"
        )
    agent = build_agent(options)
    prompt = build_prompt(options.prompt, options.images or ())
    if options.launch:
        ensure_server(options.model)
    with trace_to(options.trace, content=options.trace_content):
        if options.durable or options.db or options.run_id:
            return _run_durably(agent, prompt, options)
        return run_and_print(AgentRunner(agent, session, make_recipe(options)), prompt, options)


def _run_durably(
    agent: Agent[Any, Any],  # Any: the user's own types
    prompt: Prompt,
    options: RunOptions,
) -> int:
    if options.last or options.session is not None:
        raise UsageError("a durable run cannot be in a session; leave out --durable or --session")
    from agentcall.cli.durable import DurableRunner

    runner = DurableRunner(agent, options, db=options.db, run_id=options.run_id)
    return run_durably(runner, prompt, options)


app = make_app(RunOptions, run_agent, RUN_HELP)
