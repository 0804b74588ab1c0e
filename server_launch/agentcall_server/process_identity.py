"""Which process a number means: ids are given out again, after an end and after a reboot.

A process is told apart by its id, when it started, and the boot in which it did.
"""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

_PROC = Path("/proc")


@dataclass(frozen=True, slots=True)
class ProcessIdentity:
    """One process; `started` and `boot` are whatever the system tells, to be compared only."""

    pid: int
    started: str
    boot: str

    @property
    def is_alive(self) -> bool:
        """Whether this very process runs."""
        return identify_process(self.pid) == self


def identify_process(pid: int) -> ProcessIdentity | None:
    """The process that has this id now; None if there is none, or one that has ended."""
    started = (
        _read_start_from_proc(pid)
        if (_PROC / "self" / "stat").exists()
        else _read_start_from_ps(pid)
    )
    return ProcessIdentity(pid, started, _read_boot_id()) if started else None


def _read_start_from_proc(pid: int) -> str:
    """Clock ticks from the boot to its start (proc(5), field 22 of stat)."""
    try:
        text = (_PROC / str(pid) / "stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    # the second field is a name in brackets that may hold anything
    fields = text.rpartition(")")[2].split()
    return "" if fields[0] in "ZX" else fields[19]


def _read_start_from_ps(pid: int) -> str:
    """The date of its start, where there is no /proc."""
    command = ["ps", "-o", "stat=,lstart=", "-p", str(pid)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    state, _, started = done.stdout.strip().partition(" ")
    return "" if state.startswith("Z") else started.strip()


def _read_boot_id() -> str:
    try:
        return (_PROC / "sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return ""
