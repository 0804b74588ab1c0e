"""The command line: `agentcall run`, `chat`, `sessions`, `runs`, `batch`, `serve`, `web`."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from agentcall.cli import (
    batch,
    chat,
    doctor,
    mcp,
    resume,
    run,
    runs,
    serve,
    server,
    sessions,
    tools,
    web,
    worker,
)
from agentcall.cli.options import command_of
from agentcall.cli.tracing import traced_everywhere

app = typer.Typer(
    name="agentcall",
    help="Function-calling agents for people who run their own models.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("run", help=run.HELP)(command_of(run.RunOptions, run.run))
app.command("chat", help=chat.HELP)(command_of(chat.ChatOptions, chat.chat))
app.command("resume", help=resume.HELP)(command_of(resume.ResumeOptions, resume.resume))
app.add_typer(sessions.app, name="sessions")
app.add_typer(runs.app, name="runs")
app.command("batch", help=batch.HELP)(command_of(batch.BatchOptions, batch.batch))
app.command("worker", help=worker.HELP)(command_of(worker.WorkerOptions, worker.worker))
app.add_typer(tools.app, name="tools")
app.add_typer(server.app, name="server")
app.command("serve", help=serve.HELP)(command_of(serve.ServeOptions, serve.serve))
app.command("web", help=web.HELP)(command_of(web.WebOptions, web.web))
app.command("mcp", help=mcp.HELP)(command_of(mcp.MCPOptions, mcp.mcp))
app.command("doctor", help=doctor.HELP)(command_of(doctor.DoctorOptions, doctor.doctor))


def _show_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"agentcall {version('agentcall')}")
        raise typer.Exit


@app.callback()
def _door(
    _version: Annotated[
        bool,
        typer.Option(
            "--version", help="Show the version and exit.", callback=_show_version, is_eager=True
        ),
    ] = False,
) -> None:
    pass


def main() -> None:
    """The console script: every error becomes one line and an exit code, without a traceback."""
    try:
        with traced_everywhere():
            app(prog_name="agentcall")
    except KeyboardInterrupt:
        from agentcall.cli.faults import INTERRUPTED

        sys.exit(INTERRUPTED)
    except Exception as error:
        from agentcall.cli.faults import debugging, exit_code, tell

        if debugging():
            raise
        tell(error)
        sys.exit(exit_code(error))
