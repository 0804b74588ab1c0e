"""Locks on files, and the leases that rest on them.

The kernel releases a lock when the process that holds it ends, however it ends. A reused process
id, a restart or a wrong clock cannot make a dead process look alive.
"""

from __future__ import annotations

import itertools
import os
import secrets
import socket
import sys
from contextlib import suppress
from pathlib import Path
from time import time
from weakref import WeakSet

from agentcall.errors import JournalError
from agentcall.storage.private_files import open_private

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl


_LOCKED_BYTE = 2**30
"""Where Windows locks a byte, which other processes cannot read: far behind the content."""


def try_lock(file: int) -> bool:
    """Lock an open file unless it is locked already. Closing the file releases the lock."""
    try:
        if sys.platform == "win32":
            position = os.lseek(file, 0, os.SEEK_CUR)
            os.lseek(file, _LOCKED_BYTE, os.SEEK_SET)
            try:
                msvcrt.locking(file, msvcrt.LK_NBLCK, 1)
            finally:
                os.lseek(file, position, os.SEEK_SET)
        else:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


class FileLock:
    """An exclusive lock on a file of its own, which contains the id of the process that holds it.

    A forked child does not hold the locks of its parent.
    """

    def __init__(self, path: Path, file: int) -> None:
        self._path = path
        self._file = file
        _held_locks.add(self)

    @classmethod
    def try_acquire(cls, path: Path, *, create: bool = True) -> FileLock | None:
        """Return the lock, or None if another thread or process holds it.

        Raises OSError, and FileNotFoundError if the file is missing and `create` is false.
        """
        while True:
            file = open_private(path, os.O_RDWR | (os.O_CREAT if create else 0))
            if not try_lock(file):
                os.close(file)
                return None
            if _is_same_file(path, file):
                os.truncate(file, 0)
                os.write(file, str(os.getpid()).encode())
                return cls(path, file)
            os.close(file)  # the holder before removed the file after we had opened it

    def release(self) -> None:
        """Remove the file and release the lock."""
        if self._file < 0:
            return
        if sys.platform == "win32":  # an open file cannot be removed there
            self.close_file()
            with suppress(OSError):
                self._path.unlink()
            return
        with suppress(OSError):
            self._path.unlink()
        with suppress(OSError):  # closing is not enough if a child has inherited the open file
            fcntl.flock(self._file, fcntl.LOCK_UN)
        self.close_file()

    def close_file(self) -> None:
        """Close the file without removing it."""
        with suppress(OSError):
            os.close(self._file)
        self._file = -1


def _is_same_file(path: Path, file: int) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(file))
    except FileNotFoundError:
        return False


def describe_lock_holder(path: Path) -> str:
    """Describe the process that holds the lock on this file."""
    with suppress(OSError):
        pid = path.read_text(encoding="ascii", errors="replace").strip()
        if pid:
            return f"process {pid}{' (this one)' if pid == str(os.getpid()) else ''}"
    return "another process"


class LeaseOwner:
    """This process as an owner of leases on runs.

    It holds a `FileLock` beside `base_path` for as long as it lives. The id of a lease is
    `host:pid:random:number` and names that file, so every process of this machine can check
    whether the owner of a lease is still there.

    keep_seconds: how long the file of a dead owner stays. 0: until somebody finds out that it is
        dead. Where a missing file may also be that of another machine, it has to stay: the owner
        may have other leases, and who found out may die before it takes the lease over.
    """

    def __init__(self, base_path: Path, *, keep_seconds: float = 0.0) -> None:
        self._base_path = base_path
        self._keep_seconds = keep_seconds
        self._numbers = itertools.count(1)
        self._active: set[str] = set()
        self.name = f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}"
        path = self._get_lock_path(self.name)
        try:
            self._lock = FileLock.try_acquire(path)
        except OSError as error:
            raise JournalError(f"cannot create {path}: {error.strerror}") from error
        if keep_seconds:
            self._remove_old_files()

    def _remove_old_files(self) -> None:
        """Remove the files of owners that have been dead for long."""
        for path in self._base_path.parent.glob(f"{self._base_path.name}-runner-*"):
            with suppress(OSError):  # somebody else's file, or it has just been removed
                if path.stat().st_mtime < time() - self._keep_seconds:
                    lock = FileLock.try_acquire(path, create=False)
                    if lock is not None:
                        lock.release()

    def create_lease(self) -> str:
        """Create a lease and return its id."""
        lease_id = f"{self.name}:{next(self._numbers)}"
        self._active.add(lease_id)
        return lease_id

    def drop_lease(self, lease_id: str) -> None:
        """Forget a lease."""
        self._active.discard(lease_id)

    def is_lease_alive(self, lease_id: str) -> bool | None:
        """Return whether the owner of a lease is alive; None if its file is not on this machine."""
        name, _, _ = lease_id.rpartition(":")
        if name == self.name:
            return lease_id in self._active
        path = self._get_lock_path(name)
        try:
            lock = FileLock.try_acquire(path, create=False)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise JournalError(f"cannot open {path}: {error.strerror}") from error
        if lock is None:
            return True
        # The owner is dead.
        if self._keep_seconds:
            lock.close_file()
        else:
            lock.release()
        return False

    def close(self) -> None:
        """Release the lock and remove its file."""
        if self._lock is not None:
            self._lock.release()

    def _get_lock_path(self, name: str) -> Path:
        _, pid, random = name.rsplit(":", 2)
        return self._base_path.with_name(f"{self._base_path.name}-runner-{pid}-{random}")


def describe_owner(lease_id: str) -> str:
    """Describe the process that owns a lease."""
    host, pid, *_ = lease_id.split(":")
    here = " on this machine" if host == socket.gethostname() else f" on {host}"
    return f"the process {pid}{'' if pid == str(os.getpid()) else here}"


_held_locks: WeakSet[FileLock] = WeakSet()


def _close_inherited_locks() -> None:
    for lock in tuple(_held_locks):
        lock.close_file()


if hasattr(os, "register_at_fork"):  # a child that outlives its parent would keep its locks held
    os.register_at_fork(after_in_child=_close_inherited_locks)
