"""Runs a fetching process and ends it when the other side says nothing.

The clock starts when the process says its first line (a Python on a busy machine needs a while
before it asks at all) and stops when the other side has answered; afterwards bytes must keep
arriving.
"""

from __future__ import annotations

import os
import queue
import subprocess
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from agentcall_server.errors import SourceFailed, SourceTimeout
from agentcall_server.model_cache import count_bytes

STARTUP_SECONDS = 60.0
POLL_SECONDS = 0.2


@dataclass(frozen=True, slots=True)
class DownloadTimeouts:
    """Seconds to wait for a source's first answer, and for more bytes once it has answered.

    `later_answer` is what silent sources get when no other source is left.
    """

    answer: float = 5.0
    retry_answer: float = 30.0
    stall: float = 60.0


@dataclass(frozen=True, slots=True)
class DownloadCommand:
    """A command, the folder that grows while it works, and how to tell that it was answered."""

    command: tuple[str, ...]
    folder: Path
    is_answer: Callable[[str], bool]
    environment: Mapping[str, str]


def run_download(
    download: DownloadCommand, timeouts: DownloadTimeouts, stop: threading.Event
) -> list[str]:
    """Run it to its end; its output lines. Raises SourceSilent, or SourceFailed when stopped."""
    process = subprocess.Popen(  # noqa: S603  (a fixed command, no shell)
        download.command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        encoding="utf-8",
        errors="replace",
        env={**make_child_environment(), **download.environment},
        cwd=download.folder,
        start_new_session=True,
    )
    try:
        return _DownloadWatch(download, timeouts, stop).read_lines(process)
    finally:
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                pipe.close()


def make_child_environment() -> dict[str, str]:
    """This environment, so that a child finds this package and nothing of its working folder."""
    root = str(Path(__file__).resolve().parents[1])
    found = os.environ.get("PYTHONPATH")
    path = f"{found}{os.pathsep}{root}" if found else root
    return {**os.environ, "PYTHONPATH": path, "PYTHONSAFEPATH": "1", "PYTHONUNBUFFERED": "1"}


def make_program_environment() -> dict[str, str]:
    """This environment as it was before `child_environment`, for programs of another Python."""
    root = str(Path(__file__).resolve().parents[1])
    paths = [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path != root]
    kept = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "PYTHONSAFEPATH")}
    if any(paths):
        kept["PYTHONPATH"] = os.pathsep.join(paths)
    return kept


class _DownloadWatch:
    """One process being watched: when it last showed a sign of life, and which sign is due."""

    def __init__(
        self, download: DownloadCommand, timeouts: DownloadTimeouts, stop: threading.Event
    ) -> None:
        self._download = download
        self._timeouts = timeouts
        self._stop = stop
        self._clock_start = time.monotonic()
        self._allowed_seconds = STARTUP_SECONDS
        self._has_started = False
        self._has_answered = False
        self._bytes = 0

    def read_lines(self, process: subprocess.Popen[str]) -> list[str]:
        inbox: queue.Queue[str | None] = queue.Queue()
        reader = threading.Thread(target=_read_output, args=(process, inbox), daemon=True)
        reader.start()
        lines: list[str] = []
        while (line := self._next_line(inbox)) is not None:
            lines.append(line)
        reader.join()
        process.wait()
        return lines

    def _next_line(self, inbox: queue.Queue[str | None]) -> str | None:
        while True:
            try:
                line = inbox.get(timeout=POLL_SECONDS)
            except queue.Empty:
                self._check_timeout()
                continue
            if line is not None:
                self._handle_line(line)
            return line

    def _handle_line(self, line: str) -> None:
        if not self._has_started:
            self._has_started = True
            self._restart_clock(self._timeouts.answer)
        if not self._has_answered and self._download.is_answer(line):
            self._has_answered = True
            self._restart_clock(self._timeouts.stall)

    def _check_timeout(self) -> None:
        if self._stop.is_set():
            raise SourceFailed("stopped")
        if self._has_answered and (now := count_bytes(self._download.folder)) != self._bytes:
            self._bytes = now
            self._restart_clock(self._timeouts.stall)
        if time.monotonic() - self._clock_start > self._allowed_seconds:
            what = "no more bytes came" if self._has_answered else "no answer"
            raise SourceTimeout(f"{what} within {self._allowed_seconds:g} s")

    def _restart_clock(self, allowed: float) -> None:
        self._clock_start, self._allowed_seconds = time.monotonic(), allowed


def _read_output(process: subprocess.Popen[str], inbox: queue.Queue[str | None]) -> None:
    if process.stdout is not None:
        for line in process.stdout:
            inbox.put(line.rstrip("\n"))
    inbox.put(None)
