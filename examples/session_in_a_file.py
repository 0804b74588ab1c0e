"""A session of your own: a conversation in a JSON file, which the next start continues.

    python examples/session_in_a_file.py "I am Ann."
    python examples/session_in_a_file.py "Who am I?"

Everything that works with a session works with this one: `agent.run(prompt, session=...)`,
`Conversation`, the web page (`WebChat(agent, sessions=...)`). A session in Redis or in a database
differs in `_load` and `_store` only. The model is the one that AGENTCALL_MODEL names, else a local
LMDeploy, else the embedded one.
"""

import asyncio
import json
import os
import sys
import time
from collections.abc import AsyncGenerator, Collection
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

from agentcall import Agent
from agentcall.errors import SessionBusy
from agentcall.events import TextDelta
from agentcall.result import RunResult
from agentcall.serving.conversation import Conversation
from agentcall.sessions import (
    SessionSnapshot,
    SessionSummary,
    StoredRun,
    check_pending,
    find_undo_start,
)
from agentcall.storage.locks import FileLock

Runs = dict[str, tuple[float, RunResult[Any]]]
"""When each run began, and its latest result, by run id."""


class FileSession:
    """A session in a folder, as `agentcall.sessions.ChatSession` describes it."""

    def __init__(self, folder: Path, session_id: str) -> None:
        self.id = session_id
        self._folder = folder
        self._path = folder / f"{quote(session_id, safe='')}.json"

    def _load(self) -> Runs:
        if not self._path.exists():
            return {}
        stored = json.loads(self._path.read_text("utf-8"))
        return {i: (began, RunResult.from_json(text)) for i, (began, text) in stored.items()}

    def _store(self, runs: Runs) -> None:
        stored = {i: (began, result.to_json()) for i, (began, result) in runs.items()}
        draft = self._path.with_suffix(".new")
        draft.write_text(json.dumps(stored), "utf-8")
        os.replace(draft, self._path)  # noqa: PTH105 - at once, so nobody reads half of a file

    @property
    def history(self) -> tuple[StoredRun, ...]:
        """All runs, the oldest first."""
        runs = self._load().values()
        return tuple(StoredRun.from_result(result, began) for began, result in runs)

    @property
    def snapshot(self) -> SessionSnapshot:
        """What the next run starts with."""
        return SessionSnapshot.from_results(result for _, result in self._load().values())

    @asynccontextmanager
    async def acquire(
        self, run_id: str, waiting: Collection[str] = ()
    ) -> AsyncGenerator[SessionSnapshot, None]:
        """Hold the session for one run; the kernel releases the lock if the process dies."""
        self._folder.mkdir(exist_ok=True)
        lock = FileLock.try_acquire(self._path.with_suffix(".lock"))
        if lock is None:
            raise SessionBusy(f"another run uses the session {self.id}")
        try:
            if waiting:
                check_pending(self.history, run_id, waiting)
            runs = self._load()
            runs.pop(run_id, None)
            yield SessionSnapshot.from_results(result for _, result in runs.values())
        finally:
            lock.release()

    async def save(self, result: RunResult[Any]) -> None:
        """Store the state of a run in place of its earlier one."""
        runs = self._load()
        began, _ = runs.get(result.run_id, (time.time(), None))
        self._store({**runs, result.run_id: (began, result)})

    async def undo(self, run_id: str | None = None) -> tuple[StoredRun, ...]:
        """Remove a run and all later ones, and return them."""
        history = self.history
        first = find_undo_start(history, run_id)
        self._store(dict(list(self._load().items())[:first]))
        return history[first:]

    def open(self, session_id: str) -> "FileSession":
        """Return another session of the folder."""
        return FileSession(self._folder, session_id)

    def list_sessions(self) -> list[SessionSummary]:
        """Return the sessions of the folder, the one that changed last first."""
        paths = sorted(self._folder.glob("*.json"), key=lambda p: p.stat().st_mtime, reverse=True)
        sessions = [self.open(unquote(path.stem)) for path in paths]
        return [SessionSummary.from_runs(each.id, each.history) for each in sessions]


async def main(question: str) -> None:
    """Ask a question in the session and print the answer as it streams."""
    conversation = Conversation(Agent(), FileSession(Path("sessions"), "chat"))
    async for event in conversation.ask(question):
        if isinstance(event, TextDelta):
            print(event.text, end="", flush=True)
    print(f"\n[{len(conversation.history)} questions so far]")


if __name__ == "__main__":
    asyncio.run(main(" ".join(sys.argv[1:]) or "Who am I?"))
