"""The program that runs a command and leaves nothing of it: no process, whatever group it is in.

Its words are the program's path and all its words. On Linux it adopts the processes whose parents
have ended, so that none gets away, kills what is left when the command ends or when it is told to
(SIGTERM), and ends as the command did. It needs the standard library alone.
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
"""The exit code where the program cannot be run."""


def _read_parents() -> dict[int, int]:
    """The parent of each process."""
    found: dict[int, int] = {}
    for entry in os.scandir("/proc"):
        if not entry.name.isdecimal():
            continue
        try:
            with open(f"{entry.path}/stat", "rb") as file:  # noqa: PTH123 - pathlib imports slowly
                found[int(entry.name)] = int(file.read().rpartition(b")")[2].split()[1])
        except (OSError, IndexError, ValueError):
            continue
    return found


def _find_descendants() -> set[int]:
    parents, found = _read_parents(), {os.getpid()}
    while more := {pid for pid, parent in parents.items() if parent in found} - found:
        found |= more
    return found - {os.getpid()}


def _kill_all() -> None:
    """Kills every descendant, until there is none."""
    until = time.monotonic() + _MAX_KILL_SECONDS
    while time.monotonic() < until:
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
    """Runs the command, and ends as it does."""
    ctypes.CDLL(None).prctl(_SUBREAPER, 1, 0, 0, 0)
    signal.signal(signal.SIGTERM, _handle_sigterm)
    try:
        child = subprocess.Popen(arguments[1:], executable=arguments[0], start_new_session=True)  # noqa: S603
    except OSError as error:
        sys.stderr.write(f"{arguments[1]} cannot be run: {error.strerror}\n")
        os._exit(CANNOT_RUN_CODE)
    for number in (0, 1, 2):
        os.close(number)  # whoever reads it has the end when the command has closed it
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
