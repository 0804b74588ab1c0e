"""An index of passages with SQLite's full text search (FTS5), ranked by BM25.

Words of a path and of headings count twice. `fts_terms` defines the words; `refresh` updates the
index from the files.
"""

import sqlite3
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from agentcall_tools.files.root_folder import RootFolder
from agentcall_tools.knowledge.fts_terms import build_match_query
from agentcall_tools.knowledge.passages import Passage
from agentcall_tools.knowledge.refresh import IndexRefresh, IndexReport, run_transaction

VERSION = 1
_LOCK_SECONDS = 30.0
_CREATE_TABLES = """
CREATE TABLE about (folder TEXT NOT NULL);
CREATE TABLE files (path TEXT PRIMARY KEY, size INTEGER, modified INTEGER, digest TEXT, why TEXT);
CREATE TABLE passages (id INTEGER PRIMARY KEY, path TEXT NOT NULL, unit TEXT, number INTEGER,
    first INTEGER, last INTEGER, heading TEXT, text TEXT);
CREATE INDEX passages_of ON passages (path, number);
CREATE VIRTUAL TABLE words USING fts5(place, heading, text, tokenize = 'porter unicode61');
"""
_SEARCH = """
SELECT path, unit, number, first, last, passages.heading, passages.text FROM words
JOIN passages ON passages.id = words.rowid
WHERE words MATCH ? ORDER BY bm25(words, 2.0, 2.0, 1.0), passages.id LIMIT ?
"""
_READ_PASSAGES = """
SELECT path, unit, number, first, last, heading, text FROM passages
WHERE path = ? AND number >= ? ORDER BY number LIMIT ?
"""


class FoundPassage(NamedTuple):
    """A passage, the path of its document, its number there, and the unit of its position."""

    path: str
    unit: str
    number: int
    passage: Passage


class PassageIndex:
    """The passages of a folder's documents, in a SQLite file."""

    def __init__(self, root: RootFolder, folder: Path, file: Path) -> None:
        self._root = root
        self._folder = folder
        self._file = file

    def refresh(self, seconds: float) -> IndexReport:
        """Update the index, for at most `seconds`."""
        deadline = time.monotonic() + seconds
        with self._connect() as connection:
            return IndexRefresh(self._root, connection, deadline).run()

    def search(self, query: str, count: int) -> list[FoundPassage]:
        """Return the best matches, the best first."""
        match_query = build_match_query(query)
        if not match_query:
            return []
        with self._connect() as connection:
            return [
                _make_found_passage(row)
                for row in connection.execute(_SEARCH, (match_query, count))
            ]

    def read_passages(self, path: str, start: int, count: int) -> list[FoundPassage]:
        """Return passages of a document, from number `start`."""
        with self._connect() as connection:
            rows = connection.execute(_READ_PASSAGES, (path, start, count))
            return [_make_found_passage(row) for row in rows]

    def list_documents(self, count: int) -> list[str]:
        """Return the paths of the first documents, in order."""
        statement = "SELECT DISTINCT path FROM passages ORDER BY path LIMIT ?"
        with self._connect() as connection:
            return [str(path) for (path,) in connection.execute(statement, (count,))]

    @contextmanager
    def _connect(self) -> Generator[sqlite3.Connection, None, None]:
        self._file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._file.touch(mode=0o600)  # private, as it has the documents' text
        connection = sqlite3.connect(self._file, timeout=_LOCK_SECONDS, isolation_level=None)
        try:
            if not self._is_ready(connection):
                self._prepare(connection)
            yield connection
        finally:
            connection.close()

    def _is_ready(self, connection: sqlite3.Connection) -> bool:
        """Return whether the tables exist. Raise ValueError if it is not this folder's index."""
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        names = _list_tables(connection)
        if names and "passages" not in names:
            raise ValueError(f"{self._file} is another database; name another file")
        if version != VERSION:
            return False
        (folder,) = connection.execute("SELECT folder FROM about").fetchone()
        if folder != str(self._folder):
            raise ValueError(f"{self._file} is the index of {folder}; name another file")
        return True

    def _prepare(self, connection: sqlite3.Connection) -> None:
        """Create the tables, and replace those of an older version."""
        _switch_to_wal(connection)
        with run_transaction(connection):
            if self._is_ready(connection):  # another process has created them
                return
            for name in _list_tables(connection) & {"about", "files", "passages", "words"}:
                connection.execute(f"DROP TABLE {name}")
            for statement in _CREATE_TABLES.split(";\n"):
                connection.execute(statement)
            connection.execute("INSERT INTO about VALUES (?)", (str(self._folder),))
            connection.execute(f"PRAGMA user_version = {VERSION}")


def _switch_to_wal(connection: sqlite3.Connection) -> None:
    """Switch the file to WAL mode; raise sqlite3.OperationalError if it stays locked."""
    deadline = time.monotonic() + _LOCK_SECONDS
    while True:  # SQLite does not wait for the lock of another process here, unlike elsewhere
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > deadline:
                raise
        time.sleep(0.02)


def _list_tables(connection: sqlite3.Connection) -> set[str]:
    names = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
    return {str(name) for (name,) in names}


def _make_found_passage(row: tuple[str, str, int, int, int, str, str]) -> FoundPassage:
    path, unit, number, first, last, heading, text = row
    return FoundPassage(path, unit, number, Passage(first, last, heading, text))
