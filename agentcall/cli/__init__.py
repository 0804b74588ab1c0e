"""The command line: `agentcall run`, `chat`, `sessions`, `runs`, `batch`, `serve`, `web` and more.

A command's module is imported when the command is called, so that the others cost nothing.
"""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from agentcall.cli.command import make_lazy_group, trace_from_environment

_COMMANDS = {
    "run": ("agentcall.cli.run:app", "Ask a model, with tools, and print its answer."),
    "chat": ("agentcall.cli.chat:app", "Chat with a model, with tools."),
    "resume": (
        "agentcall.cli.resume:app",
        "Continue a run that waits for approval or was stopped.",
    ),
    "sessions": (
        "agentcall.cli.sessions:app",
        "List, show, search, export, compact and delete sessions.",
    ),
    "runs": ("agentcall.cli.runs:app", "List, show, resume and cancel recorded runs."),
    "batch": (
        "agentcall.cli.batch:app",
        "Run many tasks from a file; write a line of JSON for each.",
    ),
    "eval": ("agentcall.cli.evaluate:app", "Run cases with checks, and print what passed."),
    "worker": (
        "agentcall.cli.worker:app",
        "Run the runs that were queued for an agent's workers.",
    ),
    "tools": ("agentcall.cli.tools:app", "List tools, show their schemas, call them by hand."),
    "server": (
        "agentcall.cli.server:app",
        "Plan, launch, check and quantize model servers on this machine.",
    ),
    "serve": ("agentcall.cli.serve:app", "Serve an agent to clients that speak OpenAI's API."),
    "web": ("agentcall.cli.web:app", "Chat with an agent in the browser."),
    "mcp": ("agentcall.cli.mcp:app", "Serve tools over the Model Context Protocol."),
    "doctor": (
        "agentcall.cli.doctor:app",
        "Examine a model server: is it up, do tools reach the model, what to change.",
    ),
}


app = typer.Typer(
    name="agentcall",
    cls=make_lazy_group(_COMMANDS),
    help="Function-calling agents for people who run their own models.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _show_version(is_set: bool) -> None:
    if is_set:
        from importlib.metadata import version

        typer.echo(f"agentcall {version('agentcall')}")
        raise typer.Exit


@app.callback()
def handle_global_options(
    _version: Annotated[
        bool,
        typer.Option(
            "--version", help="Show the version and exit.", callback=_show_version, is_eager=True
        ),
    ] = False,
) -> None:
    pass


def main() -> None:
    """Run the console script: an error becomes one line and an exit code, without a traceback."""
    try:
        with trace_from_environment():
            app(prog_name="agentcall")
    except KeyboardInterrupt:
        from agentcall.cli.errors import INTERRUPTED

        sys.exit(INTERRUPTED)
    except Exception as error:
        from agentcall.cli.errors import get_exit_code, is_debugging, print_error

        if is_debugging():
            raise
        print_error(error)
        sys.exit(get_exit_code(error))
