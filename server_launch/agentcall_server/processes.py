"""Child processes: their environment, their process group, and whether a process still runs.

A process ID is used again after the process has ended and after a reboot. A process is therefore
identified by its ID, its start time and the boot in which it was started.

A child ends when its parent does, even if the parent is killed: the parent holds the write end of
the child's standard input and never writes, so the child reads the end of the file when the system
closes it. A process forked from the parent may hold a copy of that end, so the child also watches
whether it has been handed over to another parent.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

SIGKILL = getattr(signal, "SIGKILL", signal.SIGTERM)  # Windows has one way to end a process
GRACE_SECONDS = 10.0
"""Seconds that a process group has to end after SIGTERM."""
_PACKAGE_ROOT = str(Path(__file__).resolve().parents[1])
_PROC = Path("/proc")


@dataclass(frozen=True, slots=True)
class ProcessIdentity:
    """One process; `started` and `boot` are the system's own text, used for comparison only."""

    pid: int
    started: str
    boot: str

    @property
    def is_alive(self) -> bool:
        """Whether this very process still runs."""
        return identify_process(self.pid) == self


def identify_process(pid: int) -> ProcessIdentity | None:
    """Return the process that has this ID now; None if there is none, or if it has ended."""
    has_proc = (_PROC / "self" / "stat").exists()
    started = _read_start_from_proc(pid) if has_proc else _read_start_from_ps(pid)
    try:
        boot = (_PROC / "sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        boot = ""
    return ProcessIdentity(pid, started, boot) if started else None


def _read_start_from_proc(pid: int) -> str:
    """Return clock ticks from the boot to the start (proc(5), field 22 of stat)."""
    try:
        text = (_PROC / str(pid) / "stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    # the second field is a name in parentheses that may contain anything
    fields = text.rpartition(")")[2].split()
    return "" if fields[0] in "ZX" else fields[19]


def _read_start_from_ps(pid: int) -> str:
    """Return the date of the start, on systems without /proc."""
    command = ["ps", "-o", "stat=,lstart=", "-p", str(pid)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - ps
    state, _, started = result.stdout.strip().partition(" ")
    return "" if state.startswith("Z") else started.strip()


def make_child_environment() -> dict[str, str]:
    """Return this environment, changed so that a child imports this package.

    PYTHONSAFEPATH keeps modules of the child's working folder out of its import path.
    """
    path = os.environ.get("PYTHONPATH")
    path = f"{path}{os.pathsep}{_PACKAGE_ROOT}" if path else _PACKAGE_ROOT
    return {**os.environ, "PYTHONPATH": path, "PYTHONSAFEPATH": "1", "PYTHONUNBUFFERED": "1"}


def make_program_environment() -> dict[str, str]:
    """Return this environment without `make_child_environment`'s changes, for other Pythons."""
    environment = dict(os.environ)
    environment.pop("PYTHONSAFEPATH", None)
    paths = environment.pop("PYTHONPATH", "").split(os.pathsep)
    others = [path for path in paths if path != _PACKAGE_ROOT]
    if any(others):
        environment["PYTHONPATH"] = os.pathsep.join(others)
    return environment


def start_group(
    command: Sequence[str], *, environment: dict[str, str], folder: Path
) -> subprocess.Popen[bytes]:
    """Start a command in a process group of its own, so that all it starts can end with it.

    Both its outputs come through one pipe; its input is closed when this process ends.
    """
    return subprocess.Popen(  # noqa: S603  (no shell)
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        cwd=folder,
        env=environment,
        start_new_session=True,
    )


def end_group(process: subprocess.Popen[bytes], grace: float = GRACE_SECONDS) -> None:
    """End a program and all it started: SIGTERM first, SIGKILL after `grace` seconds."""
    signal_group(process.pid, signal.SIGTERM)
    with suppress(subprocess.TimeoutExpired):
        process.wait(grace)
    signal_group(process.pid, SIGKILL)
    process.wait()
    if process.stdin is not None:
        process.stdin.close()


def signal_group(leader: int, number: signal.Signals) -> None:
    """Send a signal to a process group, if any of it is left; on Windows end the leader."""
    with suppress(ProcessLookupError, PermissionError):
        if sys.platform == "win32":
            os.kill(leader, number)
        else:
            os.killpg(leader, number)


def exit_with_parent() -> None:
    """End this process when its parent ends."""
    call_when_parent_ends(lambda: os._exit(0))


def call_when_parent_ends(callback: Callable[[], None]) -> None:
    """Call `callback` in a thread when the parent of this process ends, possibly twice."""

    def watch(wait: Callable[[], None]) -> None:
        try:
            wait()
        finally:
            callback()

    for wait in (_wait_for_input_end, _wait_for_new_parent):
        threading.Thread(target=watch, args=(wait,), name="parent-watch", daemon=True).start()


def _wait_for_input_end() -> None:
    descriptor = sys.__stdin__.fileno() if sys.__stdin__ else 0
    while os.read(descriptor, 1024):
        pass


def _wait_for_new_parent() -> None:
    parent = os.getppid()
    while os.getppid() == parent:
        time.sleep(1.0)
