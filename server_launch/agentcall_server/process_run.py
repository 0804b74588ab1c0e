"""One life of a server: its process group, and the thread that writes down what it says.

A program in a process group of its own, so that all it starts ends with it.
"""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from agentcall_server.diagnosis import EndReason, ExitInfo
from agentcall_server.downloader import make_child_environment, make_program_environment
from agentcall_server.log_file import LogFile
from agentcall_server.process_identity import ProcessIdentity, identify_process
from agentcall_server.server_registry import Wanted

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


class ProcessRun:
    """A server that was started now."""

    def __init__(self, wanted: Wanted, log: LogFile) -> None:
        self._log = log
        self.last_line = ""
        """What it said last, as a person would see it."""
        self._process = start_group(
            wanted.command, environment=_make_environment(wanted), folder=Path(wanted.folder)
        )
        words = " ".join(wanted.command)
        now = time.strftime("%Y-%m-%d %H:%M:%S")
        log.start_run(f"--- {now} pid {self._process.pid}: {words}")
        self._output_thread = threading.Thread(
            target=self._copy_output, args=(self._process,), daemon=True
        )
        self._output_thread.start()

    @property
    def identity(self) -> ProcessIdentity | None:
        """Its process, while it runs."""
        return identify_process(self._process.pid)

    @property
    def has_exited(self) -> bool:
        """Whether it has ended by itself."""
        return self._process.poll() is not None

    def stop(self, reason: EndReason = "", engine_error: str = "") -> ExitInfo:
        """End it with all that it started, if it has not ended; how it ended."""
        end_group(self._process)
        self._output_thread.join(timeout=5.0)
        return ExitInfo(self._process.returncode, tuple(self._log.lines), reason, engine_error)

    def _copy_output(self, process: subprocess.Popen[bytes]) -> None:
        if process.stdout is None:
            return
        with process.stdout as stream:
            while data := os.read(stream.fileno(), 1 << 16):
                self.last_line = self._log.write(data) or self.last_line


def _make_environment(wanted: Wanted) -> dict[str, str]:
    """What the server finds: our package if it is ours, and never the key for other servers."""
    base = make_child_environment() if wanted.kind == "embedded" else make_program_environment()
    kept = {name: value for name, value in base.items() if name != "AGENTCALL_API_KEY"}
    return {**kept, "PYTHONUNBUFFERED": "1"}
