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

from agentcall.durable.database import JournalTransaction, SQLRow
from agentcall.errors import JournalDamaged, JournalError
from agentcall.storage.locks import LeaseOwner

T = TypeVar("T")

FORMAT = 1
RECONNECT_TIMEOUT = 30.0
"""Seconds in which a broken connection may come back."""

_RETRY_PAUSE = 0.25
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


class PostgresDatabase:
    """The tables of a journal; `Database` says what it does."""

    skip_locked_sql = " FOR UPDATE SKIP LOCKED"

    def __init__(self, url: str, location: str, *, lease: float = 30.0) -> None:
        self.location = location
        self.lease_seconds = lease
        self.heartbeat_seconds = lease / 4
        self._url = url
        self._lease_owner = LeaseOwner(Path(tempfile.gettempdir()) / "agentcall")
        self._connection: psycopg.Connection | None = None
        self._clock_offset: float | None = None
        try:
            self.transact(_create_tables)
        except BaseException:
            self.close()
            raise

    def transact(self, work: Callable[[JournalTransaction], T]) -> T:
        """Does the work in one transaction; again on a new connection, if the old one broke."""
        end = time.monotonic() + RECONNECT_TIMEOUT
        while True:
            try:
                connection = self._connect()
                with connection.transaction():
                    return work(_PostgresTransaction(connection))
            except psycopg.Error as error:
                if not self._is_retryable(error) or time.monotonic() > end:
                    raise JournalError(f"the journal {self.location} failed: {error}") from error
            self._disconnect()
            time.sleep(_RETRY_PAUSE)

    def _is_retryable(self, error: psycopg.Error) -> bool:
        """Whether the connection broke, or the server that we knew is not there."""
        is_lost = isinstance(error, (psycopg.OperationalError, psycopg.InterfaceError))
        is_open = self._connection is not None and not self._connection.closed
        return is_lost and not is_open and self._clock_offset is not None

    def read(self, work: Callable[[JournalTransaction], T]) -> T:
        """As `transact`."""
        return self.transact(work)

    def now(self) -> float:
        """The server's clock, which is asked when we connect."""
        return time.monotonic() + (self._clock_offset or 0.0)

    def create_lease(self) -> str:
        """A new name for a hold of this process."""
        return self._lease_owner.create_lease()

    def drop_lease(self, lease_id: str) -> None:
        """Forgets a hold of this process."""
        self._lease_owner.drop_lease(lease_id)

    def is_lease_alive(self, lease_id: str) -> bool | None:
        """False for a process of this machine that is gone; of others only the lease can tell."""
        return False if self._lease_owner.is_lease_alive(lease_id) is False else None

    def close(self) -> None:
        """Closes the connection."""
        self._disconnect()
        self._lease_owner.close()

    def _connect(self) -> psycopg.Connection:
        if self._connection is None or self._connection.closed:
            self._connection = connection = psycopg.connect(
                self._url, autocommit=True, application_name="agentcall", connect_timeout=10
            )
            row = connection.execute("SELECT extract(epoch FROM clock_timestamp())::float8")
            self._clock_offset = cast("tuple[float]", row.fetchone())[0] - time.monotonic()
        return self._connection

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(psycopg.Error):
                connection.close()


class _PostgresTransaction:
    def __init__(self, connection: psycopg.Connection) -> None:
        self._connection = connection

    def execute(self, sql: str, *values: object) -> int:
        return self._connection.execute(_convert_placeholders(sql), values).rowcount

    def query(self, sql: str, *values: object) -> Iterable[SQLRow]:
        return self._connection.execute(_convert_placeholders(sql), values)


def _convert_placeholders(sql: str) -> bytes:
    return sql.replace("?", "%s").encode()


def _create_tables(transaction: JournalTransaction) -> None:
    """Makes the tables where there are none. Raises JournalDamaged for those of another format."""
    transaction.execute(f"SELECT pg_advisory_xact_lock({_LOCK})")
    for statement in _TABLES.split(";"):
        if statement.strip():
            transaction.execute(statement)
    versions = [row[0] for row in transaction.query("SELECT version FROM agentcall_format")]
    if not versions:
        transaction.execute("INSERT INTO agentcall_format VALUES (?)", FORMAT)
    elif versions != [FORMAT]:
        raise JournalDamaged(
            f"the journal has the format {versions[0]}, and this agentcall knows format {FORMAT} "
            "alone; use the agentcall that wrote it, or a newer one"
        )
