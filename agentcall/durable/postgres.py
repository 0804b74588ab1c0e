"""A journal in PostgreSQL: for many machines. Needs the extra `agentcall[durable]`.

A hold lasts `lease` seconds by the server's clock and is renewed four times in that time; when its
process is gone, another one takes the run over after that.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import TypeVar, cast

import psycopg

from agentcall.durable.database import Row, Session
from agentcall.durable.holder import Holder
from agentcall.errors import JournalDamaged, JournalError

T = TypeVar("T")

FORMAT = 1
PATIENCE = 30.0
"""Seconds in which a broken connection may come back."""

_PAUSE = 0.25
_LOCK = 0x61676361
_TABLES = """
CREATE TABLE IF NOT EXISTS agentcall_format (version INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS agentcall_runs (
    run_id TEXT PRIMARY KEY, state TEXT NOT NULL, outcome TEXT NOT NULL, queue TEXT NOT NULL,
    title TEXT NOT NULL, records INTEGER NOT NULL, digest TEXT NOT NULL, seal TEXT NOT NULL,
    holder TEXT NOT NULL, until DOUBLE PRECISION NOT NULL, claims INTEGER NOT NULL,
    cancel INTEGER NOT NULL, created DOUBLE PRECISION NOT NULL
);
CREATE INDEX IF NOT EXISTS agentcall_open ON agentcall_runs (queue, created, run_id)
    WHERE state = 'open';
CREATE TABLE IF NOT EXISTS agentcall_records (
    run_id TEXT NOT NULL, place INTEGER NOT NULL, kind TEXT NOT NULL, body TEXT NOT NULL,
    digest TEXT NOT NULL, PRIMARY KEY (run_id, place)
);
"""


class Postgres:
    """The tables of a journal; `Database` says what it does."""

    skip = " FOR UPDATE SKIP LOCKED"

    def __init__(self, url: str, place: str, *, lease: float = 30.0) -> None:
        self.place = place
        self.lease = lease
        self.beat = lease / 4
        self._url = url
        self._holder = Holder(Path(tempfile.gettempdir()) / "agentcall")
        self._connection: psycopg.Connection | None = None
        self._ahead: float | None = None
        try:
            self.transact(_made)
        except BaseException:
            self.close()
            raise

    def transact(self, work: Callable[[Session], T]) -> T:
        """Does the work in one transaction; again on a new connection, if the old one broke."""
        end = time.monotonic() + PATIENCE
        while True:
            try:
                connection = self._connected()
                with connection.transaction():
                    return work(_Session(connection))
            except psycopg.Error as error:
                if not self._may_come_back(error) or time.monotonic() > end:
                    raise JournalError(f"the journal {self.place} failed: {error}") from error
            self._drop()
            time.sleep(_PAUSE)

    def _may_come_back(self, error: psycopg.Error) -> bool:
        """Whether the connection broke, or the server that we knew is not there."""
        is_lost = isinstance(error, (psycopg.OperationalError, psycopg.InterfaceError))
        is_open = self._connection is not None and not self._connection.closed
        return is_lost and not is_open and self._ahead is not None

    def look(self, work: Callable[[Session], T]) -> T:
        """As `transact`."""
        return self.transact(work)

    def now(self) -> float:
        """The server's clock, which is asked when we connect."""
        return time.monotonic() + (self._ahead or 0.0)

    def hold(self) -> str:
        """A new name for a hold of this process."""
        return self._holder.hold()

    def drop(self, hold: str) -> None:
        """Forgets a hold of this process."""
        self._holder.drop(hold)

    def lives(self, hold: str) -> bool | None:
        """False for a process of this machine that is gone; of others only the lease can tell."""
        return False if self._holder.lives(hold) is False else None

    def close(self) -> None:
        """Closes the connection."""
        self._drop()
        self._holder.close()

    def _connected(self) -> psycopg.Connection:
        if self._connection is None or self._connection.closed:
            self._connection = connection = psycopg.connect(
                self._url, autocommit=True, application_name="agentcall", connect_timeout=10
            )
            row = connection.execute("SELECT extract(epoch FROM clock_timestamp())::float8")
            self._ahead = cast("tuple[float]", row.fetchone())[0] - time.monotonic()
        return self._connection

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(psycopg.Error):
                connection.close()


class _Session:
    def __init__(self, connection: psycopg.Connection) -> None:
        self._connection = connection

    def change(self, sql: str, *values: object) -> int:
        return self._connection.execute(_marked(sql), values).rowcount

    def rows(self, sql: str, *values: object) -> Iterable[Row]:
        return self._connection.execute(_marked(sql), values)


def _marked(sql: str) -> bytes:
    return sql.replace("?", "%s").encode()


def _made(session: Session) -> None:
    """Makes the tables where there are none. Raises JournalDamaged for those of another format."""
    session.change(f"SELECT pg_advisory_xact_lock({_LOCK})")
    for statement in _TABLES.split(";"):
        if statement.strip():
            session.change(statement)
    versions = [row[0] for row in session.rows("SELECT version FROM agentcall_format")]
    if not versions:
        session.change("INSERT INTO agentcall_format VALUES (?)", FORMAT)
    elif versions != [FORMAT]:
        raise JournalDamaged(
            f"the journal has the format {versions[0]}, and this agentcall knows format {FORMAT} "
            "alone; use the agentcall that wrote it, or a newer one"
        )
