"""A program in a process group of its own, so that all it starts ends with it."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

GRACE_SECONDS = 10.0
"""Seconds that a server has to end by itself."""


def start_group(
    command: Sequence[str], *, environment: dict[str, str], folder: Path
) -> subprocess.Popen[bytes]:
    """Start it; both its outputs come through one pipe, and its input ends when we do."""
    return subprocess.Popen(  # noqa: S603  (a command of our own making, no shell)
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        cwd=folder,
        env=environment,
        start_new_session=True,
    )


def end_group(process: subprocess.Popen[bytes], grace: float = GRACE_SECONDS) -> None:
    """End the program and all that it started: by SIGTERM, and what then lives by SIGKILL."""
    signal_group(process.pid, signal.SIGTERM)
    with suppress(subprocess.TimeoutExpired):
        process.wait(grace)
    signal_group(process.pid, signal.SIGKILL)
    process.wait()
    if process.stdin is not None:
        process.stdin.close()


def signal_group(leader: int, number: signal.Signals) -> None:
    """Send a signal to a group, if there is anybody left in it."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(leader, number)
