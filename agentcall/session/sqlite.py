"""A session in an SQLite file."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncGenerator, Callable, Collection, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from agentcall.errors import SessionBusy, UsageError
from agentcall.memory import Memory
from agentcall.messages import Message, User
from agentcall.result import RunResult
from agentcall.session.compaction import LEFT_OUT, Compacted, Compaction
from agentcall.session.lock import Lock, held
from agentcall.session.record import KeptRun
from agentcall.session.store import Address, Placed, Store
from agentcall.taint import is_tainted, vouched
from agentcall.workers import in_thread

T = TypeVar("T")

_LONGEST = 200


class SQLiteSession:
    """A conversation that is kept in a file, under an id.

    path: the file, which may hold many sessions; None is the user's own (`AGENTCALL_SESSIONS`, else
        ~/.local/share/agentcall/sessions.db).
    wait: seconds that a run waits for another one of this session to end, in whatever thread or
        process it is. Then it raises SessionBusy, which says who that is.

    A session begins with its first run. What a run has come to is put down before each of its
    steps, so that after a crash or a kill the session knows what was called.
    """

    def __init__(
        self, identity: str, path: str | Path | None = None, *, wait: float = 60.0
    ) -> None:
        if not identity.strip() or len(identity) > _LONGEST or not identity.isprintable():
            raise UsageError(
                f"the session id {identity!r:.80} is empty, too long or no plain text; "
                f"use 1 to {_LONGEST} characters"
            )
        if str(path) == ":memory:":
            raise UsageError("a session is kept in a file; ':memory:' is none, so leave it out")
        if wait < 0:
            raise UsageError(f"wait={wait!r} is below 0 seconds")
        self.id = identity
        self.wait = wait
        self.store = Store(path)

    @property
    def messages(self) -> tuple[Message, ...]:
        """The whole conversation, also what compaction has taken out of what runs are given."""
        try:
            return tuple(self.store.show(self.id).messages)
        except UsageError:  # it has not begun
            return ()

    @property
    def memory(self) -> Memory:
        """What the next run is given."""
        return self.store.memory(self.id)

    @property
    def waiting(self) -> tuple[RunResult[Any], ...]:
        """The runs that wait for approval, the oldest first; `agent.resume` takes them."""
        return self.store.waiting(self.id)

    @asynccontextmanager
    async def hold(
        self, run_id: str, waiting: Collection[str] = ()
    ) -> AsyncGenerator[Memory, None]:
        """The conversation before a run, held for one run at a time.

        Raises SessionBusy, SessionError, and UsageError for a run that waits no more.
        """
        async with held(self._lock, self.id, self.wait):
            opened = await _apart(self.store.database.opened)
            try:
                if waiting:
                    await _apart(lambda: self.store.check_waits(self.id, run_id, waiting))
                yield await _apart(lambda: self.store.memory(self.id, run_id))
            finally:
                await _apart(opened.close)

    async def keep(self, result: RunResult[Any]) -> None:  # Any: of whatever type
        """Puts down what a run has come to."""
        await _apart(lambda: self.store.keep(self.id, result))

    async def compact(self, how: Compaction) -> Compacted:
        """Makes what the next run is given shorter; `messages` still has all.

        Raises SessionBusy while a run is going on, and ModelError if a summary cannot be made.
        """
        async with held(self._lock, self.id, self.wait):
            placed = await _apart(lambda: self.store.placed(self.id))
            messages = [message for message, _ in placed]
            shorter = await how.shorter(messages)
            first = len(placed) - shorter.kept
            address = placed[first].address if shorter.kept else _behind(placed)
            if first == 0 or address is None:
                return Compacted(len(messages), len(messages))
            tainted = is_tainted(messages[:first])
            head = vouched(shorter.head, tainted=tainted)
            if tainted and not head:
                head = (User(LEFT_OUT, tainted=True),)
            await _apart(lambda: self.store.compact(self.id, address, head))
        return Compacted(len(messages), shorter.kept + len(head))

    async def take_back(self, run_id: str | None = None) -> tuple[KeptRun, ...]:
        """Takes the last exchange out, or the run of this id and all behind it.

        What tools did stays done. Raises SessionBusy, and UsageError where there is nothing.
        """
        async with held(self._lock, self.id, self.wait):
            return await _apart(lambda: self.store.take_back(self.id, run_id))

    async def renamed(self, identity: str) -> SQLiteSession:
        """The same session under another id. Raises SessionBusy, and UsageError if it is taken."""
        named = SQLiteSession(identity, self.store.path, wait=self.wait)
        async with held(self._lock, self.id, self.wait):
            await _apart(lambda: self.store.rename(self.id, identity))
        return named

    def delete(self) -> int:
        """Deletes the session; gives how many messages it had. Raises SessionBusy, UsageError."""
        lock = Lock.taken(self._lock)
        if lock is None:
            raise SessionBusy(f"the session {self.id!r} is in use; it cannot be deleted now")
        try:
            return self.store.delete(self.id)
        finally:
            lock.release()

    @property
    def _lock(self) -> Path:
        name = hashlib.sha256(self.id.encode()).hexdigest()[:16]
        return self.store.path.with_name(f"{self.store.path.name}-{name}.lock")


def _behind(placed: Sequence[Placed]) -> Address | None:
    """The address behind the last message."""
    last = next((address for _, address in reversed(placed) if address), None)
    return None if last is None else last._replace(place=last.place + 1)


async def _apart(call: Callable[[], T]) -> T:
    """What the call gives or raises, made in a thread."""
    outcome = await in_thread(lambda: _outcome(call), None)
    if isinstance(outcome, _Failed):
        raise outcome.error
    return outcome


class _Failed(NamedTuple):
    error: Exception


def _outcome(call: Callable[[], T]) -> T | _Failed:
    try:
        return call()
    except Exception as error:  # raised where it is waited for
        return _Failed(error)
