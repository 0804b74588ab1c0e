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
from agentcall.cli.options import make_command
from agentcall.cli.tracing import trace_from_environment

app = typer.Typer(
    name="agentcall",
    help="Function-calling agents for people who run their own models.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("run", help=run.RUN_HELP)(make_command(run.RunOptions, run.run))
app.command("chat", help=chat.CHAT_HELP)(make_command(chat.ChatOptions, chat.start_chat))
app.command("resume", help=resume.RESUME_HELP)(make_command(resume.ResumeOptions, resume.resume))
app.add_typer(sessions.app, name="sessions")
app.add_typer(runs.app, name="runs")
app.command("batch", help=batch.BATCH_HELP)(make_command(batch.BatchOptions, batch.batch))
app.command("worker", help=worker.WORKER_HELP)(
    make_command(worker.WorkerOptions, worker.start_worker)
)
app.add_typer(tools.app, name="tools")
app.add_typer(server.app, name="server")
app.command("serve", help=serve.SERVE_HELP)(make_command(serve.ServeOptions, serve.serve_endpoint))
app.command("web", help=web.WEB_HELP)(make_command(web.WebOptions, web.serve_web))
app.command("mcp", help=mcp.MCP_HELP)(make_command(mcp.MCPOptions, mcp.serve_mcp))
app.command("doctor", help=doctor.DOCTOR_HELP)(make_command(doctor.DoctorOptions, doctor.doctor))


def _show_version(wanted: bool) -> None:
    if wanted:
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
    """The console script: every error becomes one line and an exit code, without a traceback."""
    try:
        with trace_from_environment():
            app(prog_name="agentcall")
    except KeyboardInterrupt:
        from agentcall.cli.faults import INTERRUPTED

        sys.exit(INTERRUPTED)
    except Exception as error:
        from agentcall.cli.faults import get_exit_code, is_debugging, print_error

        if is_debugging():
            raise
        print_error(error)
        sys.exit(get_exit_code(error))
