"""How the servers are that were launched here, as a table or as JSON; and stopping them."""

from __future__ import annotations

import sys
import time

import orjson
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from agentcall.cli.launches import StatusOptions, StopOptions
from agentcall.cli.starting import facts, phase
from agentcall.errors import UsageError
from agentcall.plaintext import line_of
from agentcall_server.errors import NotUp
from agentcall_server.launcher import stop_server
from agentcall_server.ledger import Entry, entries, find

_STYLES = {
    "ready": "green",
    "starting": "yellow",
    "restarting": "yellow",
    "failed": "bold red",
    "lost": "red",
}
_NONE = "no server was launched here; agentcall server start MODEL launches one"


def stop(options: StopOptions) -> None:
    """Stops what is meant. Raises NotUp, UsageError."""
    if options.all and options.name:
        raise UsageError("give a name or --all, not both")
    running = [one for one in entries() if one.is_up or one.stray]
    if options.all:
        chosen = running
    elif options.name:
        chosen = [named(options.name)]
    else:
        chosen = [the_only(running)]
    for one in chosen:
        stop_server(one)
        sys.stdout.write(f"{one.name} is stopped\n")


def show_status(options: StatusOptions) -> bool:
    """Prints it; whether the one that was named is ready."""
    shown = [named(options.name)] if options.name else entries()
    if options.json:
        found = [facts(one) for one in shown]
        document = found[0] if options.name else found
        sys.stdout.buffer.write(orjson.dumps(document, option=orjson.OPT_INDENT_2) + b"\n")
    elif shown:
        _show(shown)
    else:
        sys.stdout.write(f"{_NONE}\n")
    return not options.name or shown[0].is_ready


def named(name: str) -> Entry:
    """The server of that name. Raises NotUp, listing those that there are."""
    found = find(name.removeprefix("lmdeploy:"))
    if found is None:
        known = ", ".join(one.name for one in entries())
        raise NotUp(f"there is no server {name!r}; there is: {known}" if known else _NONE)
    return found


def the_only(running: list[Entry]) -> Entry:
    """The one that is meant where none was named. Raises NotUp, UsageError."""
    if not running:
        raise NotUp("no server that was launched here runs")
    if len(running) > 1:
        known = ", ".join(one.name for one in running)
        raise UsageError(f"{len(running)} servers run; name one: {known}")
    return running[0]


def _show(shown: list[Entry]) -> None:
    console = Console(highlight=False)
    table = Table(box=box.SIMPLE_HEAD, header_style="dim", pad_edge=False)
    for name in ("name", "is", "for", "model"):
        table.add_column(name, overflow="fold", no_wrap=name in ("is", "for"))
    for name in ("address", "pid", "restarts"):
        table.add_column(name, no_wrap=True, justify="left" if name == "address" else "right")
    for one in shown:
        table.add_row(*_row(one))
    console.print(table)
    for one in shown:
        _explain(console, one)


def _row(one: Entry) -> list[str | Text]:
    found, now = facts(one), phase(one)
    since = found["since"]
    age = lasted(time.time() - since) if isinstance(since, float) else ""
    return [
        one.name,
        Text(now, _STYLES.get(now, "dim")),
        age,
        str(found["served"]).rstrip("/").rpartition("/")[2],
        str(found["url"] or "").partition("//")[2].removesuffix("/v1"),
        str(found["pid"] or ""),
        str(found["restarts"] or ""),
    ]


def _explain(console: Console, one: Entry) -> None:
    """Why it is not ready, and what to do."""
    status, now = one.status, phase(one)
    if one.stray:
        words = f"runs on without a supervisor; agentcall server stop {one.name} ends it"
    elif now == "lost":
        words = f"was not stopped in order (a restart?); agentcall server start {one.name} again"
    elif status and status.diagnosis and now in ("failed", "restarting"):
        words = f"{status.diagnosis}; log: {one.log}"
    elif status and now == "starting" and "%" in status.progress:
        words = status.progress
    elif now == "ready" and not one.door.answers:
        words = f"does not answer just now; agentcall server logs {one.name}"
    else:
        return
    console.print(Text(f"{one.name} ", "bold") + Text(line_of(words)), soft_wrap=True)


def lasted(seconds: float) -> str:
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
