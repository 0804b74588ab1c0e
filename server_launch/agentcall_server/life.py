"""One life of a server: its process group, and the thread that writes down what it says."""

from __future__ import annotations

import os
import subprocess
import threading
import time
from pathlib import Path

from agentcall_server.courier import child_environment, program_environment
from agentcall_server.diagnosis import Death, Reason
from agentcall_server.identity import Identity, identity_of
from agentcall_server.ledger import Wanted
from agentcall_server.logbook import Logbook
from agentcall_server.process_group import end_group, start_group


class Life:
    """A server that was started now."""

    def __init__(self, wanted: Wanted, book: Logbook) -> None:
        self._book = book
        self.said = ""
        """What it said last, as a person would see it."""
        self._process = start_group(
            wanted.command, environment=_environment(wanted), folder=Path(wanted.folder)
        )
        words = " ".join(wanted.command)
        now = time.strftime("%Y-%m-%d %H:%M:%S")
        book.begin(f"--- {now} pid {self._process.pid}: {words}")
        self._pump = threading.Thread(target=self._write_down, args=(self._process,), daemon=True)
        self._pump.start()

    @property
    def identity(self) -> Identity | None:
        """Its process, while it runs."""
        return identity_of(self._process.pid)

    @property
    def is_over(self) -> bool:
        """Whether it has ended by itself."""
        return self._process.poll() is not None

    def end(self, reason: Reason = "", complaint: str = "") -> Death:
        """End it with all that it started, if it has not ended; how it ended."""
        end_group(self._process)
        self._pump.join(timeout=5.0)
        return Death(self._process.returncode, tuple(self._book.lines), reason, complaint)

    def _write_down(self, process: subprocess.Popen[bytes]) -> None:
        if process.stdout is None:
            return
        with process.stdout as stream:
            while data := os.read(stream.fileno(), 1 << 16):
                self.said = self._book.write(data) or self.said


def _environment(wanted: Wanted) -> dict[str, str]:
    """What the server finds: our package if it is ours, and never the key for other servers."""
    base = child_environment() if wanted.kind == "embedded" else program_environment()
    kept = {name: value for name, value in base.items() if name != "AGENTCALL_API_KEY"}
    return {**kept, "PYTHONUNBUFFERED": "1"}
