"""A state folder of a test's own, with servers in it that are gone when the test is."""

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
    """The ledger of this process and its children, whose servers are stopped at the end."""
    before = os.environ.get("AGENTCALL_STATE")
    os.environ["AGENTCALL_STATE"] = str(folder)
    try:
        yield folder
    finally:
        for one in list_entries():
            status = one.status
            if status is not None and status.supervisor.pid == os.getpid():
                continue  # a supervisor in a thread of the test
            with suppress(ServerNotRunning):
                stop_server(one, timeout=5.0)
        del os.environ["AGENTCALL_STATE"]
        if before is not None:
            os.environ["AGENTCALL_STATE"] = before


def until(truth: Callable[[], object], seconds: float = 60.0) -> None:
    """Waits until it is true."""
    end = time.monotonic() + seconds
    while not truth():
        if time.monotonic() > end:
            raise AssertionError(f"it never came true: {truth}")
        time.sleep(0.05)


def server_of(one: ServerEntry) -> ProcessIdentity:
    """The process of a server that runs."""
    status = one.status
    assert status is not None
    assert status.server is not None
    return status.server
