"""A journal in PostgreSQL: for many machines. Needs the extra `agentcall[durable]`.

A lease expires after `lease` seconds of the server's clock and is renewed four times in that time.
When its process dies, another one takes the run over after the expiry.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import TypeVar, cast

import psycopg

from agentcall.durable.journal import FORMAT_VERSION, JournalTransaction, SQLRow
from agentcall.errors import JournalDamaged, JournalError
from agentcall.storage.locks import LeaseOwner

T = TypeVar("T")

RECONNECT_TIMEOUT = 30.0
"""Seconds for which a broken connection is retried."""

_KEPT_SECONDS = 24 * 3600.0
"""How long the file of a dead process stays: longer than any lease."""

_RETRY_PAUSE = 0.25
_LOCK_ID = 0x61676361
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
    """The tables of a journal; see `JournalDatabase`."""

    skip_locked_sql = " FOR UPDATE SKIP LOCKED"

    def __init__(self, url: str, location: str, *, lease: float = 30.0) -> None:
        self.location = location
        self.lease_seconds = lease
        self.heartbeat_seconds = lease / 4
        self._url = url
        self.lease_owner = LeaseOwner(
            Path(tempfile.gettempdir()) / "agentcall", keep_seconds=_KEPT_SECONDS
        )
        self._connection: psycopg.Connection | None = None
        self._clock_offset: float | None = None
        try:
            self.transact(_create_tables)
        except BaseException:
            self.close()
            raise

    def transact(self, work: Callable[[JournalTransaction], T]) -> T:
        """Execute the work in a transaction; repeat it if the connection breaks."""
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
        """Return whether the connection broke, or a server that was reachable before is not."""
        is_lost = isinstance(error, (psycopg.OperationalError, psycopg.InterfaceError))
        is_open = self._connection is not None and not self._connection.closed
        return is_lost and not is_open and self._clock_offset is not None

    def read(self, work: Callable[[JournalTransaction], T]) -> T:
        """Execute work that changes nothing."""
        return self.transact(work)

    def now(self) -> float:
        """Return the time of the server's clock, which is read when a connection is made."""
        return time.monotonic() + (self._clock_offset or 0.0)

    def close(self) -> None:
        """Close the connection."""
        self._disconnect()
        self.lease_owner.close()

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
    """Create missing tables. Raises JournalDamaged if they have another format."""
    transaction.execute(f"SELECT pg_advisory_xact_lock({_LOCK_ID})")
    for statement in _TABLES.split(";"):
        if statement.strip():
            transaction.execute(statement)
    versions = [row[0] for row in transaction.query("SELECT version FROM agentcall_format")]
    if not versions:
        transaction.execute("INSERT INTO agentcall_format VALUES (?)", FORMAT_VERSION)
    elif versions != [FORMAT_VERSION]:
        raise JournalDamaged(
            f"the journal has the format {versions[0]}, and this agentcall reads format "
            f"{FORMAT_VERSION}; use the agentcall that wrote it, or a newer one"
        )
