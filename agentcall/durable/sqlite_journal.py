"""A journal in an SQLite file: for the processes of one machine, without a server.

Rules:
1. The file has a rollback journal and no write-ahead log, so that committed records are in the file
   itself. SQLite takes a damaged part of a write-ahead log for one that was never committed.
2. All that SQLite can check is checked when the file is opened: its pages, its size, the checksums
   of its headers. Checksums of records are checked when a run is read.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TypeVar

from agentcall.durable.journal import (
    FORMAT_VERSION,
    JournalTransaction,
    SQLRow,
    check_headers,
)
from agentcall.errors import JournalDamaged, JournalError, UsageError
from agentcall.storage.locks import LeaseOwner
from agentcall.storage.sqlite import (
    SQLiteFormat,
    connect,
    create_file,
    get_pragma,
    translate_errors,
)

T = TypeVar("T")

_FORMAT = SQLiteFormat(
    name="journal",
    application_id=0x61676361,  # "agca"
    version=FORMAT_VERSION,
    schema="""
CREATE TABLE agentcall_runs (
    run_id TEXT PRIMARY KEY, state TEXT NOT NULL, outcome TEXT NOT NULL, queue TEXT NOT NULL,
    title TEXT NOT NULL, records INTEGER NOT NULL, digest TEXT NOT NULL, seal TEXT NOT NULL,
    holder TEXT NOT NULL, until REAL NOT NULL, claims INTEGER NOT NULL, cancel INTEGER NOT NULL,
    created REAL NOT NULL
) WITHOUT ROWID;
CREATE TABLE agentcall_records (
    run_id TEXT NOT NULL, place INTEGER NOT NULL, kind TEXT NOT NULL, body TEXT NOT NULL,
    digest TEXT NOT NULL, PRIMARY KEY (run_id, place)
) WITHOUT ROWID;
""",
    create_pragmas=("synchronous = FULL",),
    pragmas=("journal_mode = PERSIST", "synchronous = FULL"),
    error=JournalError,
    damaged=JournalDamaged,
    text_errors="replace",
)


class SQLiteDatabase:
    """The file of a journal; see `JournalDatabase`."""

    lease_seconds = 0.0
    heartbeat_seconds = 1.0
    skip_locked_sql = ""

    def __init__(self, path: Path, *, make: bool = True) -> None:
        self.location = str(path)
        self._path = path
        self._lease_owner: LeaseOwner | None = None
        with translate_errors(path, _FORMAT):
            if not path.exists():
                if not make:
                    raise UsageError(f"there is no journal at {path}")
                create_file(path, _FORMAT)
            self._connection = connect(path, _FORMAT)
            try:
                self.read(self._check_content)
            except BaseException:
                self._connection.close()
                raise

    def transact(self, work: Callable[[JournalTransaction], T]) -> T:
        """Execute the work in a transaction that is on the disk when this returns."""
        return self._run_transaction("BEGIN IMMEDIATE", work)

    def read(self, work: Callable[[JournalTransaction], T]) -> T:
        """Execute work that changes nothing."""
        return self._run_transaction("BEGIN", work)

    def _run_transaction(self, begin: str, work: Callable[[JournalTransaction], T]) -> T:
        connection = self._connection
        with translate_errors(self._path, _FORMAT):
            connection.execute(begin)
            try:
                result = work(_SQLiteTransaction(connection))
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise
        return result

    def _check_content(self, transaction: JournalTransaction) -> None:
        pages = int(get_pragma(self._connection, "page_count"))
        page_size = int(get_pragma(self._connection, "page_size"))
        size = self._path.stat().st_size
        if size != pages * page_size:
            raise JournalDamaged(
                f"{self._path} has {size} bytes instead of {pages} pages of {page_size}"
            )
        problem = get_pragma(self._connection, "quick_check")
        if problem != "ok":
            raise JournalDamaged(f"{self._path} is damaged: {problem}")
        check_headers(transaction)

    def now(self) -> float:
        """Return the time of this machine's clock."""
        return time.time()

    @property
    def lease_owner(self) -> LeaseOwner:
        """This process as an owner of leases; created late, as reading needs no lease."""
        if self._lease_owner is None:
            self._lease_owner = LeaseOwner(self._path)
        return self._lease_owner

    def close(self) -> None:
        """Close the file."""
        self._connection.close()
        if self._lease_owner is not None:
            self._lease_owner.close()


class _SQLiteTransaction:
    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def execute(self, sql: str, *values: object) -> int:
        return self._connection.execute(sql, values).rowcount

    def query(self, sql: str, *values: object) -> Iterable[SQLRow]:
        return self._connection.execute(sql, values)
