"""A session in an SQLite file."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncGenerator, Callable, Collection, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from agentcall.errors import SessionBusy, UsageError
from agentcall.messages import Message, User, is_tainted, mark_messages
from agentcall.result import RunResult
from agentcall.runtime.session import SessionSnapshot
from agentcall.sessions.compaction import OMITTED_NOTICE, CompactionResult, CompactionStrategy
from agentcall.sessions.rows import StoredRun
from agentcall.sessions.store import MessageAddress, SessionStore, StoredMessage
from agentcall.storage.locks import SessionLock, acquire_session_lock
from agentcall.workers.threads import run_in_thread

T = TypeVar("T")

_MAX_ID_LENGTH = 200


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
        self, session_id: str, path: str | Path | None = None, *, wait: float = 60.0
    ) -> None:
        if (
            not session_id.strip()
            or len(session_id) > _MAX_ID_LENGTH
            or not session_id.isprintable()
        ):
            raise UsageError(
                f"the session id {session_id!r:.80} is empty, too long or no plain text; "
                f"use 1 to {_MAX_ID_LENGTH} characters"
            )
        if str(path) == ":memory:":
            raise UsageError("a session is kept in a file; ':memory:' is none, so leave it out")
        if wait < 0:
            raise UsageError(f"wait={wait!r} is below 0 seconds")
        self.id = session_id
        self.wait = wait
        self.store = SessionStore(path)

    @property
    def messages(self) -> tuple[Message, ...]:
        """The whole conversation, also what compaction has taken out of what runs are given."""
        try:
            return tuple(self.store.load_session(self.id).messages)
        except UsageError:  # it has not begun
            return ()

    @property
    def snapshot(self) -> SessionSnapshot:
        """What the next run is given."""
        return self.store.load_snapshot(self.id)

    @property
    def paused_runs(self) -> tuple[RunResult[Any], ...]:
        """The runs that wait for approval, the oldest first; `agent.resume` takes them."""
        return self.store.load_paused_runs(self.id)

    @asynccontextmanager
    async def acquire(
        self, run_id: str, waiting: Collection[str] = ()
    ) -> AsyncGenerator[SessionSnapshot, None]:
        """The conversation before a run, held for one run at a time.

        Raises SessionBusy, SessionError, and UsageError for a run that waits no more.
        """
        async with acquire_session_lock(self._lock_path, self.id, self.wait):
            connection = await _call_in_thread(self.store.database.connect)
            try:
                if waiting:
                    await _call_in_thread(
                        lambda: self.store.check_pending(self.id, run_id, waiting)
                    )
                yield await _call_in_thread(lambda: self.store.load_snapshot(self.id, run_id))
            finally:
                await _call_in_thread(connection.close)

    async def save(self, result: RunResult[Any]) -> None:  # Any: of whatever type
        """Puts down what a run has come to."""
        await _call_in_thread(lambda: self.store.save(self.id, result))

    async def compact(self, strategy: CompactionStrategy) -> CompactionResult:
        """Makes what the next run is given shorter; `messages` still has all.

        Raises SessionBusy while a run is going on, and ModelError if a summary cannot be made.
        """
        async with acquire_session_lock(self._lock_path, self.id, self.wait):
            messages_with_address = await _call_in_thread(lambda: self.store.load_messages(self.id))
            messages = [message for message, _ in messages_with_address]
            plan = await strategy.plan_compaction(messages)
            first = len(messages_with_address) - plan.keep_last
            address = (
                messages_with_address[first].address
                if plan.keep_last
                else _next_address(messages_with_address)
            )
            if first == 0 or address is None:
                return CompactionResult(len(messages), len(messages))
            tainted = is_tainted(messages[:first])
            head = mark_messages(plan.head, tainted=tainted)
            if tainted and not head:
                head = (User(OMITTED_NOTICE, tainted=True),)
            await _call_in_thread(lambda: self.store.save_compaction(self.id, address, head))
        return CompactionResult(len(messages), plan.keep_last + len(head))

    async def undo(self, run_id: str | None = None) -> tuple[StoredRun, ...]:
        """Takes the last exchange out, or the run of this id and all behind it.

        What tools did stays done. Raises SessionBusy, and UsageError where there is nothing.
        """
        async with acquire_session_lock(self._lock_path, self.id, self.wait):
            return await _call_in_thread(lambda: self.store.undo(self.id, run_id))

    async def rename(self, session_id: str) -> SQLiteSession:
        """The same session under another id. Raises SessionBusy, and UsageError if it is taken."""
        renamed_session = SQLiteSession(session_id, self.store.path, wait=self.wait)
        async with acquire_session_lock(self._lock_path, self.id, self.wait):
            await _call_in_thread(lambda: self.store.rename(self.id, session_id))
        return renamed_session

    def delete(self) -> int:
        """Deletes the session; gives how many messages it had. Raises SessionBusy, UsageError."""
        lock = SessionLock.try_acquire(self._lock_path)
        if lock is None:
            raise SessionBusy(f"the session {self.id!r} is in use; it cannot be deleted now")
        try:
            return self.store.delete(self.id)
        finally:
            lock.release()

    @property
    def _lock_path(self) -> Path:
        name = hashlib.sha256(self.id.encode()).hexdigest()[:16]
        return self.store.path.with_name(f"{self.store.path.name}-{name}.lock")


def _next_address(messages: Sequence[StoredMessage]) -> MessageAddress | None:
    """The address behind the last message."""
    last = next((address for _, address in reversed(messages) if address), None)
    return None if last is None else last._replace(place=last.place + 1)


async def _call_in_thread(call: Callable[[], T]) -> T:
    """What the call gives or raises, made in a thread."""
    outcome = await run_in_thread(lambda: _capture_outcome(call), None)
    if isinstance(outcome, _CallFailure):
        raise outcome.error
    return outcome


class _CallFailure(NamedTuple):
    error: Exception


def _capture_outcome(call: Callable[[], T]) -> T | _CallFailure:
    try:
        return call()
    except Exception as error:  # raised where it is waited for
        return _CallFailure(error)
