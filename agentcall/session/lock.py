"""The right to run in a session, for one run at a time, over threads and processes.

It is a lock on a small file beside the session file, which the system takes back when its process
ends, however it ends. Rules:
1. The file is removed by who holds the lock, so whoever gets a lock looks whether the file it has
   locked is still the one of that name.
2. It is given back explicitly: a child that a tool forked has the file open as well.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from time import monotonic

from agentcall.errors import SessionBusy
from agentcall.filelock import try_lock, unlock
from agentcall.privatefiles import make_folder, open_private

_RETRY_PAUSES = (0.005, 0.1)
"""Seconds between two tries: the first, and the longest."""


@asynccontextmanager
async def acquire_session_lock(path: Path, name: str, timeout: float) -> AsyncGenerator[None, None]:
    """Holds the lock; waits for it at most so many seconds. Raises SessionBusy."""
    end, pause = monotonic() + timeout, _RETRY_PAUSES[0]
    while (lock := SessionLock.try_acquire(path)) is None:
        if monotonic() >= end:
            raise SessionBusy(
                f"the session {name!r} is in use by a run of {_describe_holder(path)}; there is one run at "
                f"a time in a session, and this one waited {timeout:g} seconds for its turn"
            )
        await asyncio.sleep(min(pause, max(end - monotonic(), 0)))
        pause = min(pause * 2, _RETRY_PAUSES[1])
    try:
        yield
    finally:
        lock.release()


class SessionLock:
    """A lock that is held."""

    def __init__(self, path: Path, file: int) -> None:
        self._path = path
        self._file = file

    @classmethod
    def try_acquire(cls, path: Path) -> SessionLock | None:
        """The lock, if nobody holds it."""
        make_folder(path.parent)
        while True:
            file = open_private(path, os.O_RDWR | os.O_CREAT)
            if not try_lock(file):
                os.close(file)
                return None
            if _is_same_file(path, file):
                os.truncate(file, 0)
                os.write(file, str(os.getpid()).encode())
                return cls(path, file)
            os.close(file)

    def release(self) -> None:
        """Gives it back."""
        with suppress(OSError):
            self._path.unlink()
        unlock(self._file)
        os.close(self._file)


def _is_same_file(path: Path, file: int) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(file))
    except FileNotFoundError:
        return False


def _describe_holder(path: Path) -> str:
    with suppress(OSError):
        process = path.read_text(encoding="ascii", errors="replace").strip()
        if process:
            mine = " (this one)" if process == str(os.getpid()) else ""
            return f"process {process}{mine}"
    return "another process"
