"""A program that runs a command and kills every process that the command leaves behind.

Its arguments are the program's path and the program's whole argv. It is a subreaper (Linux), so
that it adopts processes whose parents have ended. It kills all descendants when the command ends or
on SIGTERM, and exits with the command's exit code. It imports only the standard library.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time

_SUBREAPER = 36  # PR_SET_CHILD_SUBREAPER
_MAX_KILL_SECONDS = 5.0
CANNOT_RUN_CODE = 126
"""The exit code if the program cannot be run."""


def _read_parents() -> dict[int, int]:
    """Return the parent of each process, by pid."""
    parents: dict[int, int] = {}
    for entry in os.scandir("/proc"):
        if not entry.name.isdecimal():
            continue
        try:
            with open(f"{entry.path}/stat", "rb") as file:  # noqa: PTH123 - pathlib imports slowly
                parents[int(entry.name)] = int(file.read().rpartition(b")")[2].split()[1])
        except (OSError, IndexError, ValueError):
            continue
    return parents


def _find_descendants() -> set[int]:
    parents, pids = _read_parents(), {os.getpid()}
    while more := {pid for pid, parent in parents.items() if parent in pids} - pids:
        pids |= more
    return pids - {os.getpid()}


def _kill_all() -> None:
    """Kill descendants until there are none."""
    deadline = time.monotonic() + _MAX_KILL_SECONDS
    while time.monotonic() < deadline:
        for pid in _find_descendants():
            try:
                os.kill(pid, signal.SIGKILL)
            except OSError:
                continue
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            return
        time.sleep(0.002)


def main(arguments: list[str]) -> None:
    """Run the command, and exit as it does."""
    ctypes.CDLL(None).prctl(_SUBREAPER, 1, 0, 0, 0)
    signal.signal(signal.SIGTERM, _handle_sigterm)
    try:
        child = subprocess.Popen(arguments[1:], executable=arguments[0], start_new_session=True)  # noqa: S603 - allowed
    except OSError as error:
        sys.stderr.write(f"{arguments[1]} cannot be run: {error.strerror}\n")
        os._exit(CANNOT_RUN_CODE)
    for number in (0, 1, 2):
        os.close(number)  # so that a reader gets EOF when the command closes it
    code = child.wait()
    _kill_all()
    if code < 0:
        if -code not in (signal.SIGKILL, signal.SIGSTOP):
            signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    os._exit(code if code >= 0 else 128 - code)


def _handle_sigterm(*_: object) -> None:
    _kill_all()
    os._exit(128 + signal.SIGTERM)


if __name__ == "__main__":
    main(sys.argv[1:])
