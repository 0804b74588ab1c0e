"""A file of sessions: its tables, and what is written to and read from them.

Many threads and processes may use a file at the same time: SQLite's write-ahead log and a busy
timeout take care of that. Each use opens a connection of its own, so none is carried over a fork.
Every row that a run depends on has a checksum.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections import defaultdict
from collections.abc import Callable, Generator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from sqlite3 import Connection
from typing import Any, NamedTuple, TypeAlias, TypeVar

import orjson

from agentcall.approvals import ApprovalRule, approval_rule_from_json, approval_rule_to_json
from agentcall.errors import SessionError, UsageError
from agentcall.messages import (
    Message,
    Usage,
    dump_messages,
    encode_json,
    from_json,
    load_messages,
    to_json,
    usage_from_json,
    usage_to_json,
)
from agentcall.result import RunResult
from agentcall.runtime.session import (
    SessionSnapshot,
    SessionSummary,
    StoredRun,
    complete_messages,
    find_undo_start,
    make_title,
)
from agentcall.sessions.text_search import build_query, extract_excerpt, extract_text, separate_cjk
from agentcall.storage.codec import compute_digest
from agentcall.storage.private_files import make_folder
from agentcall.storage.sqlite import SQLiteFormat, connect, create_file, translate_errors

T = TypeVar("T")

_FORMAT = SQLiteFormat(
    name="session file",
    application_id=0x61676331,  # "agc1"
    version=2,
    schema="""
CREATE TABLE sessions (
  number INTEGER PRIMARY KEY,
  id TEXT NOT NULL UNIQUE,
  began REAL NOT NULL,
  changed REAL NOT NULL
);
CREATE TABLE runs (
  number INTEGER PRIMARY KEY,
  session INTEGER NOT NULL REFERENCES sessions(number) ON DELETE CASCADE,
  id TEXT NOT NULL,
  began REAL NOT NULL,
  agent TEXT NOT NULL,
  stop_reason TEXT NOT NULL,
  usage TEXT NOT NULL,
  size INTEGER NOT NULL,
  waiting TEXT,
  checksum TEXT NOT NULL,
  UNIQUE (session, id)
);
CREATE TABLE messages (
  number INTEGER PRIMARY KEY,
  run INTEGER NOT NULL REFERENCES runs(number) ON DELETE CASCADE,
  place INTEGER NOT NULL,
  at REAL NOT NULL,
  body TEXT NOT NULL,
  checksum TEXT NOT NULL,
  UNIQUE (run, place)
);
CREATE TABLE grants (
  session INTEGER NOT NULL REFERENCES sessions(number) ON DELETE CASCADE,
  body TEXT NOT NULL,
  checksum TEXT NOT NULL,
  UNIQUE (session, body)
);
CREATE TABLE compactions (
  number INTEGER PRIMARY KEY,
  session INTEGER NOT NULL REFERENCES sessions(number) ON DELETE CASCADE,
  at REAL NOT NULL,
  run INTEGER NOT NULL,
  place INTEGER NOT NULL,
  head TEXT NOT NULL,
  checksum TEXT NOT NULL
);
CREATE VIRTUAL TABLE words USING fts5(text, tokenize='unicode61 remove_diacritics 2');
""",
    create_pragmas=("journal_mode = WAL",),
    pragmas=("foreign_keys = ON", "synchronous = NORMAL", "secure_delete = ON"),
    error=SessionError,
    damaged=SessionError,
)

Address: TypeAlias = tuple[int, int]
"""A message: the number of its run, and its index in the run."""


def default_path() -> Path:
    """Return `AGENTCALL_SESSIONS`, else sessions.db in agentcall's folder of the user's data."""
    if configured := os.environ.get("AGENTCALL_SESSIONS"):
        return Path(configured)
    base = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    return Path(base) / "agentcall" / "sessions.db"


@dataclass(frozen=True, slots=True)
class StoredSession:
    """A whole session.

    compacted: how many of its first messages the next run does not get; it gets `head` instead.
    """

    id: str
    began: float
    changed: float
    runs: tuple[StoredRun, ...]
    compacted: int = 0
    head: tuple[Message, ...] = ()

    @property
    def messages(self) -> Sequence[Message]:
        """All messages, in order."""
        return [message for run in self.runs for message in run.messages]


@dataclass(frozen=True, slots=True)
class SearchHit:
    """A message that a search found; `place` is its index in the session."""

    session: str
    place: int
    role: str
    at: float
    excerpt: str


class SessionStore:
    """The sessions of a file; None is the user's own file (`default_path`).

    Methods raise SessionError if the file cannot be used, and UsageError for a session or run that
    does not exist. Reading does not create the file.
    """

    def __init__(self, path: str | Path | None = None) -> None:
        self.path = Path(path) if path is not None else default_path()

    def connect(self) -> Connection:
        """Return a connection. While one is open, the log file stays, so writing is cheap."""
        with translate_errors(self.path, _FORMAT):
            if not self.path.exists():
                make_folder(self.path.parent)
                create_file(self.path, _FORMAT)
            return connect(self.path, _FORMAT)

    @contextmanager
    def _read(self) -> Generator[Connection, None, None]:
        """Open a transaction that sees one state of the file; an empty one if there is no file."""
        with translate_errors(self.path, _FORMAT):
            if self.path.exists():
                connection = connect(self.path, _FORMAT)
            else:
                connection = sqlite3.connect(":memory:", isolation_level=None)
                connection.executescript(_FORMAT.schema)
            with closing(connection):
                connection.execute("BEGIN")
                yield connection

    @contextmanager
    def _write(self) -> Generator[Connection, None, None]:
        """Open a transaction that is committed as a whole, or not at all."""
        with closing(self.connect()) as connection, translate_errors(self.path, _FORMAT):
            connection.execute("BEGIN IMMEDIATE")
            yield connection
            connection.execute("COMMIT")

    def save(self, session: str, result: RunResult[Any]) -> None:
        """Store the state of a run in place of its earlier one; a run without messages is none."""
        now = time.time()
        with self._write() as connection:
            number = _find_session(connection, session)
            if not (result.new_messages or result.pending):
                _delete_run(connection, number, result.run_id)
                return
            (number,) = connection.execute(
                "INSERT INTO sessions (id, began, changed) VALUES (?, ?, ?) "
                "ON CONFLICT (id) DO UPDATE SET changed = excluded.changed RETURNING number",
                (session, now, now),
            ).fetchone()
            run = _write_run(connection, number, result, now)
            _write_messages(connection, run, result.new_messages, now)
            for rule in result.approval_rules:
                body = encode_json(approval_rule_to_json(rule)).decode()
                connection.execute(
                    "INSERT OR IGNORE INTO grants VALUES (?, ?, ?)",
                    (number, body, compute_digest(number, body)),
                )

    def save_compaction(self, session: str, start: Address, head: Sequence[Message]) -> None:
        """Give the next runs `head`, followed by the messages from `start` on."""
        with self._write() as connection:
            row = (_get_session(connection, session), *start, dump_messages(head))
            connection.execute(
                "INSERT INTO compactions (session, run, place, head, at, checksum) "
                "VALUES (?, ?, ?, ?, ?, ?)",
                (*row, time.time(), compute_digest(*row)),
            )

    def undo(self, session: str, run_id: str | None = None) -> tuple[StoredRun, ...]:
        """Delete the run of this id and all later ones, and return them.

        Without an id, the first one is the last run that began with a user message.
        """
        with self._read() as connection:  # an error must not create the file
            find_undo_start(_load_runs(connection, session), run_id)
        with self._write() as connection:
            number = _get_session(connection, session)
            runs = _read_runs(connection, number)
            stored = tuple(run.to_run() for run in runs)
            first = find_undo_start(stored, run_id)
            cut = _read_compaction(connection, number)
            if run_id is None and not any(cut.get_rest(run) for run in runs[first:]):
                raise UsageError("there is nothing to undo: the last question is summed up already")
            _delete_messages(connection, number, runs[first].number)
            connection.execute(
                "DELETE FROM runs WHERE session = ? AND number >= ?", (number, runs[first].number)
            )
            connection.execute(
                "DELETE FROM compactions WHERE session = ? AND (run, place) > (?, 0)",
                (number, runs[first].number),
            )
            connection.execute(
                "UPDATE sessions SET changed = ? WHERE number = ?", (time.time(), number)
            )
        return stored[first:]

    def rename(self, session: str, name: str) -> None:
        """Rename a session. Raises UsageError if another one has the name."""
        with self._write() as connection:
            number = _get_session(connection, session)
            if _find_session(connection, name) is not None:
                raise UsageError(f"there is a session {name!r} already; choose another name")
            connection.execute("UPDATE sessions SET id = ? WHERE number = ?", (name, number))

    def delete(self, session: str) -> int:
        """Delete a session, wipe its text out of the file, and return its number of messages."""
        with self._write() as connection:
            number = _get_session(connection, session)
            count = _delete_messages(connection, number)
            connection.execute("DELETE FROM sessions WHERE number = ?", (number,))
        return count

    def load_snapshot(self, session: str, run_id: str = "") -> SessionSnapshot:
        """Return what the next run starts with; the run of this id is left out."""
        with self._read() as connection:
            number = _find_session(connection, session)
            if number is None:
                return SessionSnapshot()
            messages = [message for message, _ in _read_visible(connection, number, run_id)]
            rules: list[ApprovalRule] = []
            for body, checksum in connection.execute(
                "SELECT body, checksum FROM grants WHERE session = ?", (number,)
            ):
                if checksum != compute_digest(number, body):
                    raise ValueError("an approval rule has changed")
                rules.append(approval_rule_from_json(orjson.loads(body)))
        return SessionSnapshot(tuple(messages), tuple(rules))

    def load_messages(self, session: str) -> list[tuple[Message, Address | None]]:
        """Return the messages that the next run starts with; those that are not stored, as the head
        of a compaction, have no address."""
        with self._read() as connection:
            number = _find_session(connection, session)
            return [] if number is None else _read_visible(connection, number)

    def load_runs(self, session: str) -> tuple[StoredRun, ...]:
        """Return the runs of a session; none if it has not begun."""
        with self._read() as connection:
            return _load_runs(connection, session)

    def load_session(self, session: str) -> StoredSession:
        """Return a whole session."""
        with self._read() as connection:
            number = _get_session(connection, session)
            cut = _read_compaction(connection, number)
            runs = _read_runs(connection, number)
            began, changed = connection.execute(
                "SELECT began, changed FROM sessions WHERE number = ?", (number,)
            ).fetchone()
        compacted = sum(len(run.messages) - len(cut.get_rest(run)) for run in runs)
        stored = tuple(run.to_run() for run in runs)
        return StoredSession(session, began, changed, stored, compacted, cut.head)

    def list_sessions(self) -> tuple[SessionSummary, ...]:
        """Return the sessions, the one that changed last first."""
        with self._read() as connection:
            rows = connection.execute(
                "SELECT sessions.id, sessions.began, changed, count(runs.number), "
                "ifnull(sum(size), 0), count(waiting), "
                "(SELECT body FROM messages JOIN runs AS r ON r.number = run "
                "WHERE r.session = sessions.number AND place = 0 ORDER BY run LIMIT 1) "
                "FROM sessions LEFT JOIN runs ON session = sessions.number "
                "GROUP BY sessions.number ORDER BY changed DESC, sessions.number DESC"
            ).fetchall()
            for row in rows:
                _find_session(connection, row[0])  # refuses a damaged id
            return tuple(
                SessionSummary(id_, began, changed, runs, messages, waiting, title)
                for id_, began, changed, runs, messages, waiting, body in rows
                for title in ("" if body is None else make_title(_parse_message(body)),)
            )

    def search(
        self, words: str, session: str | None = None, limit: int = 50
    ) -> tuple[SearchHit, ...]:
        """Return the messages that contain all of the words, the best match first."""
        query = build_query(words)
        if not query:
            raise UsageError(f"{words!r} contains no word to search for")
        with self._read() as connection:
            if session is not None:
                _get_session(connection, session)
            rows = connection.execute(
                "SELECT sessions.id, messages.body, at, (SELECT count(*) FROM messages AS m JOIN "
                "runs AS r ON r.number = m.run WHERE r.session = sessions.number AND "
                "(m.run, m.place) < (messages.run, messages.place)) "
                "FROM words JOIN messages ON messages.number = words.rowid "
                "JOIN runs ON runs.number = run JOIN sessions ON sessions.number = session "
                "WHERE words MATCH ? AND (? IS NULL OR sessions.id = ?) ORDER BY rank LIMIT ?",
                (query, session, session, limit),
            ).fetchall()
            hits = [(id_, place, at, _parse_message(body)) for id_, body, at, place in rows]
        return tuple(
            SearchHit(
                id_,
                place,
                str(to_json(message)["role"]),
                at,
                extract_excerpt(extract_text(message), words),
            )
            for id_, place, at, message in hits
        )


def _load_runs(connection: Connection, session: str) -> tuple[StoredRun, ...]:
    """Return the runs of a session; none if it has not begun."""
    number = _find_session(connection, session)
    return () if number is None else tuple(run.to_run() for run in _read_runs(connection, number))


class _RunRow(NamedTuple):
    """A run as it is stored: calls that wait or were interrupted have no result."""

    number: int
    id: str
    began: float
    agent: str
    stop_reason: str
    usage: Usage
    messages: tuple[Message, ...]
    paused_result: RunResult[Any] | None

    def to_run(self) -> StoredRun:
        """Return the run with a result for every call."""
        messages = complete_messages(self.messages, self.paused_result)
        return StoredRun(*self[1:6], messages, self.paused_result)


class _Compaction(NamedTuple):
    """The first message that the next run gets, and the messages in place of those before it."""

    run: int = 0
    place: int = 0
    head: tuple[Message, ...] = ()

    def get_rest(self, run: _RunRow) -> tuple[Message, ...]:
        """Return the messages of a run that the next run still gets."""
        if run.number == self.run:
            return run.messages[self.place :]
        return run.messages if run.number > self.run else ()


def _find_session(connection: Connection, session: str) -> int | None:
    """Return the number of a session; None if it does not exist.

    An id is stored in the table and in its index. If one of them is damaged, they differ, and the
    session must not look as if it had not begun.
    """
    row = connection.execute("SELECT number FROM sessions WHERE id = ?", (session,)).fetchone()
    if row is None:
        unindexed = "SELECT number FROM sessions NOT INDEXED WHERE id = ?"
        if connection.execute(unindexed, (session,)).fetchone() is not None:
            raise ValueError(f"the session {session!r} is not in its index")
        return None
    number = int(row[0])
    stored = connection.execute("SELECT id FROM sessions WHERE number = ?", (number,)).fetchone()
    if stored != (session,):
        raise ValueError(f"the session id {session!r} has changed")
    return number


def _get_session(connection: Connection, session: str) -> int:
    number = _find_session(connection, session)
    if number is None:
        raise UsageError(f"there is no session {session!r}; `agentcall sessions list` shows all")
    return number


def _read_runs(connection: Connection, session: int) -> list[_RunRow]:
    """Return the runs of a session, in order, each row checked against its checksum."""
    messages: defaultdict[int, list[Message]] = defaultdict(list)
    for run, place, body, checksum in connection.execute(
        "SELECT run, place, body, messages.checksum FROM messages "
        "JOIN runs ON runs.number = run WHERE session = ? ORDER BY run, place",
        (session,),
    ):
        if checksum != compute_digest(run, place, body):
            raise ValueError(f"message {place} of run {run} has changed")
        messages[run].append(_parse_message(body))
    runs: list[_RunRow] = []
    for number, checksum, began, *fields in connection.execute(
        "SELECT number, checksum, began, id, agent, stop_reason, usage, size, waiting FROM runs "
        "WHERE session = ? ORDER BY number",
        (session,),
    ):
        run_id, agent, stop_reason, usage, size, waiting = fields
        if checksum != compute_digest(session, *fields):
            raise ValueError(f"run {run_id} has changed")
        own = tuple(messages[number])
        if len(own) != size:
            raise ValueError(f"run {run_id} lacks messages")
        used = usage_from_json(orjson.loads(usage))
        paused = None if waiting is None else _parse(RunResult[Any].from_json, waiting)
        runs.append(_RunRow(number, run_id, began, agent, stop_reason, used, own, paused))
    return runs


def _read_compaction(connection: Connection, session: int) -> _Compaction:
    row = connection.execute(
        "SELECT run, place, head, checksum FROM compactions WHERE session = ? "
        "ORDER BY number DESC LIMIT 1",
        (session,),
    ).fetchone()
    if row is None:
        return _Compaction()
    run, place, head, checksum = row
    if checksum != compute_digest(session, run, place, head):
        raise ValueError("a compaction has changed")
    return _Compaction(run, place, _parse(load_messages, head))


def _read_visible(
    connection: Connection, session: int, without: str = ""
) -> list[tuple[Message, Address | None]]:
    """Return the messages that the next run starts with, with a result for every call."""
    cut = _read_compaction(connection, session)
    visible: list[tuple[Message, Address | None]] = [(message, None) for message in cut.head]
    for run in _read_runs(connection, session):
        if run.id == without:
            continue
        rest = cut.get_rest(run)
        first = len(run.messages) - len(rest)
        addresses = {id(m): (run.number, place) for place, m in enumerate(rest, first)}
        completed = complete_messages(rest, run.paused_result)
        visible += ((message, addresses.get(id(message))) for message in completed)
    return visible


def _write_run(connection: Connection, session: int, result: RunResult[Any], now: float) -> int:
    fields = (
        result.run_id,
        result.agent,
        result.stop_reason,
        orjson.dumps(usage_to_json(result.usage)).decode(),
        len(result.new_messages),
        result.to_json() if result.pending else None,
    )
    (number,) = connection.execute(
        "INSERT INTO runs (session, id, agent, stop_reason, usage, size, waiting, began, checksum) "
        "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (session, id) DO UPDATE SET "
        "agent = excluded.agent, stop_reason = excluded.stop_reason, usage = excluded.usage, "
        "size = excluded.size, waiting = excluded.waiting, checksum = excluded.checksum "
        "RETURNING number",
        (session, *fields, now, compute_digest(session, *fields)),
    ).fetchone()
    return int(number)


def _delete_run(connection: Connection, session: int | None, run_id: str) -> None:
    """Delete the last run of a session, and a session that has no other."""
    run = connection.execute(
        "SELECT number FROM runs WHERE session = ? AND id = ?", (session, run_id)
    ).fetchone()
    if session is None or run is None:
        return
    _delete_messages(connection, session, run[0])
    connection.execute("DELETE FROM runs WHERE number = ?", run)
    connection.execute(
        "DELETE FROM sessions WHERE number = ? AND NOT EXISTS "
        "(SELECT 1 FROM runs WHERE session = sessions.number)",
        (session,),
    )


def _write_messages(
    connection: Connection, run: int, messages: Sequence[Message], now: float
) -> None:
    """Write the messages of a run; those that are stored already are not written again."""
    bodies = [encode_json(to_json(message)).decode() for message in messages]
    stored: list[tuple[int, str]] = connection.execute(
        "SELECT number, body FROM messages WHERE run = ? ORDER BY place", (run,)
    ).fetchall()
    same = 0
    while same < min(len(stored), len(bodies)) and stored[same][1] == bodies[same]:
        same += 1
    for number, _ in stored[same:]:
        connection.execute("DELETE FROM words WHERE rowid = ?", (number,))
        connection.execute("DELETE FROM messages WHERE number = ?", (number,))
    for place in range(same, len(bodies)):
        body = bodies[place]
        (number,) = connection.execute(
            "INSERT INTO messages (run, place, at, body, checksum) VALUES (?, ?, ?, ?, ?) "
            "RETURNING number",
            (run, place, now, body, compute_digest(run, place, body)),
        ).fetchone()
        words = separate_cjk(extract_text(messages[place]))
        connection.execute("INSERT INTO words (rowid, text) VALUES (?, ?)", (number, words))


def _delete_messages(connection: Connection, session: int, first_run: int = 0) -> int:
    """Delete the messages of a session from a run on, with their indexed text; return how many."""
    numbers = [
        number
        for (number,) in connection.execute(
            "SELECT messages.number FROM messages JOIN runs ON runs.number = run "
            "WHERE session = ? AND run >= ?",
            (session, first_run),
        )
    ]
    for number in numbers:
        connection.execute("DELETE FROM words WHERE rowid = ?", (number,))
        connection.execute("DELETE FROM messages WHERE number = ?", (number,))
    connection.execute("INSERT INTO words (words) VALUES ('optimize')")  # wipes deleted text
    return len(numbers)


def _parse_message(body: str) -> Message:
    return _parse(lambda text: from_json(orjson.loads(text)), body)


def _parse(read: Callable[[str], T], text: str) -> T:
    """Read stored text. Raises ValueError, as UsageError would blame the caller."""
    try:
        return read(text)
    except UsageError as error:
        raise ValueError(str(error)) from error
