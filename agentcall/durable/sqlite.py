"""A journal in an SQLite file: for the processes of one machine, without any server.

Rules:
1. A file is made whole under another name and then put in its place: so an empty or a half-made
   one is never a journal.
2. Rollback journal, not a write-ahead log: what is committed stands in the file itself. Of a
   write-ahead log SQLite takes a damaged part for one that was never committed, and says nothing.
3. The file is for its owner alone (mode 600), and so are those that SQLite makes beside it; one of
   ours that others may read is tightened.
4. What SQLite can check is checked when the file is opened: its pages, its size, its heads.
"""

from __future__ import annotations

import os
import secrets
import sqlite3
import time
from collections.abc import Callable, Iterable
from contextlib import closing, suppress
from pathlib import Path
from typing import TypeVar

from agentcall.durable.database import JournalTransaction, SQLRow
from agentcall.durable.journal import check_seals
from agentcall.errors import JournalDamaged, JournalError, UsageError
from agentcall.storage.locks import LeaseOwner
from agentcall.storage.private_files import open_private, tighten

T = TypeVar("T")

FORMAT = 1
_APPLICATION_ID = 0x61676361
"""SQLite's application_id of a journal: "agca"."""

_BUSY_TIMEOUT = 30.0
"""Seconds to wait for another process's transaction."""

_TABLES = """
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
"""


class SQLiteDatabase:
    """The file of a journal; `Database` says what it does."""

    lease_seconds = 0.0
    heartbeat_seconds = 1.0
    skip_locked_sql = ""

    def __init__(self, path: Path, *, make: bool = True) -> None:
        self.location = str(path)
        self._path = path
        self._lease_owner: LeaseOwner | None = None
        if not path.exists():
            if not make:
                raise UsageError(f"there is no journal at {path}")
            _create_file(path)
        self._connection = _open_file(path)

    def transact(self, work: Callable[[JournalTransaction], T]) -> T:
        """Does the work in one transaction, which is on the disk when this returns."""
        return self._run_transaction("BEGIN IMMEDIATE", work)

    def read(self, work: Callable[[JournalTransaction], T]) -> T:
        """What the work reads; it has to change nothing."""
        return self._run_transaction("BEGIN", work)

    def _run_transaction(self, begin: str, work: Callable[[JournalTransaction], T]) -> T:
        connection = self._connection
        try:
            connection.execute(begin)
            try:
                given = work(_SQLiteTransaction(connection))
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise
        except (sqlite3.Error, UnicodeError) as error:
            raise _translate_error(self._path, error) from error
        return given

    def now(self) -> float:
        """This machine's clock."""
        return time.time()

    def create_lease(self) -> str:
        """A new name for a hold of this process."""
        if self._lease_owner is None:
            self._lease_owner = LeaseOwner(self._path)
        return self._lease_owner.create_lease()

    def drop_lease(self, lease_id: str) -> None:
        """Forgets a hold of this process."""
        if self._lease_owner is not None:
            self._lease_owner.drop_lease(lease_id)

    def is_lease_alive(self, lease_id: str) -> bool:
        """Whether the process of a hold is there."""
        if self._lease_owner is None:
            self._lease_owner = LeaseOwner(self._path)
        return self._lease_owner.is_lease_alive(lease_id) is True

    def close(self) -> None:
        """Closes the file."""
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


def _create_file(path: Path) -> None:
    """Makes an empty journal; does nothing if another process was faster."""
    made = path.with_name(f"{path.name}-new-{os.getpid()}-{secrets.token_hex(4)}")
    try:
        os.close(open_private(made, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
        with closing(sqlite3.connect(made, isolation_level=None)) as connection:
            connection.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
            connection.execute(f"PRAGMA user_version = {FORMAT}")
            connection.executescript(f"PRAGMA synchronous = FULL; BEGIN; {_TABLES} COMMIT;")
        with suppress(FileExistsError):
            os.link(made, path)  # unlike a rename, it never takes another one's place
    except (sqlite3.Error, OSError) as error:
        raise JournalError(f"no journal can be made at {path}: {error}") from error
    finally:
        made.unlink(missing_ok=True)


def _open_file(path: Path) -> sqlite3.Connection:
    tighten(path, path.with_name(f"{path.name}-journal"))
    if path.stat().st_size == 0:
        raise JournalDamaged(f"{path} is empty, and a journal never is; it has lost what it held")
    try:
        connection = sqlite3.connect(
            path, timeout=_BUSY_TIMEOUT, isolation_level=None, check_same_thread=False
        )
    except sqlite3.Error as error:
        raise _translate_error(path, error) from error
    connection.text_factory = _decode_text
    try:
        _check_file(connection, path)
        connection.execute("PRAGMA journal_mode = PERSIST")
        connection.execute("PRAGMA synchronous = FULL")
    except (sqlite3.Error, UnicodeError) as error:
        connection.close()
        raise _translate_error(path, error) from error
    except BaseException:
        connection.close()
        raise
    return connection


def _check_file(connection: sqlite3.Connection, path: Path) -> None:
    def pragma(name: str) -> object:
        return connection.execute(f"PRAGMA {name}").fetchone()[0]

    connection.execute("BEGIN")
    if pragma("application_id") != _APPLICATION_ID:
        raise JournalDamaged(f"{path} is an SQLite file, but no journal of agentcall")
    version = pragma("user_version")
    if version != FORMAT:
        raise JournalDamaged(
            f"{path} has the format {version}, and this agentcall knows format {FORMAT} alone; "
            "use the agentcall that wrote it, or a newer one"
        )
    size, pages, page = path.stat().st_size, pragma("page_count"), pragma("page_size")
    if size != int(str(pages)) * int(str(page)):
        raise JournalDamaged(f"{path} has {size} bytes instead of {pages} pages of {page}")
    said = pragma("quick_check")
    if said != "ok":
        raise JournalDamaged(f"{path} is damaged: {said}")
    check_seals(_SQLiteTransaction(connection))
    connection.execute("COMMIT")


def _decode_text(data: bytes) -> str:
    """What is no UTF-8 is no error here: its checksum will tell, and name the record."""
    return data.decode("utf-8", "replace")


def _translate_error(path: Path, error: sqlite3.Error | UnicodeError) -> JournalError:
    said = str(error)
    is_ours = isinstance(error, sqlite3.OperationalError) and "no such" not in said
    if is_ours:
        return JournalError(f"the journal {path} cannot be used: {said}")
    return JournalDamaged(f"{path} is no journal, or is damaged: {said}")
