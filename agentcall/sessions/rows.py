"""The rows of a session file as messages, each checked against its checksum.

What a session file holds, as values.
"""

from __future__ import annotations

import time
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import groupby
from sqlite3 import Connection
from typing import Any, NamedTuple, TypeVar

import orjson

from agentcall.errors import SessionError, UsageError
from agentcall.messages import Message, ToolResult, Usage, User, encode_json, from_json, to_json
from agentcall.result import RunResult, run_result_to_json
from agentcall.sessions.database import extract_text, separate_cjk


@dataclass(frozen=True, slots=True)
class SessionSummary:
    """A session in a list; times are seconds since the epoch.

    title: the first words of the user. waiting: runs that wait for approval.
    """

    id: str
    began: float
    changed: float
    runs: int
    messages: int
    waiting: int
    title: str


@dataclass(frozen=True, slots=True)
class StoredRun:
    """A run of a session, with its own messages."""

    id: str
    began: float
    agent: str
    stop_reason: str
    usage: Usage
    messages: tuple[Message, ...]


@dataclass(frozen=True, slots=True)
class StoredSession:
    """A session, whole.

    compacted: how many of its messages the next run is no longer given; `head` stands for them.
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
    """A message that a search found: where, whose, and the words around the hit."""

    session: str
    place: int
    role: str
    at: float
    excerpt: str


Result = RunResult[Any]  # Any: the output's type does not matter here

T = TypeVar("T")

AWAITING_APPROVAL = "This call waits for a person's approval and has not been carried out."


class MessageRow(NamedTuple):
    """A message and where it stands."""

    number: int
    run: int
    place: int
    at: float
    message: Message


@dataclass(frozen=True, slots=True)
class RunRows:
    """A run of a session and its messages."""

    number: int
    id: str
    began: float
    agent: str
    stop_reason: str
    usage: Usage
    paused_result: Result | None
    rows: tuple[MessageRow, ...]

    @property
    def has_user_prompt(self) -> bool:
        """Whether something was asked, rather than an earlier run gone on with."""
        return bool(self.rows) and isinstance(self.rows[0].message, User)

    @property
    def placeholder_results(self) -> dict[str, ToolResult]:
        """What stands for the results of calls that wait for approval."""
        if self.paused_result is None:
            return {}
        calls = [pending.call for pending in self.paused_result.own_pending]
        calls += [paused.call for paused in self.paused_result.paused]
        return {
            c.id: ToolResult(c.id, c.name, AWAITING_APPROVAL, is_error=True, assessed=True)
            for c in calls
        }


def read_runs(connection: Connection, session: int) -> Iterator[RunRows]:
    """The runs of a session, in order. Raises SessionError for rows that are damaged."""
    heads = connection.execute(
        "SELECT number, id, began, agent, stop_reason, usage, waiting, size FROM runs "
        "WHERE session = ? ORDER BY number",
        (session,),
    ).fetchall()
    rows = {
        run: tuple(each) for run, each in groupby(_read_rows(connection, session), _get_run_number)
    }
    for number, name, began, agent, stop_reason, usage, waiting, size in heads:
        own = rows.get(number, ())
        if [row.place for row in own] != list(range(size)):
            raise SessionError(f"the session file is damaged: run {name} lacks messages")
        state = None if waiting is None else parse_stored(RunResult[Any].from_json, waiting)
        used = Usage(**orjson.loads(usage))
        yield RunRows(number, name, began, agent, stop_reason, used, state, own)


def _read_rows(connection: Connection, session: int) -> Iterator[MessageRow]:
    found = connection.execute(
        "SELECT messages.number, run, place, at, body, checksum FROM messages "
        "JOIN runs ON runs.number = run WHERE session = ? ORDER BY run, place",
        (session,),
    )
    for number, run, place, at, body, checksum in found:
        if checksum != _compute_checksum(run, place, body):
            raise SessionError(f"the session file is damaged: message {number} has changed")
        yield MessageRow(number, run, place, at, from_json(orjson.loads(body)))


def _get_run_number(row: MessageRow) -> int:
    return row.run


def write_run(connection: Connection, session: int, result: Result, now: float) -> int:
    """Puts down how a run stands, and gives its number."""
    state = encode_json(run_result_to_json(result)).decode() if result.pending else None
    size = len(result.new_messages)
    usage = orjson.dumps(asdict(result.usage)).decode()
    (number,) = connection.execute(
        "INSERT INTO runs (session, id, began, agent, stop_reason, usage, size, waiting) "
        "VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (session, id) DO UPDATE SET "
        "agent = excluded.agent, stop_reason = excluded.stop_reason, usage = excluded.usage, "
        "size = excluded.size, waiting = excluded.waiting RETURNING number",
        (session, result.run_id, now, result.agent, result.stop_reason, usage, size, state),
    ).fetchone()
    return int(number)


def write_messages(
    connection: Connection, run: int, messages: Sequence[Message], now: float
) -> None:
    """Puts the messages of a run down; those that are there already and are the same, stay."""
    bodies = [encode_json(to_json(message)).decode() for message in messages]
    there: list[tuple[int, str]] = connection.execute(
        "SELECT number, body FROM messages WHERE run = ? ORDER BY place", (run,)
    ).fetchall()
    same = 0
    while same < min(len(there), len(bodies)) and there[same][1] == bodies[same]:
        same += 1
    delete_messages(connection, (number for number, _ in there[same:]))
    for place in range(same, len(bodies)):
        body = bodies[place]
        (number,) = connection.execute(
            "INSERT INTO messages (run, place, at, body, checksum) VALUES (?, ?, ?, ?, ?) "
            "RETURNING number",
            (run, place, now, body, _compute_checksum(run, place, body)),
        ).fetchone()
        words = separate_cjk(extract_text(messages[place]))
        connection.execute("INSERT INTO words (rowid, text) VALUES (?, ?)", (number, words))


def delete_messages(connection: Connection, numbers: Iterable[int]) -> None:
    """Deletes messages, and their words."""
    for number in numbers:
        connection.execute("DELETE FROM words WHERE rowid = ?", (number,))
        connection.execute("DELETE FROM messages WHERE number = ?", (number,))


def delete_runs(connection: Connection, session: int, runs: Sequence[RunRows]) -> None:
    """Deletes the last runs of a session, and each compaction that took a part of them out."""
    delete_messages(connection, [row.number for run in runs for row in run.rows])
    first = runs[0].number
    connection.execute("DELETE FROM runs WHERE session = ? AND number >= ?", (session, first))
    connection.execute("UPDATE sessions SET changed = ? WHERE number = ?", (time.time(), session))
    connection.execute(
        "DELETE FROM compactions WHERE session = ? AND (run, place) > (?, 0)", (session, first)
    )


def find_session_number(connection: Connection, session: str) -> int | None:
    """The number of a session, if there is one of this id. Raises SessionError.

    An id stands in the file twice, in the table and in its index: where one of them has changed,
    they differ, and the session is not taken for one that has not begun.
    """
    found = connection.execute("SELECT number FROM sessions WHERE id = ?", (session,)).fetchone()
    if found is None:
        there = "SELECT number FROM sessions NOT INDEXED WHERE id = ?"
        if connection.execute(there, (session,)).fetchone() is not None:
            raise SessionError(f"the session file is damaged: the session {session!r} is not found")
        return None
    number = int(found[0])
    same = connection.execute("SELECT id FROM sessions WHERE number = ?", (number,)).fetchone()
    if same != (session,):
        raise SessionError(f"the session file is damaged: the id {session!r} has changed")
    return number


def get_session_number(connection: Connection, session: str) -> int:
    """The number of a session. Raises UsageError if there is none of this id."""
    number = find_session_number(connection, session)
    if number is None:
        raise UsageError(f"there is no session {session!r}; `agentcall sessions list` shows all")
    return number


def parse_stored(read: Callable[[str], T], text: str) -> T:
    """What is read from a text of the file. Raises SessionError where it cannot be."""
    try:
        return read(text)
    except UsageError as error:
        raise SessionError(f"the session file is damaged: {error}") from error


def _compute_checksum(run: int, place: int, body: str) -> int:
    return zlib.crc32(f"{run}:{place}:{body}".encode())
