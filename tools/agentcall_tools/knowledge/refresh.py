"""Updates an index from the files of a folder.

Rules:
1. A file is read again if its size or time of change differs, and indexed again if its digest does.
   Deleted files are removed. A file that was changed in the last seconds is read again next time,
   as another change could have the same time.
2. Each file is one transaction, so an interrupted update leaves a consistent index.
"""

import hashlib
import os
import sqlite3
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import NamedTuple

from agentcall_tools.files.root_folder import FileError, RootFolder
from agentcall_tools.files.walk import FolderWalk
from agentcall_tools.knowledge.document import MAX_BYTES, DocumentError, is_document, read_document
from agentcall_tools.knowledge.fts_terms import separate_words
from agentcall_tools.knowledge.passages import Passage, cut_passages

_RECENT_NANOSECONDS = 2_000_000_000
_DELETE_WORDS = "DELETE FROM words WHERE rowid IN (SELECT id FROM passages WHERE path = ?)"
_UPSERT_FILE = """
INSERT INTO files VALUES (?, ?, ?, ?, ?)
ON CONFLICT (path) DO UPDATE SET size = excluded.size, modified = excluded.modified
"""


@dataclass(frozen=True, slots=True)
class IndexReport:
    """The number of documents in the index, and the changes of a refresh.

    `pending` counts the files that there was no time for. `is_truncated` says that the folder has
    more files than the limit. `unread_files` has the files without text, and the reason for each.
    """

    documents: int = 0
    added: int = 0
    changed: int = 0
    removed: int = 0
    pending: int = 0
    is_truncated: bool = False
    unread_files: dict[str, str] = field(default_factory=dict[str, str])


class _FileState(NamedTuple):
    size: int
    modified: int
    digest: str = ""


class _FileText(NamedTuple):
    """The passages of a file, or the reason why it has none."""

    unit: str
    passages: list[Passage]
    problem: str | None = None


class IndexRefresh:
    """One update of an index."""

    def __init__(self, root: RootFolder, connection: sqlite3.Connection, deadline: float) -> None:
        self._root = root
        self._connection = connection
        self._deadline = deadline
        rows = connection.execute("SELECT path, size, modified, digest FROM files")
        self._known = {str(path): _FileState(*state) for path, *state in rows}
        self._added = self._changed = self._removed = self._pending = 0
        self._is_truncated = False
        self._missing_packages: dict[str, str] = {}

    def run(self) -> IndexReport:
        """Update the index until it is complete or the deadline has passed."""
        for path, state in self._find_changed().items():
            if time.monotonic() > self._deadline:
                self._pending += 1
            else:
                self._index_file(path, state)
        statement = "SELECT count(*) FROM files WHERE why IS NULL"
        (documents,) = self._connection.execute(statement).fetchone()
        failed = self._connection.execute("SELECT path, why FROM files WHERE why IS NOT NULL")
        done = (self._added, self._changed, self._removed, self._pending, self._is_truncated)
        return IndexReport(documents, *done, {**dict(failed), **self._missing_packages})

    def _find_changed(self) -> dict[str, _FileState]:
        """Return the files to read, and remove deleted files from the index."""
        walk = FolderWalk(self._root)
        current = {
            entry.path: _FileState(entry.size, entry.modified)
            for entry in walk.list_entries(())
            if not entry.is_folder and is_document(entry.path)
        }
        self._is_truncated = walk.is_truncated
        for path in self._known.keys() - current.keys() if not walk.is_truncated else ():
            with run_transaction(self._connection):
                self._delete_file(path)
            self._removed += 1
        return {path: s for path, s in current.items() if self._known.get(path, ())[:2] != s[:2]}

    def _index_file(self, path: str, state: _FileState) -> None:
        """Read a file and save its passages."""
        try:
            data = b"" if state.size > MAX_BYTES else self._read(path)
        except FileError:  # it has been deleted, or is a link now
            return
        digest = hashlib.sha256(data).hexdigest() if data else f"{state.size} bytes"
        before = self._known.get(path)
        if before is not None and before.digest == digest:
            self._record_file(path, state, digest)
            return
        try:
            text = _read_text(path, state.size, data)
        except ImportError as error:  # not saved: the package may be installed next time
            self._missing_packages[path] = str(error)
            return
        with run_transaction(self._connection):
            self._delete_file(path)
            self._insert_passages(path, text)
            self._record_file(path, state, digest, text.problem)
        self._added += before is None
        self._changed += before is not None

    def _read(self, path: str) -> bytes:
        with (
            self._root.open_file(self._root.parse_path(path)) as descriptor,
            os.fdopen(os.dup(descriptor), "rb") as file,
        ):
            return file.read(MAX_BYTES)

    def _delete_file(self, path: str) -> None:
        self._connection.execute(_DELETE_WORDS, (path,))
        self._connection.execute("DELETE FROM passages WHERE path = ?", (path,))
        self._connection.execute("DELETE FROM files WHERE path = ?", (path,))

    def _insert_passages(self, path: str, text: _FileText) -> None:
        for number, passage in enumerate(text.passages, 1):
            first, last, heading = passage.first, passage.last, passage.heading
            row = (path, text.unit, number, first, last, heading, passage.text)
            cursor = self._connection.execute(
                "INSERT INTO passages VALUES (NULL, ?, ?, ?, ?, ?, ?, ?)", row
            )
            self._connection.execute(
                "INSERT INTO words (rowid, place, heading, text) VALUES (?, ?, ?, ?)",
                (cursor.lastrowid, *map(separate_words, (path, heading, passage.text))),
            )

    def _record_file(
        self, path: str, state: _FileState, digest: str, problem: str | None = None
    ) -> None:
        is_recent = time.time_ns() - state.modified < _RECENT_NANOSECONDS
        row = (path, state.size, 0 if is_recent else state.modified, digest, problem)
        self._connection.execute(_UPSERT_FILE, row)


def _read_text(path: str, size: int, data: bytes) -> _FileText:
    """Read the passages of a file. Raise ImportError if a package is missing."""
    if size > MAX_BYTES:
        return _FileText("line", [], f"it has {size} bytes, at most {MAX_BYTES} are read")
    try:
        document = read_document(path, data)
    except DocumentError as error:
        return _FileText("line", [], str(error))
    passages = list(cut_passages(document))
    return _FileText(document.unit, passages, None if passages else "it has no text")


@contextmanager
def run_transaction(connection: sqlite3.Connection) -> Generator[None, None, None]:
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")
