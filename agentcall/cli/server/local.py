"""`agentcall server start`, `stop`, `status` and `logs`: model servers on this machine."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass, replace
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Column
from rich.text import Text

from agentcall.cli.command import make_app
from agentcall.cli.errors import print_warning
from agentcall.cli.model_server import find_previous_launch, wait_for_server
from agentcall.cli.options import JSONOption, LMDeployOption
from agentcall.cli.terminal import make_table, style_text, write_json
from agentcall.display import strip_control_characters, to_single_line
from agentcall.errors import UsageError
from agentcall_server.errors import ServerError, ServerNotRunning
from agentcall_server.gpu import GPUMemory
from agentcall_server.kv_cache import parse_kv_bits
from agentcall_server.launch import LMDEPLOY_PORT, Launch
from agentcall_server.launcher import LaunchedServer, launch_server, stop_server
from agentcall_server.log_file import follow, read_tail
from agentcall_server.memory_advice import make_plan_request, read_smallest_gpu, suggest_launch
from agentcall_server.memory_plan import plan_memory
from agentcall_server.ports import is_loopback
from agentcall_server.progress import make_progress
from agentcall_server.server_registry import ServerEntry, find_entry, list_entries
from agentcall_server.units import parse_count

START_HELP = """Launch a model on LMDeploy and keep it up; `embedded` runs one on the CPU.

The server stays up until `agentcall server stop`, and is restarted after a crash. It listens on
this machine only, unless --host names another address; then it asks for an API key. Arguments after
-- are LMDeploy's own.

\b
  agentcall server start internlm2_5-7b-chat
  agentcall server start ./my-model-awq --context 32k --kv int8 -- --log-level INFO
  agentcall server start embedded

\b
Exit codes:
  0  it is ready (or loading, with --no-wait)
  1  it did not start; the message explains why and what to do
  2  the command is wrong: no LMDeploy, an unknown flag, a port in use
"""
STOP_HELP = """Stop a server and its processes.

Default: the only one that runs. Exit code 1: it does not run.
"""
STATUS_HELP = """Show the servers that were launched on this machine, and their state.

Exit code 1: NAME is not ready. Without NAME it is always 0.
"""
LOGS_HELP = """Show the log of a server. Default: the only one, or the only one that runs."""

ServerNameArgument = Annotated[
    str | None, typer.Argument(metavar="NAME", help="The server's name, or that of its model.")
]

_PHASE_STYLES = {
    "ready": "green",
    "starting": "yellow",
    "restarting": "yellow",
    "failed": "bold red",
    "lost": "red",
}
_NO_SERVERS = "no server was launched here; agentcall server start MODEL launches one"
_POLL_SECONDS = 0.2


@dataclass(frozen=True, slots=True)
class ServerStartOptions:
    """Options of `agentcall server start`."""

    model: Annotated[
        str,
        typer.Argument(help="A folder, a name on the hub, a name that `plan` knows, or embedded."),
    ]
    flags: Annotated[
        list[str] | None, typer.Argument(metavar="-- FLAGS", help="Arguments for LMDeploy.")
    ] = None
    name: Annotated[
        str | None, typer.Option(help="The server's name. Default: the last part of the model.")
    ] = None
    host: Annotated[
        str,
        typer.Option(help="The address to listen on; 0.0.0.0 is all of them, with an API key."),
    ] = "127.0.0.1"
    port: Annotated[
        int | None,
        typer.Option(help="Default: 23333, for embedded a free one. 0 chooses a free one."),
    ] = None
    api_key: Annotated[
        bool, typer.Option("--api-key", help="Require an API key on this machine too.")
    ] = False
    context: Annotated[
        str | None,
        typer.Option(help="Session length in tokens, such as 32k. Default: the model's own."),
    ] = None
    cache: Annotated[
        float | None, typer.Option(help="--cache-max-entry-count. Default: LMDeploy's 0.8.")
    ] = None
    kv: Annotated[str, typer.Option(help="Key-value cache: 16, int8 or int4.")] = "16"
    tp: Annotated[int, typer.Option(help="Number of GPUs that share the model.")] = 1
    backend: Annotated[
        str | None, typer.Option(help="turbomind or pytorch. Default: LMDeploy's choice.")
    ] = None
    chat_template: Annotated[
        str,
        typer.Option(help="auto (one that knows tools if the model's does not), none, or a file."),
    ] = "auto"
    lmdeploy: LMDeployOption = None
    patience: Annotated[float, typer.Option(help="Seconds to wait until it is ready.")] = 3600.0
    no_wait: Annotated[bool, typer.Option("--no-wait", help="Do not wait until it is ready.")] = (
        False
    )
    json: JSONOption = False


@dataclass(frozen=True, slots=True)
class ServerStopOptions:
    """Options of `agentcall server stop`."""

    name: ServerNameArgument = None
    all: Annotated[bool, typer.Option("--all", help="Stop all servers that run.")] = False


@dataclass(frozen=True, slots=True)
class ServerStatusOptions:
    """Options of `agentcall server status`."""

    name: ServerNameArgument = None
    json: JSONOption = False


@dataclass(frozen=True, slots=True)
class ServerLogsOptions:
    """Options of `agentcall server logs`."""

    name: ServerNameArgument = None
    follow: Annotated[
        bool, typer.Option("-f", "--follow", help="Print new lines as they are written.")
    ] = False
    lines: Annotated[
        int, typer.Option("-n", "--lines", min=0, help="Number of last lines to print.")
    ] = 50


def start_server(options: ServerStartOptions) -> None:
    """Launch a server, wait, and print what to do next. Raises ServerError."""
    launch, progress = make_launch(options), make_progress()
    if launch == make_launch(ServerStartOptions(options.model)):
        launch = find_previous_launch(options.model) or launch
    known = find_entry(launch.name or launch.default_name)
    if known is None or not known.is_up:  # its own memory would count as used by others
        _warn_if_too_large(launch)
    launched = launch_server(launch, progress)
    if not options.no_wait:
        wait_for_server(launched, progress)
    if options.json:
        write_json(server_to_json(launched.entry), indent=True)
    else:
        sys.stdout.write(_describe_start(launched))


def make_launch(options: ServerStartOptions) -> Launch:
    """Return the launch that the options describe. Raises BadValue."""
    launch = Launch(options.model)
    default_port = LMDEPLOY_PORT if launch.kind == "lmdeploy" else 0
    return replace(
        launch,
        name=options.name or "",
        host=options.host,
        port=default_port if options.port is None else options.port,
        protected=options.api_key,
        backend=options.backend or "",
        cache=options.cache,
        context=parse_count(options.context) if options.context else None,
        kv_bits=parse_kv_bits(options.kv),
        tp=options.tp,
        template=options.chat_template,
        lmdeploy=options.lmdeploy,
        patience=options.patience,
        flags=tuple(options.flags or ()),
    )


def _describe_start(launched: LaunchedServer) -> str:
    """Return the state of the server, and the next commands."""
    entry = launched.entry
    wanted, model = entry.wanted, make_shorthand(entry)
    if wanted is None:
        return ""
    state = "is" if launched.is_new else "was up already and is"
    lines = [f"{entry.name} {state} {get_phase(entry)} at {wanted.root}/v1"]
    if wanted.has_key:
        lines.append(f"its API key is in {entry.key_file}, which only you can read")
        lines.append("programs on this machine that use agentcall find it by themselves")
    if not is_loopback(wanted.host):
        lines.append(f"other machines reach it at port {wanted.port}, with AGENTCALL_API_KEY set")
    commands = (
        f'agentcall run -m {model} "What is (3+5)*2?" -t calculator',
        f"agentcall server smoke {entry.name}",
        f"agentcall server logs -f {entry.name}",
        f"agentcall server stop {entry.name}",
    )
    lines += [style_text(f"  {command}", "dim", sys.stdout) for command in commands]
    return "\n".join(lines) + "\n"


def _warn_if_too_large(launch: Launch) -> None:
    """Warn before anything is loaded that the model does not fit, if that can be computed."""
    try:
        gpu: GPUMemory = read_smallest_gpu(launch.tp)
        if launch.kind == "lmdeploy" and not plan_memory(make_plan_request(launch, gpu)).fits:
            print_warning(f"by the plan it does not fit: {suggest_launch(launch, gpu)}")
    except ServerError:
        return


def stop_servers(options: ServerStopOptions) -> None:
    """Stop the named server, the only one, or all. Raises ServerNotRunning and UsageError."""
    if options.all and options.name:
        raise UsageError("give a name or --all, not both")
    running = [entry for entry in list_entries() if entry.is_up or entry.orphan]
    if options.name:
        running = [get_server(options.name)]
    elif not options.all:
        running = [choose_only_server(running)]
    for entry in running:
        stop_server(entry)
        sys.stdout.write(f"{entry.name} is stopped\n")


def print_status(options: ServerStatusOptions) -> int:
    """Print the servers; return 1 if the named one is not ready."""
    entries = [get_server(options.name)] if options.name else list_entries()
    if options.json:
        documents = [server_to_json(entry) for entry in entries]
        write_json(documents[0] if options.name else documents, indent=True)
    elif entries:
        _print_table(entries)
    else:
        sys.stdout.write(f"{_NO_SERVERS}\n")
    return 1 if options.name and not entries[0].is_ready else 0


def print_log(options: ServerLogsOptions) -> None:
    """Print the end of the log; with --follow, continue until the server ends.

    Raises ServerNotRunning.
    """
    if options.name:
        entry = get_server(options.name)
    else:
        entries = list_entries()
        entry = choose_only_server([entry for entry in entries if entry.is_up] or entries)
    if not entry.log.exists():
        raise ServerNotRunning(f"{entry.name} has written no log yet")

    def print_line(line: str) -> None:
        sys.stdout.write(strip_control_characters(line) + "\n")
        sys.stdout.flush()

    def wait_and_check() -> bool:
        time.sleep(_POLL_SECONDS)
        return entry.is_up

    for line in read_tail(entry.log, options.lines):
        print_line(line)
    if options.follow:
        for line in follow(entry.log, wait_and_check):
            print_line(line)


def get_server(name: str) -> ServerEntry:
    """Return the server of this name. Raises ServerNotRunning, listing the known servers."""
    entry = find_entry(name.removeprefix("lmdeploy:"))
    if entry is None:
        known = ", ".join(entry.name for entry in list_entries())
        raise ServerNotRunning(
            f"there is no server {name!r}; these are known: {known}" if known else _NO_SERVERS
        )
    return entry


def choose_only_server(running: list[ServerEntry]) -> ServerEntry:
    """Return the only server. Raises ServerNotRunning, and UsageError if there are several."""
    if not running:
        raise ServerNotRunning("no server that was launched here is running")
    if len(running) > 1:
        known = ", ".join(entry.name for entry in running)
        raise UsageError(f"{len(running)} servers are running; name one: {known}")
    return running[0]


def server_to_json(entry: ServerEntry) -> dict[str, object]:
    """Return a server as JSON; times are seconds since 1970, the key is given by its file only."""
    wanted, status = entry.wanted, entry.status
    server = status.server if status and entry.is_up else None
    return {
        "name": entry.name,
        "phase": get_phase(entry),
        "model": make_shorthand(entry),
        "served": status.model if status else "",
        "url": f"{wanted.root}/v1" if wanted else None,
        "port": wanted.port if wanted else None,
        "key_file": str(entry.key_file) if wanted and wanted.has_key else None,
        "pid": server.pid if server else None,
        "supervisor": status.supervisor.pid if status and entry.is_up else None,
        "since": status.since if status else None,
        "restarts": status.restarts if status else 0,
        "diagnosis": str(status.diagnosis) if status and status.diagnosis else None,
        "log": str(entry.log),
    }


def get_phase(entry: ServerEntry) -> str:
    """Return its state; `lost` if its supervisor was killed or the machine restarted."""
    status = entry.status
    if status is None:
        return "lost"
    is_over = status.phase in ("stopped", "failed")
    return status.phase if entry.is_up or is_over else "lost"


def make_shorthand(entry: ServerEntry) -> str:
    """Return what `agentcall run -m` and `Agent` take for this server."""
    wanted, launch = entry.wanted, entry.launch
    if wanted is not None and wanted.kind == "embedded" and launch is not None:
        return launch.model
    return f"lmdeploy:{entry.name}"


def _print_table(entries: list[ServerEntry]) -> None:
    console = Console(highlight=False)
    table = make_table(
        Column("name", overflow="fold"),
        Column("state", overflow="fold", no_wrap=True),
        Column("for", overflow="fold", no_wrap=True),
        Column("model", overflow="fold"),
        Column("address", no_wrap=True),
        Column("pid", no_wrap=True, justify="right"),
        Column("restarts", no_wrap=True, justify="right"),
    )
    for entry in entries:
        table.add_row(*_format_row(entry))
    console.print(table)
    for entry in entries:
        if problem := _describe_problem(entry):
            line = Text(f"{entry.name} ", "bold") + Text(to_single_line(problem))
            console.print(line, soft_wrap=True)


def _format_row(entry: ServerEntry) -> list[str | Text]:
    document, phase = server_to_json(entry), get_phase(entry)
    since = document["since"]
    return [
        entry.name,
        Text(phase, _PHASE_STYLES.get(phase, "dim")),
        format_uptime(time.time() - since) if isinstance(since, float) else "",
        str(document["served"]).rstrip("/").rpartition("/")[2],
        str(document["url"] or "").partition("//")[2].removesuffix("/v1"),
        str(document["pid"] or ""),
        str(document["restarts"] or ""),
    ]


def _describe_problem(entry: ServerEntry) -> str:
    """Return why a server is not ready, and what to do; "" if it is."""
    status, phase = entry.status, get_phase(entry)
    if entry.orphan:
        return f"runs without a supervisor; agentcall server stop {entry.name} stops it"
    if phase == "lost":
        return f"was not stopped properly (a reboot?); agentcall server start {entry.name} again"
    if status and status.diagnosis and phase in ("failed", "restarting"):
        return f"{status.diagnosis}; log: {entry.log}"
    if status and phase == "starting" and "%" in status.progress:
        return status.progress
    if phase == "ready" and not entry.endpoint.is_answering:
        return f"does not answer at the moment; agentcall server logs {entry.name}"
    return ""


def format_uptime(seconds: float) -> str:
    """Return a duration in its two largest units.

    >>> format_uptime(3700)
    '1 h 1 min'
    """
    whole = max(0, int(seconds))
    parts = (
        (whole // 86400, "d"),
        (whole % 86400 // 3600, "h"),
        (whole % 3600 // 60, "min"),
        (whole % 60, "s"),
    )
    first = next((index for index, (count, _) in enumerate(parts) if count), 3)
    return " ".join(f"{count} {unit}" for count, unit in parts[first : first + 2] if count) or "0 s"


start_app = make_app(ServerStartOptions, start_server, START_HELP)
stop_app = make_app(ServerStopOptions, stop_servers, STOP_HELP)
status_app = make_app(ServerStatusOptions, print_status, STATUS_HELP)
logs_app = make_app(ServerLogsOptions, print_log, LOGS_HELP)
