"""Whether a process of this machine is still there: it holds a lock on a file that is its own.

The kernel takes the lock back when the process ends, however it ends; no pid that is used again,
no restart and no other process's clock can be mistaken for it.

A lock on an open file, over processes, which the system takes back when its process ends.

The right to run in a session, for one run at a time, over threads and processes.

It is a lock on a small file beside the session file, which the system takes back when its process
ends, however it ends. Rules:
1. The file is removed by who holds the lock, so whoever gets a lock looks whether the file it has
   locked is still the one of that name.
2. It is given back explicitly: a child that a tool forked has the file open as well.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import secrets
import socket
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from time import monotonic
from weakref import WeakSet

from agentcall.errors import JournalError, SessionBusy
from agentcall.storage.private_files import make_folder, open_private

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl


def try_lock(file: int) -> bool:
    """Locks an open file, if nobody else has it locked; the lock goes when the file is closed."""
    try:
        if sys.platform == "win32":
            msvcrt.locking(file, msvcrt.LK_NBLCK, 1)
        else:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def unlock(file: int) -> None:
    """Gives the lock back, also where a fork has the file open as well."""
    if sys.platform == "win32":
        os.lseek(file, 0, os.SEEK_SET)
        msvcrt.locking(file, msvcrt.LK_UNLCK, 1)
    else:
        fcntl.flock(file, fcntl.LOCK_UN)


_RETRY_PAUSES = (0.005, 0.1)
"""Seconds between two tries: the first, and the longest."""


@asynccontextmanager
async def acquire_session_lock(path: Path, name: str, timeout: float) -> AsyncGenerator[None, None]:
    """Holds the lock; waits for it at most so many seconds. Raises SessionBusy."""
    end, pause = monotonic() + timeout, _RETRY_PAUSES[0]
    while (lock := SessionLock.try_acquire(path)) is None:
        if monotonic() >= end:
            raise SessionBusy(
                f"the session {name!r} is in use by a run of {_describe_holder(path)}; there "
                "is one run at "
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


_owners: WeakSet[LeaseOwner] = WeakSet()


class LeaseOwner:
    """This process; `name` is `host:pid:random`, and its file is beside the one that is given."""

    def __init__(self, base_path: Path) -> None:
        self._base_path = base_path
        self._numbers = itertools.count(1)
        self._active: set[str] = set()
        self.name = f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}"
        path = self._lock_path(self.name)
        try:
            self._file = open_private(path, os.O_CREAT | os.O_EXCL | os.O_RDWR)
        except OSError as error:
            raise JournalError(f"{path} cannot be made: {error.strerror}") from error
        try_lock(self._file)
        _owners.add(self)

    def create_lease(self) -> str:
        """A name for a hold on a run."""
        hold = f"{self.name}:{next(self._numbers)}"
        self._active.add(hold)
        return hold

    def drop_lease(self, lease_id: str) -> None:
        """Forgets a hold."""
        self._active.discard(lease_id)

    def is_lease_alive(self, lease_id: str) -> bool | None:
        """Whether the process of the hold is there; None if its file is not here."""
        name, _, _ = lease_id.rpartition(":")
        if name == self.name:
            return lease_id in self._active
        path = self._lock_path(name)
        try:
            file = os.open(path, os.O_RDWR)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise JournalError(f"{path} cannot be opened: {error.strerror}") from error
        try:
            is_free = try_lock(file)
        finally:
            os.close(file)
        if is_free:
            path.unlink(missing_ok=True)
        return not is_free

    def close(self) -> None:
        """Takes the file away."""
        with suppress(OSError):
            self._lock_path(self.name).unlink(missing_ok=True)
        self.close_file()

    def _lock_path(self, name: str) -> Path:
        _, pid, random = name.rsplit(":", 2)
        return self._base_path.with_name(f"{self._base_path.name}-runner-{pid}-{random}")

    def close_file(self) -> None:
        """Closes the file; the lock stays with whoever else has it open."""
        with suppress(OSError):
            os.close(self._file)
        self._file = -1


def describe_owner(lease_id: str) -> str:
    """The holder in words."""
    host, pid, *_ = lease_id.split(":")
    here = " on this machine" if host == socket.gethostname() else f" on {host}"
    return f"the process {pid}{'' if pid == str(os.getpid()) else here}"


def _close_all_files() -> None:
    for holder in tuple(_owners):
        holder.close_file()


if hasattr(os, "register_at_fork"):  # a fork that outlives us must not seem to be us
    os.register_at_fork(after_in_child=_close_all_files)
