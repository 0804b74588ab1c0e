"""A file of sessions: what is put down in it, and what can be asked of it."""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from pathlib import Path
from sqlite3 import Connection
from typing import Any, NamedTuple

import orjson

from agentcall.approvals import approval_rule_from_json, approval_rule_to_json
from agentcall.errors import UsageError
from agentcall.messages import (
    Message,
    Usage,
    dump_messages,
    encode_json,
    fill_missing_results,
    from_json,
    load_messages,
)
from agentcall.result import RunResult
from agentcall.runtime.session import SessionSnapshot
from agentcall.sessions.database import (
    SessionDatabase,
    build_query,
    default_path,
    extract_excerpt,
    extract_text,
)
from agentcall.sessions.rows import (
    MessageRow,
    RunRows,
    SearchHit,
    SessionSummary,
    StoredRun,
    StoredSession,
    delete_messages,
    delete_runs,
    find_session_number,
    get_session_number,
    parse_stored,
    read_runs,
    write_messages,
    write_run,
)

_TITLE_LENGTH = 80
_NOTHING_TO_UNDO = (
    "there is nothing to take back: nothing has been asked yet, or it is summed up already"
)


class MessageAddress(NamedTuple):
    """Where a message stands in a session: the number of its run, and its place in it."""

    run: int
    place: int


class StoredMessage(NamedTuple):
    """A message and its address; None for one that stands for others."""

    message: Message
    address: MessageAddress | None


class CompactionPoint(NamedTuple):
    """Where what the next run is given begins, and what stands for all before it."""

    address: MessageAddress = MessageAddress(0, 0)
    head: tuple[Message, ...] = ()

    def includes(self, row: MessageRow) -> bool:
        """Whether the message is still given."""
        return (row.run, row.place) >= self.address


class SessionStore:
    """The sessions in a file; None is the user's own (`default_path`).

    Every method raises SessionError for a file that cannot be used, and UsageError for a session
    that is not there.
    """

    def __init__(self, path: str | Path | None = None) -> None:
        self.path = Path(path) if path is not None else default_path()
        self.database = SessionDatabase(self.path)

    # What is put down.

    def save(self, session: str, result: RunResult[Any]) -> None:  # Any: of whatever type
        """Puts down what a run has come to, in place of what was known of it."""
        now = time.time()
        with self.database.write_transaction() as connection:
            find_session_number(connection, session)
            (number,) = connection.execute(
                "INSERT INTO sessions (id, began, changed) VALUES (?, ?, ?) "
                "ON CONFLICT (id) DO UPDATE SET changed = excluded.changed RETURNING number",
                (session, now, now),
            ).fetchone()
            run = write_run(connection, number, result, now)
            write_messages(connection, run, result.new_messages, now)
            connection.executemany(
                "INSERT OR IGNORE INTO grants VALUES (?, ?)",
                [
                    (number, encode_json(approval_rule_to_json(grant)).decode())
                    for grant in result.approval_rules
                ],
            )

    def save_compaction(
        self, session: str, address: MessageAddress, head: Sequence[Message]
    ) -> None:
        """From now on the next run is given the head, and what is at this address and behind it."""
        with self.database.write_transaction() as connection:
            connection.execute(
                "INSERT INTO compactions (session, at, run, place, head) VALUES (?, ?, ?, ?, ?)",
                (
                    get_session_number(connection, session),
                    time.time(),
                    *address,
                    dump_messages(head),
                ),
            )

    def undo(self, session: str, run_id: str | None = None) -> tuple[StoredRun, ...]:
        """Takes the run of this id and all behind it out, and gives them.

        Without an id it is the last run that began with words of the user, if the next run is still
        given any of it. Raises UsageError where there is none.
        """
        if not self.database.exists:
            raise UsageError(_NOTHING_TO_UNDO)
        with self.database.write_transaction() as connection:
            number = find_session_number(connection, session) or 0
            runs = list(read_runs(connection, number))
            place = _find_undo_start(runs, _load_compaction_point(connection, number), run_id)
            delete_runs(connection, number, runs[place:])
            connection.execute("INSERT INTO words (words) VALUES ('optimize')")
        return tuple(map(_to_stored_run, runs[place:]))

    def rename(self, session: str, name: str) -> None:
        """Calls a session otherwise. Raises UsageError for a name that another one has."""
        with self.database.write_transaction() as connection:
            number = get_session_number(connection, session)
            if find_session_number(connection, name) is not None:
                raise UsageError(f"there is a session {name!r} already; choose another name")
            connection.execute("UPDATE sessions SET id = ? WHERE number = ?", (name, number))

    def delete(self, session: str) -> int:
        """Deletes a session, and wipes its text out of the file; gives how many messages it had."""
        with self.database.write_transaction() as connection:
            number = get_session_number(connection, session)
            rows = connection.execute(
                "SELECT messages.number FROM messages JOIN runs ON runs.number = run "
                "WHERE session = ?",
                (number,),
            ).fetchall()
            delete_messages(connection, [row for (row,) in rows])
            connection.execute("DELETE FROM sessions WHERE number = ?", (number,))
            connection.execute("INSERT INTO words (words) VALUES ('optimize')")
        return len(rows)

    # What can be asked.

    def load_snapshot(self, session: str, run_id: str = "") -> SessionSnapshot:
        """What the next run is given: the conversation but for the run of this id, and grants."""
        if not self.database.exists:
            return SessionSnapshot()
        with self.database.read_transaction() as connection:
            number = find_session_number(connection, session)
            if number is None:
                return SessionSnapshot()
            placed = _load_messages(connection, number, run_id)
            grants = connection.execute("SELECT body FROM grants WHERE session = ?", (number,))
            sure = tuple(approval_rule_from_json(orjson.loads(body)) for (body,) in grants)
        return SessionSnapshot(tuple(message for message, _ in placed), sure)

    def load_messages(self, session: str) -> list[StoredMessage]:
        """What the next run is given, each message with its address."""
        if not self.database.exists:
            return []
        with self.database.read_transaction() as connection:
            number = find_session_number(connection, session)
            return [] if number is None else _load_messages(connection, number)

    def check_pending(self, session: str, run_id: str, calls: Collection[str]) -> None:
        """Raises UsageError if the run does not wait for just these calls any more."""
        waiting = {result.run_id: result for result in self.load_paused_runs(session)}
        found = waiting.get(run_id)
        if found is None or {pending.call.id for pending in found.pending} != set(calls):
            raise UsageError(
                f"the run {run_id} of the session {session!r} does not wait for these calls: it "
                "has gone on since, or is none of this session. Nothing was carried out"
            )

    def load_paused_runs(self, session: str) -> tuple[RunResult[Any], ...]:  # Any: of whatever type
        """The runs of a session that wait for approval."""
        if not self.database.exists:
            return ()
        with self.database.read_transaction() as connection:
            found = connection.execute(
                "SELECT waiting FROM runs WHERE session = ? AND waiting IS NOT NULL "
                "ORDER BY number",
                (find_session_number(connection, session),),
            ).fetchall()
            return tuple(parse_stored(RunResult[Any].from_json, text) for (text,) in found)

    def load_usage(self, session: str) -> Usage:
        """What the runs of a session have used."""
        if not self.database.exists:
            return Usage()
        with self.database.read_transaction() as connection:
            found = connection.execute(
                "SELECT usage FROM runs WHERE session = ?",
                (find_session_number(connection, session),),
            ).fetchall()
            return sum((Usage(**orjson.loads(usage)) for (usage,) in found), Usage())

    def load_session(self, session: str) -> StoredSession:
        """A session, whole. Raises UsageError if there is none of this id."""
        if not self.database.exists:
            raise UsageError(f"there is no session {session!r}: no session has begun yet")
        with self.database.read_transaction() as connection:
            number = get_session_number(connection, session)
            cut = _load_compaction_point(connection, number)
            runs = list(read_runs(connection, number))
            began, changed = connection.execute(
                "SELECT began, changed FROM sessions WHERE number = ?", (number,)
            ).fetchone()
        gone = sum(not cut.includes(row) for run in runs for row in run.rows)
        return StoredSession(
            session, began, changed, tuple(map(_to_stored_run, runs)), gone, cut.head
        )

    def list_sessions(self) -> tuple[SessionSummary, ...]:
        """The sessions, the one that changed last first."""
        if not self.database.exists:
            return ()
        with self.database.read_transaction() as connection:
            found = connection.execute(
                "SELECT sessions.id, sessions.began, changed, count(runs.number), "
                "ifnull(sum(size), 0), count(waiting), "
                "(SELECT body FROM messages JOIN runs AS r ON r.number = run "
                "WHERE r.session = sessions.number AND place = 0 ORDER BY run LIMIT 1) "
                "FROM sessions LEFT JOIN runs ON session = sessions.number "
                "GROUP BY sessions.number ORDER BY changed DESC, sessions.number DESC"
            ).fetchall()
            for row in found:
                find_session_number(connection, row[0])
            return tuple(map(_to_summary, found))

    def search(
        self, words: str, session: str | None = None, limit: int = 50
    ) -> tuple[SearchHit, ...]:
        """The messages that hold all of the words, the best match first."""
        query = build_query(words)
        if not query:
            raise UsageError(f"{words!r} holds no word to search for")
        if not self.database.exists:
            return ()
        with self.database.read_transaction() as connection:
            if session is not None:
                get_session_number(connection, session)
            found = connection.execute(
                "SELECT sessions.id, messages.body, at, (SELECT count(*) FROM messages AS m JOIN "
                "runs AS r ON r.number = m.run WHERE r.session = sessions.number AND "
                "(m.run, m.place) < (messages.run, messages.place)) "
                "FROM words JOIN messages ON messages.number = words.rowid "
                "JOIN runs ON runs.number = run JOIN sessions ON sessions.number = session "
                "WHERE words MATCH ? AND (? IS NULL OR sessions.id = ?) ORDER BY rank LIMIT ?",
                (query, session, session, limit),
            ).fetchall()
            return tuple(_to_hit(words, *row) for row in found)


def _find_undo_start(runs: Sequence[RunRows], point: CompactionPoint, run_id: str | None) -> int:
    """Where in the runs that begins which is taken back. Raises UsageError."""
    if run_id is not None:
        places = [place for place, run in enumerate(runs) if run.id == run_id]
        if not places:
            raise UsageError(f"there is no run {run_id!r} in this session")
        return places[0]
    asked = [n for n, run in enumerate(runs) if run.has_user_prompt]
    if not asked or not any(point.includes(row) for run in runs[asked[-1] :] for row in run.rows):
        raise UsageError(_NOTHING_TO_UNDO)
    return asked[-1]


def _load_compaction_point(connection: Connection, session: int) -> CompactionPoint:
    found = connection.execute(
        "SELECT run, place, head FROM compactions WHERE session = ? ORDER BY number DESC LIMIT 1",
        (session,),
    ).fetchone()
    return (
        CompactionPoint()
        if found is None
        else CompactionPoint(
            MessageAddress(found[0], found[1]), parse_stored(load_messages, found[2])
        )
    )


def _load_messages(connection: Connection, session: int, without: str = "") -> list[StoredMessage]:
    """What the next run is given; tool pairs whole, whatever became of the runs."""
    cut = _load_compaction_point(connection, session)
    placed = [StoredMessage(message, None) for message in cut.head]
    for run in read_runs(connection, session):
        rows = [row for row in run.rows if cut.includes(row) and run.id != without]
        addresses = {id(row.message): MessageAddress(row.run, row.place) for row in rows}
        messages = fill_missing_results([row.message for row in rows], run.placeholder_results)
        placed += (StoredMessage(message, addresses.get(id(message))) for message in messages)
    return placed


def _to_stored_run(run: RunRows) -> StoredRun:
    messages = fill_missing_results([row.message for row in run.rows], run.placeholder_results)
    return StoredRun(run.id, run.began, run.agent, run.stop_reason, run.usage, messages)


def _to_summary(row: Sequence[Any]) -> SessionSummary:  # Any: SQLite's values
    session, began, changed, runs, messages, waiting, first = row
    return SessionSummary(session, began, changed, runs, messages, waiting, _make_title(first))


def _make_title(body: str | None) -> str:
    text = "" if body is None else " ".join(from_json(orjson.loads(body)).text.split())
    return text if len(text) <= _TITLE_LENGTH else text[: _TITLE_LENGTH - 1] + "…"


def _to_hit(words: str, session: str, body: str, at: float, place: int) -> SearchHit:
    wire = orjson.loads(body)
    text = extract_text(from_json(wire))
    return SearchHit(session, place, str(wire["role"]), at, extract_excerpt(text, words))
