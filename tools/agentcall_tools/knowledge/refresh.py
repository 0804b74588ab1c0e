"""Brings an index in step with the files beneath a folder.

Rules:
1. A file is read again when its size or its time of change is another; it is indexed again when its
   digest is. What is gone is dropped. A file that was changed within the last seconds is looked at
   again next time, as one more change may leave the same time.
2. Each file is one transaction: an index that was left halfway is right for the files that it has.
"""

import hashlib
import os
import sqlite3
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import NamedTuple

from agentcall_tools.files.beneath import FileError, Root
from agentcall_tools.files.walk import Walk
from agentcall_tools.knowledge.document import MOST_BYTES, DocumentError, is_document, read_document
from agentcall_tools.knowledge.passages import Passage, passages
from agentcall_tools.knowledge.words import spaced

_FRESH = 2_000_000_000
_DROP_WORDS = "DELETE FROM words WHERE rowid IN (SELECT id FROM passages WHERE path = ?)"
_NOTE = """
INSERT INTO files VALUES (?, ?, ?, ?, ?)
ON CONFLICT (path) DO UPDATE SET size = excluded.size, modified = excluded.modified
"""


@dataclass(frozen=True, slots=True)
class Report:
    """How the index stands: how many documents it has, what a refresh did, and what it could not.

    `unread` says of each file why it has no text; `left` counts those that there was no time for;
    `is_cut` says that the folder has more files than are looked at.
    """

    documents: int = 0
    added: int = 0
    changed: int = 0
    removed: int = 0
    left: int = 0
    is_cut: bool = False
    unread: dict[str, str] = field(default_factory=dict[str, str])


class _State(NamedTuple):
    size: int
    modified: int
    digest: str = ""


class _Text(NamedTuple):
    """What a file says, or why it says nothing."""

    unit: str
    passages: list[Passage]
    why: str | None = None


class Refresh:
    """One way through the folder."""

    def __init__(self, root: Root, connection: sqlite3.Connection, until: float) -> None:
        self._root = root
        self._connection = connection
        self._until = until
        rows = connection.execute("SELECT path, size, modified, digest FROM files")
        self._known = {str(path): _State(*state) for path, *state in rows}
        self._added = self._changed = self._removed = self._left = 0
        self._is_cut = False
        self._missing: dict[str, str] = {}

    def report(self) -> Report:
        """Goes through it."""
        new = self._new()
        for path, state in new.items():
            if time.monotonic() > self._until:
                self._left += 1
            else:
                self._take(path, state)
        asked = "SELECT count(*) FROM files WHERE why IS NULL"
        (documents,) = self._connection.execute(asked).fetchone()
        failed = self._connection.execute("SELECT path, why FROM files WHERE why IS NOT NULL")
        done = (self._added, self._changed, self._removed, self._left, self._is_cut)
        return Report(documents, *done, {**dict(failed), **self._missing})

    def _new(self) -> dict[str, _State]:
        """The files that have to be read; what is gone is dropped."""
        walk = Walk(self._root)
        there = {
            entry.path: _State(entry.size, entry.modified)
            for entry in walk.entries(())
            if not entry.is_folder and is_document(entry.path)
        }
        self._is_cut = walk.is_cut
        for path in self._known.keys() - there.keys() if not walk.is_cut else ():
            with transaction(self._connection):
                self._drop(path)
            self._removed += 1
        return {path: s for path, s in there.items() if self._known.get(path, ())[:2] != s[:2]}

    def _take(self, path: str, state: _State) -> None:
        """Reads a file, and puts down what it says."""
        try:
            data = b"" if state.size > MOST_BYTES else self._read(path)
        except FileError:  # it has gone meanwhile, or is a link now
            return
        digest = hashlib.sha256(data).hexdigest() if data else f"{state.size} bytes"
        before = self._known.get(path)
        if before is not None and before.digest == digest:
            self._note(path, state, digest)
            return
        try:
            text = _text(path, state.size, data)
        except ImportError as error:  # not noted: the package may be there next time
            self._missing[path] = str(error)
            return
        with transaction(self._connection):
            self._drop(path)
            self._put(path, text)
            self._note(path, state, digest, text.why)
        self._added += before is None
        self._changed += before is not None

    def _read(self, path: str) -> bytes:
        with (
            self._root.file(self._root.names(path)) as descriptor,
            os.fdopen(os.dup(descriptor), "rb") as file,
        ):
            return file.read(MOST_BYTES)

    def _drop(self, path: str) -> None:
        self._connection.execute(_DROP_WORDS, (path,))
        self._connection.execute("DELETE FROM passages WHERE path = ?", (path,))
        self._connection.execute("DELETE FROM files WHERE path = ?", (path,))

    def _put(self, path: str, text: _Text) -> None:
        for number, one in enumerate(text.passages, 1):
            row = (path, text.unit, number, one.first, one.last, one.heading, one.text)
            made = self._connection.execute(
                "INSERT INTO passages VALUES (NULL, ?, ?, ?, ?, ?, ?, ?)", row
            )
            self._connection.execute(
                "INSERT INTO words (rowid, place, heading, text) VALUES (?, ?, ?, ?)",
                (made.lastrowid, *map(spaced, (path, one.heading, one.text))),
            )

    def _note(self, path: str, state: _State, digest: str, why: str | None = None) -> None:
        fresh = time.time_ns() - state.modified < _FRESH
        row = (path, state.size, 0 if fresh else state.modified, digest, why)
        self._connection.execute(_NOTE, row)


def _text(path: str, size: int, data: bytes) -> _Text:
    """What a file says. Raises ImportError where a package is missing."""
    if size > MOST_BYTES:
        return _Text("line", [], f"it has {size} bytes, at most {MOST_BYTES} are read")
    try:
        document = read_document(path, data)
    except DocumentError as error:
        return _Text("line", [], str(error))
    found = list(passages(document))
    return _Text(document.unit, found, None if found else "it has no text")


@contextmanager
def transaction(connection: sqlite3.Connection) -> Generator[None, None, None]:
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")
