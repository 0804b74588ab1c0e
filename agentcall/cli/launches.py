"""`agentcall server start`, `stop`, `status`, `logs` and `smoke`: what they are told."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import typer

from agentcall.cli.options import make_command

START_HELP = """Launch a model on LMDeploy and keep it up; `embedded` launches the one on the CPU.

What is started stays until `agentcall server stop`, is started anew after a crash, and answers to
this machine alone unless --host says otherwise; then it asks for an API key. Words after -- are
LMDeploy's own.

\b
  agentcall server start internlm2_5-7b-chat
  agentcall server start ./my-model-awq --context 32k --kv int8 -- --log-level INFO
  agentcall server start embedded

\b
Exit codes:
  0  it is ready (or loading, with --no-wait)
  1  it did not start; the message says why and what to do
  2  the command is wrong: no LMDeploy, a flag it does not take, a port that is taken
"""
STOP_HELP = """Stop a server and all that it started.

Without NAME the only one that runs. Exit code 1: it does not run.
"""
STATUS_HELP = """Show the servers that were launched here, and how they are.

Exit code 1: NAME is not ready. Without NAME it is always 0.
"""
LOGS_HELP = """Show what a server says. Without NAME the only one, or the one that runs."""
SMOKE_HELP = """Ask a server a few questions that need tools, and say what is wrong.

SERVER is the name of a server that was launched here, http://host:port/v1, or lmdeploy:NAME.
Without it the only one that runs, else AGENTCALL_MODEL, else http://127.0.0.1:23333/v1.

\b
Exit codes:
  0  every question was answered rightly, by the right calls
  1  some were not
  3  the server cannot be reached, or refuses
"""

ServerJSONOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]
ServerNameArgument = Annotated[str | None, typer.Argument(help="Its name, or that of its model.")]


@dataclass(frozen=True, slots=True)
class ServerStartOptions:
    """What `agentcall server start` is told."""

    model: Annotated[
        str,
        typer.Argument(help="A folder, a name on the hub, a name that `plan` knows, or embedded."),
    ]
    flags: Annotated[
        list[str] | None, typer.Argument(metavar="-- FLAGS", help="Words for LMDeploy.")
    ] = None
    name: Annotated[
        str | None, typer.Option(help="What it is called here. Default: the model's last part.")
    ] = None
    host: Annotated[
        str, typer.Option(help="Where it listens; 0.0.0.0 is everywhere, with an API key.")
    ] = "127.0.0.1"
    port: Annotated[
        int | None, typer.Option(help="Default: 23333, for embedded any free one; 0: any free one.")
    ] = None
    api_key: Annotated[
        bool, typer.Option("--api-key", help="Ask for an API key on this machine as well.")
    ] = False
    context: Annotated[
        str | None, typer.Option(help="Tokens of a session, such as 32k. Default: as trained.")
    ] = None
    cache: Annotated[
        float | None, typer.Option(help="--cache-max-entry-count. Default: LMDeploy's 0.8.")
    ] = None
    kv: Annotated[str, typer.Option(help="Key-value cache: 16, int8 or int4.")] = "16"
    tp: Annotated[int, typer.Option(help="GPUs that share the model.")] = 1
    backend: Annotated[
        str | None, typer.Option(help="turbomind or pytorch. Default: LMDeploy's choice.")
    ] = None
    chat_template: Annotated[
        str,
        typer.Option(
            help="auto (one that knows tools, where the model's does not), none, or a file."
        ),
    ] = "auto"
    lmdeploy: Annotated[str | None, typer.Option(help="The `lmdeploy` program to use.")] = None
    patience: Annotated[float, typer.Option(help="Seconds until it has to be ready.")] = 3600.0
    no_wait: Annotated[bool, typer.Option("--no-wait", help="Do not wait until it is ready.")] = (
        False
    )
    json: ServerJSONOption = False


@dataclass(frozen=True, slots=True)
class ServerStopOptions:
    """What `agentcall server stop` is told."""

    name: ServerNameArgument = None
    all: Annotated[bool, typer.Option("--all", help="All that run.")] = False


@dataclass(frozen=True, slots=True)
class ServerStatusOptions:
    """What `agentcall server status` is told."""

    name: ServerNameArgument = None
    json: ServerJSONOption = False


@dataclass(frozen=True, slots=True)
class ServerLogsOptions:
    """What `agentcall server logs` is told."""

    name: ServerNameArgument = None
    follow: Annotated[bool, typer.Option("-f", "--follow", help="Go on as it grows.")] = False
    lines: Annotated[int, typer.Option("-n", "--lines", min=0, help="How many of the last.")] = 50


@dataclass(frozen=True, slots=True)
class ServerSmokeOptions:
    """What `agentcall server smoke` is told."""

    server: Annotated[str | None, typer.Argument(help="A name, a URL or lmdeploy:NAME.")] = None
    model: Annotated[
        str | None, typer.Option("-m", "--model", metavar="NAME", help="The model's name there.")
    ] = None
    json: ServerJSONOption = False


def add_commands(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("start", help=START_HELP)(make_command(ServerStartOptions, _start_command))
    app.command("stop", help=STOP_HELP)(make_command(ServerStopOptions, _stop_command))
    app.command("status", help=STATUS_HELP)(make_command(ServerStatusOptions, _status_command))
    app.command("logs", help=LOGS_HELP)(make_command(ServerLogsOptions, _logs_command))
    app.command("smoke", help=SMOKE_HELP)(make_command(ServerSmokeOptions, _smoke_command))


def _start_command(options: ServerStartOptions) -> None:
    from agentcall.cli.starting import start_from_options

    start_from_options(options)


def _stop_command(options: ServerStopOptions) -> None:
    from agentcall.cli.standing import stop_servers

    stop_servers(options)


def _status_command(options: ServerStatusOptions) -> None:
    from agentcall.cli.standing import print_status

    if not print_status(options):
        raise typer.Exit(1)


def _logs_command(options: ServerLogsOptions) -> None:
    from agentcall.cli.serverlog import print_log

    print_log(options)


def _smoke_command(options: ServerSmokeOptions) -> None:
    from agentcall.cli.smoking import run_smoke_test

    code = run_smoke_test(options)
    if code:
        raise typer.Exit(code)
