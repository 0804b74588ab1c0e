"""A state folder for one test, whose servers are stopped when the test ends."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from pathlib import Path

from agentcall_server.errors import ServerNotRunning
from agentcall_server.launcher import stop_server
from agentcall_server.processes import ProcessIdentity
from agentcall_server.server_registry import ServerEntry, list_entries


@contextmanager
def state_in(folder: Path) -> Generator[Path, None, None]:
    """Use a state folder in this process and its children; stop its servers at the end."""
    before = os.environ.get("AGENTCALL_STATE")
    os.environ["AGENTCALL_STATE"] = str(folder)
    try:
        yield folder
    finally:
        for entry in list_entries():
            status = entry.status
            if status is not None and status.supervisor.pid == os.getpid():
                continue  # a supervisor in a thread of the test
            with suppress(ServerNotRunning):
                stop_server(entry, timeout=5.0)
        del os.environ["AGENTCALL_STATE"]
        if before is not None:
            os.environ["AGENTCALL_STATE"] = before


def until(truth: Callable[[], object], seconds: float = 60.0) -> None:
    """Wait until `truth` returns a true value."""
    end = time.monotonic() + seconds
    while not truth():
        if time.monotonic() > end:
            raise AssertionError(f"still false after {seconds:g} s: {truth}")
        time.sleep(0.05)


def server_of(entry: ServerEntry) -> ProcessIdentity:
    """Return the process of a running server."""
    status = entry.status
    assert status is not None
    assert status.server is not None
    return status.server
