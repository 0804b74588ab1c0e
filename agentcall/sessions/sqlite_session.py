"""A session in an SQLite file."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncGenerator, Callable, Collection, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from time import monotonic
from typing import Any, NamedTuple, TypeVar, cast

from agentcall.errors import SessionBusy, UsageError
from agentcall.messages import Message, User, is_tainted, mark_messages
from agentcall.result import RunResult
from agentcall.runtime.agent_spec import check_compaction
from agentcall.runtime.compaction import (
    CompactionPlan,
    CompactionResult,
    CompactionStrategy,
)
from agentcall.runtime.prompts import OMITTED_NOTICE
from agentcall.runtime.session import SessionSnapshot, SessionSummary, StoredRun, check_pending
from agentcall.sessions.store import Address, SessionStore
from agentcall.storage.locks import FileLock, describe_lock_holder
from agentcall.storage.private_files import make_folder
from agentcall.workers.threads import run_in_thread

T = TypeVar("T")

_MAX_ID_LENGTH = 200
_FIRST_PAUSE, _MAX_PAUSE = 0.005, 0.1
"""Seconds between two attempts to get the lock."""


class SQLiteSession:
    """A conversation that is stored in a file under an id.

    path: a file, which may contain many sessions; None is the user's own (`AGENTCALL_SESSIONS`,
        else ~/.local/share/agentcall/sessions.db).
    compact: what happens to a conversation that is longer than the window of the model, such as
        `Summary(keep=10)` or `Window(20)`. None: its oldest messages are left out for the run.
    wait: seconds that a run waits for another run of this session, in any thread or process, to
        end. Then it raises SessionBusy, which names the other process.

    A session begins with its first run. The state of a run is saved before each of its steps, so
    that after a crash or a kill the session knows which tools were called.
    """

    def __init__(
        self,
        session_id: str,
        path: str | Path | None = None,
        *,
        compact: CompactionStrategy | None = None,
        wait: float = 60.0,
    ) -> None:
        given = cast("object", session_id)  # a program without a type checker passes anything
        is_text = isinstance(given, str) and given.strip() and given.isprintable()
        if not is_text or len(session_id) > _MAX_ID_LENGTH:
            raise UsageError(
                f"the session id {given!r:.80} is empty, too long or not plain text; "
                f"use 1 to {_MAX_ID_LENGTH} characters"
            )
        if str(path) == ":memory:":
            raise UsageError("a session is stored in a file, and ':memory:' is not one; omit it")
        if wait < 0:
            raise UsageError(f"wait={wait!r} is below 0 seconds")
        self.id = session_id
        check_compaction(compact)
        self.wait = wait
        self.compaction = compact
        self.store = SessionStore(path)

    @property
    def messages(self) -> tuple[Message, ...]:
        """The whole conversation, including messages that compaction leaves out of later runs."""
        return tuple(message for run in self.history for message in run.messages)

    @property
    def snapshot(self) -> SessionSnapshot:
        """What the next run starts with."""
        return self.store.load_snapshot(self.id)

    @property
    def history(self) -> tuple[StoredRun, ...]:
        """All runs, the oldest first."""
        return self.store.load_runs(self.id)

    @property
    def paused_runs(self) -> tuple[RunResult[Any], ...]:
        """The runs that wait for approval, the oldest first; `agent.resume` takes them."""
        return tuple(run.paused_result for run in self.history if run.paused_result is not None)

    @asynccontextmanager
    async def acquire(
        self, run_id: str, waiting: Collection[str] = ()
    ) -> AsyncGenerator[SessionSnapshot, None]:
        """Hold the session for one run at a time; see `Session.acquire`.

        Raises SessionBusy, SessionError, and UsageError for a run that does not wait any more.
        """
        async with self._lock():
            connection = await _call_in_thread(self.store.connect)
            try:
                if waiting:
                    await _call_in_thread(lambda: check_pending(self.history, run_id, waiting))
                yield await _call_in_thread(lambda: self.store.load_snapshot(self.id, run_id))
            finally:
                await _call_in_thread(connection.close)

    async def save(self, result: RunResult[Any]) -> None:
        """Store the state of a run."""
        await _call_in_thread(lambda: self.store.save(self.id, result))

    async def compact(self, strategy: CompactionStrategy) -> CompactionResult:
        """Shorten what the next runs start with; `messages` still returns everything.

        Raises SessionBusy during a run, and ModelError if a summary fails.
        """
        async with self._lock():
            stored = await _call_in_thread(lambda: self.store.load_messages(self.id))
            plan = await strategy.plan_compaction([message for message, _ in stored])
            return await self._apply_plan(plan, stored)

    async def save_compaction(self, plan: CompactionPlan) -> None:
        """Give the next runs less of the conversation; called during a run, after `save`."""
        stored = await _call_in_thread(lambda: self.store.load_messages(self.id))
        await self._apply_plan(plan, stored)

    async def _apply_plan(
        self, plan: CompactionPlan, stored: Sequence[tuple[Message, Address | None]]
    ) -> CompactionResult:
        first = len(stored) - plan.keep_last
        start = stored[first][1] if plan.keep_last else None
        if not plan.keep_last:  # the address behind the last stored message
            last = next((address for _, address in reversed(stored) if address), None)
            start = None if last is None else (last[0], last[1] + 1)
        if first == 0 or start is None:
            return CompactionResult(len(stored), len(stored))
        tainted = is_tainted(message for message, _ in stored[:first])
        head: Sequence[Message] = mark_messages(plan.head, tainted=tainted)
        if tainted and not head:
            head = (User(OMITTED_NOTICE, tainted=True),)
        await _call_in_thread(lambda: self.store.save_compaction(self.id, start, head))
        return CompactionResult(len(stored), plan.keep_last + len(head))

    async def undo(self, run_id: str | None = None) -> tuple[StoredRun, ...]:
        """Remove the last exchange, or the run of this id and all later ones, and return the runs.

        Effects of their tools remain. Raises SessionBusy, and UsageError if there is no such run.
        """
        async with self._lock():
            return await _call_in_thread(lambda: self.store.undo(self.id, run_id))

    async def rename(self, session_id: str) -> SQLiteSession:
        """Rename the session and return it. Raises SessionBusy, UsageError if the id is taken."""
        renamed = self.open(session_id)
        async with self._lock():
            await _call_in_thread(lambda: self.store.rename(self.id, session_id))
        return renamed

    def delete(self) -> int:
        """Delete the session and return its number of messages. Raises SessionBusy, UsageError."""
        lock = self._try_lock()
        if lock is None:
            raise SessionBusy(f"the session {self.id!r} is in use; it cannot be deleted now")
        try:
            return self.store.delete(self.id)
        finally:
            lock.release()

    def open(self, session_id: str) -> SQLiteSession:
        """Return another session of the same file."""
        return SQLiteSession(session_id, self.store.path, compact=self.compaction, wait=self.wait)

    def list_sessions(self) -> tuple[SessionSummary, ...]:
        """Return the sessions of the file, the one that changed last first."""
        return self.store.list_sessions()

    @asynccontextmanager
    async def _lock(self) -> AsyncGenerator[None, None]:
        """Hold the lock of the session. Raises SessionBusy after `wait` seconds."""
        end, pause = monotonic() + self.wait, _FIRST_PAUSE
        while (lock := self._try_lock()) is None:
            if monotonic() >= end:
                raise SessionBusy(
                    f"the session {self.id!r} is in use by a run of "
                    f"{describe_lock_holder(self._lock_path)}; a session has one run at a time, "
                    f"and this one waited {self.wait:g} seconds for it to end"
                )
            await asyncio.sleep(min(pause, max(end - monotonic(), 0)))
            pause = min(pause * 2, _MAX_PAUSE)
        try:
            yield
        finally:
            lock.release()

    def _try_lock(self) -> FileLock | None:
        make_folder(self._lock_path.parent)
        return FileLock.try_acquire(self._lock_path)

    @property
    def _lock_path(self) -> Path:
        digest = hashlib.sha256(self.id.encode()).hexdigest()[:16]
        return self.store.path.with_name(f"{self.store.path.name}-{digest}.lock")


class _CallFailure(NamedTuple):
    error: Exception


async def _call_in_thread(call: Callable[[], T]) -> T:
    """Make a blocking call in a thread, and return or raise its outcome."""

    def capture_outcome() -> T | _CallFailure:  # `run_in_thread` takes calls that do not raise
        try:
            return call()
        except Exception as error:
            return _CallFailure(error)

    outcome = await run_in_thread(capture_outcome, None)
    if isinstance(outcome, _CallFailure):
        raise outcome.error
    return outcome
