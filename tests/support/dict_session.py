"""A session in a dict: what somebody writes who stores conversations in a way of their own."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Collection
from contextlib import asynccontextmanager
from typing import Any

from agentcall.result import RunResult
from agentcall.sessions import (
    SessionSnapshot,
    SessionSummary,
    StoredRun,
    check_pending,
    find_undo_start,
)

Sessions = dict[str, dict[str, RunResult[Any]]]


class DictSession:
    def __init__(self, sessions: Sessions, session_id: str) -> None:
        self.id = session_id
        self._sessions = sessions

    @property
    def history(self) -> tuple[StoredRun, ...]:
        return tuple(map(StoredRun.from_result, self._sessions.get(self.id, {}).values()))

    @property
    def snapshot(self) -> SessionSnapshot:
        return SessionSnapshot.from_results(self._sessions.get(self.id, {}).values())

    @asynccontextmanager
    async def acquire(
        self, run_id: str, waiting: Collection[str] = ()
    ) -> AsyncGenerator[SessionSnapshot, None]:
        if waiting:
            check_pending(self.history, run_id, waiting)
        runs = self._sessions.get(self.id, {})
        yield SessionSnapshot.from_results(runs[each] for each in runs if each != run_id)

    async def save(self, result: RunResult[Any]) -> None:
        self._sessions.setdefault(self.id, {})[result.run_id] = result

    async def undo(self, run_id: str | None = None) -> tuple[StoredRun, ...]:
        history = self.history
        first = find_undo_start(history, run_id)
        for run in history[first:]:
            del self._sessions[self.id][run.id]
        return history[first:]

    def open(self, session_id: str) -> DictSession:
        return DictSession(self._sessions, session_id)

    def list_sessions(self) -> list[SessionSummary]:
        begun = [self.open(name) for name, runs in self._sessions.items() if runs]
        return [SessionSummary.from_runs(one.id, one.history) for one in reversed(begun)]
