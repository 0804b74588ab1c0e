"""Whether a process of this machine is still there: it holds a lock on a file that is its own.

The kernel takes the lock back when the process ends, however it ends; no pid that is used again,
no restart and no other process's clock can be mistaken for it.
"""

from __future__ import annotations

import itertools
import os
import secrets
import socket
from contextlib import suppress
from pathlib import Path
from weakref import WeakSet

from agentcall.errors import JournalError
from agentcall.filelock import try_lock
from agentcall.privatefiles import open_private

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
