"""`agentcall run`: one question, answered by a model with tools."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import typer

from agentcall.cli.flags import DatabaseOption, EventsOption, QuietOption
from agentcall.cli.words import AgentSessionOptions

RUN_HELP = """Ask a model, with tools, and print its answer.

The answer goes to standard output, all else to standard error, so `> answer.txt` holds the answer
alone. What is piped in comes before PROMPT. On a terminal the answer streams.

\b
  agentcall run "What is 17% of 2,340?" -t calculator
  cat log.txt | agentcall run "What went wrong here?" -m http://127.0.0.1:8080/v1
  agentcall run "Book a table for two" -t booking.py --json
  agentcall run "And for three?" -c

\b
Exit codes:
  0    a final answer
  1    the run ended without one (a limit, a loop, an answer that cannot be read)
  2    the command is wrong (no such model or tool, ...)
  3    the model's server cannot be reached, or refuses
  4    a call waits for approval, and nobody is there to ask; `agentcall resume` goes on
  130  Ctrl-C

\b
Environment:
  AGENTCALL_MODEL    the model, where -m is not given
  AGENTCALL_API_KEY  the key of the model's server
  AGENTCALL_SESSIONS the file of sessions. Default: ~/.local/share/agentcall/sessions.db
  AGENTCALL_TRACE    a file, as --trace takes it, for every command that runs agents
  AGENTCALL_DEBUG=1  show tracebacks
"""


@dataclass(frozen=True, slots=True)
class RunOptions(AgentSessionOptions):
    """What `agentcall run` is told."""

    prompt: Annotated[
        str | None, typer.Argument(help="What to ask; - reads it from standard input.")
    ] = None
    images: Annotated[
        list[str] | None,
        typer.Option("--image", metavar="FILE", help="An image file or URL. Repeatable."),
    ] = None
    durable: Annotated[
        bool,
        typer.Option(
            "--durable", help="Record each step, so that `agentcall runs resume` can go on with it."
        ),
    ] = False
    db: DatabaseOption = None
    run_id: Annotated[
        str | None, typer.Option("--run-id", metavar="ID", help="The durable run's id.")
    ] = None
    json: Annotated[
        bool,
        typer.Option(
            "--json",
            help="Print one JSON object: output, stop_reason, usage, tool_calls, messages.",
        ),
    ] = False
    events: EventsOption = False
    trace: Annotated[
        str | None,
        typer.Option(
            "--trace",
            metavar="FILE",
            help="Add what was asked, called and how long it took to FILE, a span of JSON a line.",
        ),
    ] = None
    trace_content: Annotated[
        bool,
        typer.Option(
            "--trace-content", help="With --trace: messages, arguments and results as well."
        ),
    ] = False
    quiet: QuietOption = False
    verbose: Annotated[
        bool,
        typer.Option("-v", "--verbose", help="Show the dialect, all thinking and whole results."),
    ] = False


def run(options: RunOptions) -> None:
    """Runs, prints and exits with the code that HELP says."""
    from agentcall.cli.running import run_agent

    code = run_agent(options)
    if code:
        raise typer.Exit(code)
