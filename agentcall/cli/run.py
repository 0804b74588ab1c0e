"""`agentcall run`: one question, answered by a model with tools."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import typer

HELP = """Ask a model, with tools, and print its answer.

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
  AGENTCALL_DEBUG=1  show tracebacks
"""


@dataclass(frozen=True, slots=True)
class RunOptions:
    """What `agentcall run` is told."""

    prompt: Annotated[
        str | None, typer.Argument(help="What to ask; - reads it from standard input.")
    ] = None
    model: Annotated[
        str | None,
        typer.Option(
            "-m",
            "--model",
            help="lmdeploy:NAME, http://host:port/v1, http://host:port/v1#NAME or embedded; "
            "several servers of one model with commas between. "
            "Default: AGENTCALL_MODEL, else a local LMDeploy, else embedded.",
        ),
    ] = None
    tools: Annotated[
        list[str] | None,
        typer.Option(
            "-t",
            "--tool",
            metavar="TOOL",
            help="A ready tool's name, files=FOLDER and its like, module, module:name, file.py, "
            "file.py:name, or mcp:COMMAND or mcp:URL of an MCP server. Repeatable.",
        ),
    ] = None
    agent: Annotated[
        str | None,
        typer.Option(
            "-a", "--agent", metavar="PLACE", help="Your own Agent: module:name or file.py:name."
        ),
    ] = None
    instructions: Annotated[
        str | None,
        typer.Option("-i", "--instructions", metavar="TEXT", help="What the model is told first."),
    ] = None
    images: Annotated[
        list[str] | None,
        typer.Option("--image", metavar="FILE", help="An image file or URL. Repeatable."),
    ] = None
    launch: Annotated[
        bool,
        typer.Option("--launch", help="Start the server of -m lmdeploy:NAME if none is up."),
    ] = False
    max_requests: Annotated[
        int | None,
        typer.Option("--max-requests", min=1, metavar="N", help="Requests to the model at most."),
    ] = None
    durable: Annotated[
        bool,
        typer.Option(
            "--durable", help="Record each step, so that `agentcall runs resume` can go on with it."
        ),
    ] = False
    db: Annotated[
        str | None,
        typer.Option(
            "--db",
            metavar="URL",
            help="Where to record it: sqlite:///FILE or postgresql://... Default: AGENTCALL_DB, "
            "else a file in the user's state folder.",
        ),
    ] = None
    run_id: Annotated[
        str | None, typer.Option("--run-id", metavar="ID", help="The durable run's id.")
    ] = None
    session: Annotated[
        str | None,
        typer.Option(
            "--session", metavar="ID", help="Go on with the conversation of this id, or begin it."
        ),
    ] = None
    last: Annotated[bool, typer.Option("-c", "--continue", help="Go on with the last session.")] = (
        False
    )
    json: Annotated[
        bool,
        typer.Option(
            "--json",
            help="Print one JSON object: output, stop_reason, usage, tool_calls, messages.",
        ),
    ] = False
    events: Annotated[
        bool, typer.Option("--events", help="Print each event as a line of JSON as it happens.")
    ] = False
    quiet: Annotated[
        bool, typer.Option("-q", "--quiet", help="Print the answer and errors only.")
    ] = False
    verbose: Annotated[
        bool,
        typer.Option("-v", "--verbose", help="Show the dialect, all thinking and whole results."),
    ] = False


def run(options: RunOptions) -> None:
    """Runs, prints and exits with the code that HELP says."""
    from agentcall.cli.running import run_by

    code = run_by(options)
    if code:
        raise typer.Exit(code)
