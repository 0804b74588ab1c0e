"""What a server says, from its log."""

from __future__ import annotations

import sys
import time

from agentcall.cli.launches import LogsOptions
from agentcall.cli.standing import named, the_only
from agentcall.plaintext import harmless
from agentcall_server.errors import NotUp
from agentcall_server.ledger import Entry, entries
from agentcall_server.logbook import follow, tail

_PAUSE = 0.2


def show_log(options: LogsOptions) -> None:
    """Prints its end, and goes on if asked to, until the server has ended. Raises NotUp."""
    one = named(options.name) if options.name else _meant()
    if not one.log.exists():
        raise NotUp(f"{one.name} has said nothing yet")
    for line in tail(one.log, options.lines):
        _print(line)
    if options.follow:
        for line in follow(one.log, lambda: _goes_on(one)):
            _print(line)


def _meant() -> Entry:
    """The one that runs, or else the only one there is."""
    known = entries()
    return the_only([one for one in known if one.is_up] or known)


def _goes_on(one: Entry) -> bool:
    time.sleep(_PAUSE)
    return one.is_up


def _print(line: str) -> None:
    sys.stdout.write(harmless(line) + "\n")
    sys.stdout.flush()
