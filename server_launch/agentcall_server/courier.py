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

from agentcall_server.errors import SourceFailed, SourceSilent
from agentcall_server.store import bytes_under

START_UP = 60.0
TICK = 0.2


@dataclass(frozen=True, slots=True)
class Patience:
    """Seconds to wait for a source's first answer, and for more bytes once it has answered.

    `later_answer` is what silent sources get when no other source is left.
    """

    answer: float = 5.0
    later_answer: float = 30.0
    stall: float = 60.0


@dataclass(frozen=True, slots=True)
class Errand:
    """A command, the folder that grows while it works, and how to tell that it was answered."""

    command: tuple[str, ...]
    folder: Path
    answered: Callable[[str], bool]
    environment: Mapping[str, str]


def send(errand: Errand, patience: Patience, stop: threading.Event) -> list[str]:
    """Run it to its end; its output lines. Raises SourceSilent, or SourceFailed when stopped."""
    process = subprocess.Popen(  # noqa: S603  (a fixed command, no shell)
        errand.command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        encoding="utf-8",
        errors="replace",
        env={**child_environment(), **errand.environment},
        cwd=errand.folder,
        start_new_session=True,
    )
    try:
        return _Watch(errand, patience, stop).lines(process)
    finally:
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                pipe.close()


def child_environment() -> dict[str, str]:
    """This environment, so that a child finds this package and nothing of its working folder."""
    root = str(Path(__file__).resolve().parents[1])
    found = os.environ.get("PYTHONPATH")
    path = f"{found}{os.pathsep}{root}" if found else root
    return {**os.environ, "PYTHONPATH": path, "PYTHONSAFEPATH": "1", "PYTHONUNBUFFERED": "1"}


def program_environment() -> dict[str, str]:
    """This environment as it was before `child_environment`, for programs of another Python."""
    root = str(Path(__file__).resolve().parents[1])
    paths = [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path != root]
    kept = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "PYTHONSAFEPATH")}
    if any(paths):
        kept["PYTHONPATH"] = os.pathsep.join(paths)
    return kept


class _Watch:
    """One process being watched: when it last showed a sign of life, and which sign is due."""

    def __init__(self, errand: Errand, patience: Patience, stop: threading.Event) -> None:
        self._errand = errand
        self._patience = patience
        self._stop = stop
        self._since = time.monotonic()
        self._allowed = START_UP
        self._asking = False
        self._answered = False
        self._bytes = 0

    def lines(self, process: subprocess.Popen[str]) -> list[str]:
        inbox: queue.Queue[str | None] = queue.Queue()
        reader = threading.Thread(target=_read, args=(process, inbox), daemon=True)
        reader.start()
        lines: list[str] = []
        while (line := self._next(inbox)) is not None:
            lines.append(line)
        reader.join()
        process.wait()
        return lines

    def _next(self, inbox: queue.Queue[str | None]) -> str | None:
        while True:
            try:
                line = inbox.get(timeout=TICK)
            except queue.Empty:
                self._check()
                continue
            if line is not None:
                self._heard(line)
            return line

    def _heard(self, line: str) -> None:
        if not self._asking:
            self._asking = True
            self._expect(self._patience.answer)
        if not self._answered and self._errand.answered(line):
            self._answered = True
            self._expect(self._patience.stall)

    def _check(self) -> None:
        if self._stop.is_set():
            raise SourceFailed("stopped")
        if self._answered and (now := bytes_under(self._errand.folder)) != self._bytes:
            self._bytes = now
            self._expect(self._patience.stall)
        if time.monotonic() - self._since > self._allowed:
            what = "no more bytes came" if self._answered else "no answer"
            raise SourceSilent(f"{what} within {self._allowed:g} s")

    def _expect(self, allowed: float) -> None:
        self._since, self._allowed = time.monotonic(), allowed


def _read(process: subprocess.Popen[str], inbox: queue.Queue[str | None]) -> None:
    if process.stdout is not None:
        for line in process.stdout:
            inbox.put(line.rstrip("\n"))
    inbox.put(None)
