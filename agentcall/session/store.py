"""A file of sessions: what is put down in it, and what can be asked of it."""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from pathlib import Path
from sqlite3 import Connection
from typing import Any, NamedTuple

import orjson

from agentcall.errors import UsageError
from agentcall.grants import grant_from, grant_json
from agentcall.history import completed
from agentcall.memory import Memory
from agentcall.messages import Message, Usage, dump, encoded, from_json, load
from agentcall.result import RunResult
from agentcall.session.database import Database, default_path
from agentcall.session.record import Found, KeptRun, KeptSession, Listed
from agentcall.session.rows import (
    Row,
    RunRows,
    forget,
    forget_runs,
    found_number,
    read_runs,
    session_number,
    sound,
    write_messages,
    write_run,
)
from agentcall.session.search import excerpt, query_of, text_of

_TITLE = 80
_NOTHING = "there is nothing to take back: nothing has been asked yet, or it is summed up already"


class Address(NamedTuple):
    """Where a message stands in a session: the number of its run, and its place in it."""

    run: int
    place: int


class Placed(NamedTuple):
    """A message and its address; None for one that stands for others."""

    message: Message
    address: Address | None


class Cut(NamedTuple):
    """Where what the next run is given begins, and what stands for all before it."""

    address: Address = Address(0, 0)
    head: tuple[Message, ...] = ()

    def leaves(self, row: Row) -> bool:
        """Whether the message is still given."""
        return (row.run, row.place) >= self.address


class Store:
    """The sessions in a file; None is the user's own (`default_path`).

    Every method raises SessionError for a file that cannot be used, and UsageError for a session
    that is not there.
    """

    def __init__(self, path: str | Path | None = None) -> None:
        self.path = Path(path) if path is not None else default_path()
        self.database = Database(self.path)

    # What is put down.

    def keep(self, session: str, result: RunResult[Any]) -> None:  # Any: of whatever type
        """Puts down what a run has come to, in place of what was known of it."""
        now = time.time()
        with self.database.writing() as connection:
            found_number(connection, session)
            (number,) = connection.execute(
                "INSERT INTO sessions (id, began, changed) VALUES (?, ?, ?) "
                "ON CONFLICT (id) DO UPDATE SET changed = excluded.changed RETURNING number",
                (session, now, now),
            ).fetchone()
            run = write_run(connection, number, result, now)
            write_messages(connection, run, result.new_messages, now)
            connection.executemany(
                "INSERT OR IGNORE INTO grants VALUES (?, ?)",
                [(number, encoded(grant_json(grant)).decode()) for grant in result.grants],
            )

    def compact(self, session: str, address: Address, head: Sequence[Message]) -> None:
        """From now on the next run is given the head, and what is at this address and behind it."""
        with self.database.writing() as connection:
            connection.execute(
                "INSERT INTO compactions (session, at, run, place, head) VALUES (?, ?, ?, ?, ?)",
                (session_number(connection, session), time.time(), *address, dump(head)),
            )

    def take_back(self, session: str, run_id: str | None = None) -> tuple[KeptRun, ...]:
        """Takes the run of this id and all behind it out, and gives them.

        Without an id it is the last run that began with words of the user, if the next run is still
        given any of it. Raises UsageError where there is none.
        """
        if not self.database.exists:
            raise UsageError(_NOTHING)
        with self.database.writing() as connection:
            number = found_number(connection, session) or 0
            runs = list(read_runs(connection, number))
            place = _begin(runs, _cut(connection, number), run_id)
            forget_runs(connection, number, runs[place:])
            connection.execute("INSERT INTO words (words) VALUES ('optimize')")
        return tuple(map(_kept, runs[place:]))

    def rename(self, session: str, name: str) -> None:
        """Calls a session otherwise. Raises UsageError for a name that another one has."""
        with self.database.writing() as connection:
            number = session_number(connection, session)
            if found_number(connection, name) is not None:
                raise UsageError(f"there is a session {name!r} already; choose another name")
            connection.execute("UPDATE sessions SET id = ? WHERE number = ?", (name, number))

    def delete(self, session: str) -> int:
        """Deletes a session, and wipes its text out of the file; gives how many messages it had."""
        with self.database.writing() as connection:
            number = session_number(connection, session)
            rows = connection.execute(
                "SELECT messages.number FROM messages JOIN runs ON runs.number = run "
                "WHERE session = ?",
                (number,),
            ).fetchall()
            forget(connection, [row for (row,) in rows])
            connection.execute("DELETE FROM sessions WHERE number = ?", (number,))
            connection.execute("INSERT INTO words (words) VALUES ('optimize')")
        return len(rows)

    # What can be asked.

    def memory(self, session: str, run_id: str = "") -> Memory:
        """What the next run is given: the conversation but for the run of this id, and grants."""
        if not self.database.exists:
            return Memory()
        with self.database.reading() as connection:
            number = found_number(connection, session)
            if number is None:
                return Memory()
            placed = _placed(connection, number, run_id)
            grants = connection.execute("SELECT body FROM grants WHERE session = ?", (number,))
            sure = tuple(grant_from(orjson.loads(body)) for (body,) in grants)
        return Memory(tuple(message for message, _ in placed), sure)

    def placed(self, session: str) -> list[Placed]:
        """What the next run is given, each message with its address."""
        if not self.database.exists:
            return []
        with self.database.reading() as connection:
            number = found_number(connection, session)
            return [] if number is None else _placed(connection, number)

    def check_waits(self, session: str, run_id: str, calls: Collection[str]) -> None:
        """Raises UsageError if the run does not wait for just these calls any more."""
        waiting = {result.run_id: result for result in self.waiting(session)}
        found = waiting.get(run_id)
        if found is None or {pending.call.id for pending in found.pending} != set(calls):
            raise UsageError(
                f"the run {run_id} of the session {session!r} does not wait for these calls: it "
                "has gone on since, or is none of this session. Nothing was carried out"
            )

    def waiting(self, session: str) -> tuple[RunResult[Any], ...]:  # Any: of whatever type
        """The runs of a session that wait for approval."""
        if not self.database.exists:
            return ()
        with self.database.reading() as connection:
            found = connection.execute(
                "SELECT waiting FROM runs WHERE session = ? AND waiting IS NOT NULL "
                "ORDER BY number",
                (found_number(connection, session),),
            ).fetchall()
            return tuple(sound(RunResult[Any].from_json, text) for (text,) in found)

    def usage(self, session: str) -> Usage:
        """What the runs of a session have used."""
        if not self.database.exists:
            return Usage()
        with self.database.reading() as connection:
            found = connection.execute(
                "SELECT usage FROM runs WHERE session = ?", (found_number(connection, session),)
            ).fetchall()
            return sum((Usage(**orjson.loads(usage)) for (usage,) in found), Usage())

    def show(self, session: str) -> KeptSession:
        """A session, whole. Raises UsageError if there is none of this id."""
        if not self.database.exists:
            raise UsageError(f"there is no session {session!r}: no session has begun yet")
        with self.database.reading() as connection:
            number = session_number(connection, session)
            cut = _cut(connection, number)
            runs = list(read_runs(connection, number))
            began, changed = connection.execute(
                "SELECT began, changed FROM sessions WHERE number = ?", (number,)
            ).fetchone()
        gone = sum(not cut.leaves(row) for run in runs for row in run.rows)
        return KeptSession(session, began, changed, tuple(map(_kept, runs)), gone, cut.head)

    def list(self) -> tuple[Listed, ...]:
        """The sessions, the one that changed last first."""
        if not self.database.exists:
            return ()
        with self.database.reading() as connection:
            found = connection.execute(
                "SELECT sessions.id, sessions.began, changed, count(runs.number), "
                "ifnull(sum(size), 0), count(waiting), "
                "(SELECT body FROM messages JOIN runs AS r ON r.number = run "
                "WHERE r.session = sessions.number AND place = 0 ORDER BY run LIMIT 1) "
                "FROM sessions LEFT JOIN runs ON session = sessions.number "
                "GROUP BY sessions.number ORDER BY changed DESC, sessions.number DESC"
            ).fetchall()
            for row in found:
                found_number(connection, row[0])
            return tuple(map(_listed, found))

    def search(self, words: str, session: str | None = None, most: int = 50) -> tuple[Found, ...]:
        """The messages that hold all of the words, the best match first."""
        query = query_of(words)
        if not query:
            raise UsageError(f"{words!r} holds no word to search for")
        if not self.database.exists:
            return ()
        with self.database.reading() as connection:
            if session is not None:
                session_number(connection, session)
            found = connection.execute(
                "SELECT sessions.id, messages.body, at, (SELECT count(*) FROM messages AS m JOIN "
                "runs AS r ON r.number = m.run WHERE r.session = sessions.number AND "
                "(m.run, m.place) < (messages.run, messages.place)) "
                "FROM words JOIN messages ON messages.number = words.rowid "
                "JOIN runs ON runs.number = run JOIN sessions ON sessions.number = session "
                "WHERE words MATCH ? AND (? IS NULL OR sessions.id = ?) ORDER BY rank LIMIT ?",
                (query, session, session, most),
            ).fetchall()
            return tuple(_found(words, *row) for row in found)


def _begin(runs: Sequence[RunRows], cut: Cut, run_id: str | None) -> int:
    """Where in the runs that begins which is taken back. Raises UsageError."""
    if run_id is not None:
        places = [place for place, run in enumerate(runs) if run.id == run_id]
        if not places:
            raise UsageError(f"there is no run {run_id!r} in this session")
        return places[0]
    asked = [n for n, run in enumerate(runs) if run.begins_with_user]
    if not asked or not any(cut.leaves(row) for run in runs[asked[-1] :] for row in run.rows):
        raise UsageError(_NOTHING)
    return asked[-1]


def _cut(connection: Connection, session: int) -> Cut:
    found = connection.execute(
        "SELECT run, place, head FROM compactions WHERE session = ? ORDER BY number DESC LIMIT 1",
        (session,),
    ).fetchone()
    return Cut() if found is None else Cut(Address(found[0], found[1]), sound(load, found[2]))


def _placed(connection: Connection, session: int, without: str = "") -> list[Placed]:
    """What the next run is given; tool pairs whole, whatever became of the runs."""
    cut = _cut(connection, session)
    placed = [Placed(message, None) for message in cut.head]
    for run in read_runs(connection, session):
        rows = [row for row in run.rows if cut.leaves(row) and run.id != without]
        addresses = {id(row.message): Address(row.run, row.place) for row in rows}
        messages = completed([row.message for row in rows], run.known)
        placed += (Placed(message, addresses.get(id(message))) for message in messages)
    return placed


def _kept(run: RunRows) -> KeptRun:
    messages = completed([row.message for row in run.rows], run.known)
    return KeptRun(run.id, run.began, run.agent, run.stop_reason, run.usage, messages)


def _listed(row: Sequence[Any]) -> Listed:  # Any: SQLite's values
    session, began, changed, runs, messages, waiting, first = row
    return Listed(session, began, changed, runs, messages, waiting, _title(first))


def _title(body: str | None) -> str:
    text = "" if body is None else " ".join(from_json(orjson.loads(body)).text.split())
    return text if len(text) <= _TITLE else text[: _TITLE - 1] + "…"


def _found(words: str, session: str, body: str, at: float, place: int) -> Found:
    wire = orjson.loads(body)
    text = text_of(from_json(wire))
    return Found(session, place, str(wire["role"]), at, excerpt(text, words))
