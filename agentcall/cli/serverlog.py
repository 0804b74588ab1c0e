"""What a server says, from its log."""

from __future__ import annotations

import sys
import time

from agentcall.cli.launches import ServerLogsOptions
from agentcall.cli.standing import choose_only_server, get_server
from agentcall.display import strip_control_characters
from agentcall_server.errors import ServerNotRunning
from agentcall_server.log_file import follow, read_tail
from agentcall_server.server_registry import ServerEntry, list_entries

_POLL_SECONDS = 0.2


def print_log(options: ServerLogsOptions) -> None:
    """Prints its end, and goes on if asked to, until the server has ended. Raises NotUp."""
    one = get_server(options.name) if options.name else _choose_server()
    if not one.log.exists():
        raise ServerNotRunning(f"{one.name} has said nothing yet")
    for line in read_tail(one.log, options.lines):
        _print_line(line)
    if options.follow:
        for line in follow(one.log, lambda: _wait_and_check(one)):
            _print_line(line)


def _choose_server() -> ServerEntry:
    """The one that runs, or else the only one there is."""
    known = list_entries()
    return choose_only_server([one for one in known if one.is_up] or known)


def _wait_and_check(one: ServerEntry) -> bool:
    time.sleep(_POLL_SECONDS)
    return one.is_up


def _print_line(line: str) -> None:
    sys.stdout.write(strip_control_characters(line) + "\n")
    sys.stdout.flush()
