"""How the servers are that were launched here, as a table or as JSON; and stopping them."""

from __future__ import annotations

import sys
import time

import orjson
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from agentcall.cli.launches import ServerStatusOptions, ServerStopOptions
from agentcall.cli.starting import get_phase, server_to_json
from agentcall.display import to_single_line
from agentcall.errors import UsageError
from agentcall_server.errors import ServerNotRunning
from agentcall_server.launcher import stop_server
from agentcall_server.server_registry import ServerEntry, find_entry, list_entries

_PHASE_STYLES = {
    "ready": "green",
    "starting": "yellow",
    "restarting": "yellow",
    "failed": "bold red",
    "lost": "red",
}
_NO_SERVERS = "no server was launched here; agentcall server start MODEL launches one"


def stop_servers(options: ServerStopOptions) -> None:
    """Stops what is meant. Raises NotUp, UsageError."""
    if options.all and options.name:
        raise UsageError("give a name or --all, not both")
    running = [one for one in list_entries() if one.is_up or one.orphan]
    if options.all:
        chosen = running
    elif options.name:
        chosen = [get_server(options.name)]
    else:
        chosen = [choose_only_server(running)]
    for one in chosen:
        stop_server(one)
        sys.stdout.write(f"{one.name} is stopped\n")


def print_status(options: ServerStatusOptions) -> bool:
    """Prints it; whether the one that was named is ready."""
    shown = [get_server(options.name)] if options.name else list_entries()
    if options.json:
        found = [server_to_json(one) for one in shown]
        document = found[0] if options.name else found
        sys.stdout.buffer.write(orjson.dumps(document, option=orjson.OPT_INDENT_2) + b"\n")
    elif shown:
        _print_table(shown)
    else:
        sys.stdout.write(f"{_NO_SERVERS}\n")
    return not options.name or shown[0].is_ready


def get_server(name: str) -> ServerEntry:
    """The server of that name. Raises NotUp, listing those that there are."""
    found = find_entry(name.removeprefix("lmdeploy:"))
    if found is None:
        known = ", ".join(one.name for one in list_entries())
        raise ServerNotRunning(
            f"there is no server {name!r}; there is: {known}" if known else _NO_SERVERS
        )
    return found


def choose_only_server(running: list[ServerEntry]) -> ServerEntry:
    """The one that is meant where none was named. Raises NotUp, UsageError."""
    if not running:
        raise ServerNotRunning("no server that was launched here runs")
    if len(running) > 1:
        known = ", ".join(one.name for one in running)
        raise UsageError(f"{len(running)} servers run; name one: {known}")
    return running[0]


def _print_table(shown: list[ServerEntry]) -> None:
    console = Console(highlight=False)
    table = Table(box=box.SIMPLE_HEAD, header_style="dim", pad_edge=False)
    for name in ("name", "is", "for", "model"):
        table.add_column(name, overflow="fold", no_wrap=name in ("is", "for"))
    for name in ("address", "pid", "restarts"):
        table.add_column(name, no_wrap=True, justify="left" if name == "address" else "right")
    for one in shown:
        table.add_row(*_format_row(one))
    console.print(table)
    for one in shown:
        _print_problem(console, one)


def _format_row(one: ServerEntry) -> list[str | Text]:
    found, now = server_to_json(one), get_phase(one)
    since = found["since"]
    age = format_uptime(time.time() - since) if isinstance(since, float) else ""
    return [
        one.name,
        Text(now, _PHASE_STYLES.get(now, "dim")),
        age,
        str(found["served"]).rstrip("/").rpartition("/")[2],
        str(found["url"] or "").partition("//")[2].removesuffix("/v1"),
        str(found["pid"] or ""),
        str(found["restarts"] or ""),
    ]


def _print_problem(console: Console, one: ServerEntry) -> None:
    """Why it is not ready, and what to do."""
    status, now = one.status, get_phase(one)
    if one.orphan:
        words = f"runs on without a supervisor; agentcall server stop {one.name} ends it"
    elif now == "lost":
        words = f"was not stopped in order (a restart?); agentcall server start {one.name} again"
    elif status and status.diagnosis and now in ("failed", "restarting"):
        words = f"{status.diagnosis}; log: {one.log}"
    elif status and now == "starting" and "%" in status.progress:
        words = status.progress
    elif now == "ready" and not one.endpoint.is_answering:
        words = f"does not answer just now; agentcall server logs {one.name}"
    else:
        return
    console.print(Text(f"{one.name} ", "bold") + Text(to_single_line(words)), soft_wrap=True)


def format_uptime(seconds: float) -> str:
    """A length of time in its two largest units.

    >>> lasted(3700)
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
