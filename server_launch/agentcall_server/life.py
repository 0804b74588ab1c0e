"""One life of a server: its process group, and the thread that writes down what it says."""

from __future__ import annotations

import os
import subprocess
import threading
import time
from pathlib import Path

from agentcall_server.courier import make_child_environment, make_program_environment
from agentcall_server.diagnosis import EndReason, ExitInfo
from agentcall_server.identity import ProcessIdentity, identify_process
from agentcall_server.ledger import Wanted
from agentcall_server.logbook import LogFile
from agentcall_server.process_group import end_group, start_group


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
