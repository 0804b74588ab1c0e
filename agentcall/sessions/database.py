"""The file in which sessions are kept: made whole, opened with care, refused where it is not ours.

Rules:
1. A new file is made beside its place and put there whole, so that nobody ever sees half of one.
   It is for its owner alone (mode 600), and so are the files that SQLite makes beside it; one of
   ours that others may read is tightened.
2. Many threads and processes may use it at the same time: SQLite's write-ahead log, and a busy
   timeout. Each use opens a connection of its own; none is carried over a fork.
3. A file that is empty, damaged, of another program or of a newer version is refused, and never
   taken for a new one.

Texts as words that can be searched, and the part of a text around what was found.

Rules: a Chinese, Japanese or Korean character is a word of its own, as these are written without
blanks, so that a part of a sentence is found; a word that is searched may be the beginning of one;
all words of a search have to be there.
"""

from __future__ import annotations

import os
import re
import sqlite3
from collections.abc import Generator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

from agentcall.errors import SessionError
from agentcall.messages import Assistant, Message, ToolResult
from agentcall.storage.private_files import make_folder, open_private, tighten

_CJK_CHARACTER = re.compile(
    r"([\u1100-\u11ff\u2e80-\ua4cf\uac00-\ud7ff\uf900-\ufaff\U00020000-\U0003fffd])"
)
_WORD = re.compile(r"\w+")
_EXCERPT_CHARS = 60


def extract_text(message: Message) -> str:
    """What of a message can be found: what was said, called and given."""
    match message:
        case Assistant():
            called = (f"{call.name} {call.arguments}" for call in message.calls)
            return "\n".join([message.text, *called]).strip()
        case ToolResult():
            return f"{message.name}\n{message.text}"
        case _:
            return message.text


def separate_cjk(text: str) -> str:
    """The text as it goes into the index."""
    return _CJK_CHARACTER.sub(r" \1 ", text)


def build_query(words: str) -> str:
    """What is asked of the index for these words; empty where there is no word in them."""
    phrases = (_WORD.findall(separate_cjk(word)) for word in words.split())
    return " ".join(f'"{" ".join(phrase)}" *' for phrase in phrases if phrase)


def extract_excerpt(text: str, words: str) -> str:
    """The text around the first of the words that stands in it as it was written."""
    low = text.casefold()
    places = [low.find(word.casefold()) for word in words.split()]
    place = min((place for place in places if place >= 0), default=0)
    start, end = max(place - _EXCERPT_CHARS, 0), place + 2 * _EXCERPT_CHARS
    cut = " ".join(text[start:end].split())
    return f"{'…' if start else ''}{cut}{'…' if end < len(text) else ''}"


BUSY_TIMEOUT = 30.0
"""Seconds that a use of the file waits for another one."""

SCHEMA_VERSION = 1
_APPLICATION_ID = 0x61676331
"""SQLite's application_id: "agc1"."""

_SIDE_FILES = ("-wal", "-shm", "-journal")
_MIN_PAGE_SIZE = 512
"""Bytes of SQLite's smallest page."""

_SCHEMA = """
CREATE TABLE sessions (
  number INTEGER PRIMARY KEY,
  id TEXT NOT NULL UNIQUE,
  began REAL NOT NULL,
  changed REAL NOT NULL
);
CREATE TABLE runs (
  number INTEGER PRIMARY KEY,
  session INTEGER NOT NULL REFERENCES sessions(number) ON DELETE CASCADE,
  id TEXT NOT NULL,
  began REAL NOT NULL,
  agent TEXT NOT NULL,
  stop_reason TEXT NOT NULL,
  usage TEXT NOT NULL,
  size INTEGER NOT NULL,
  waiting TEXT,
  UNIQUE (session, id)
);
CREATE TABLE messages (
  number INTEGER PRIMARY KEY,
  run INTEGER NOT NULL REFERENCES runs(number) ON DELETE CASCADE,
  place INTEGER NOT NULL,
  at REAL NOT NULL,
  body TEXT NOT NULL,
  checksum INTEGER NOT NULL,
  UNIQUE (run, place)
);
CREATE TABLE grants (
  session INTEGER NOT NULL REFERENCES sessions(number) ON DELETE CASCADE,
  body TEXT NOT NULL,
  UNIQUE (session, body)
);
CREATE TABLE compactions (
  number INTEGER PRIMARY KEY,
  session INTEGER NOT NULL REFERENCES sessions(number) ON DELETE CASCADE,
  at REAL NOT NULL,
  run INTEGER NOT NULL,
  place INTEGER NOT NULL,
  head TEXT NOT NULL
);
CREATE VIRTUAL TABLE words USING fts5(text, tokenize='unicode61 remove_diacritics 2');
"""


def default_path() -> Path:
    """`AGENTCALL_SESSIONS`, else sessions.db in agentcall's folder of the user's data."""
    if given := os.environ.get("AGENTCALL_SESSIONS"):
        return Path(given)
    base = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    return Path(base) / "agentcall" / "sessions.db"


class SessionDatabase:
    """A session file. Raises SessionError for whatever is wrong with it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def exists(self) -> bool:
        """Whether there is a file."""
        return self.path.exists()

    @contextmanager
    def read_transaction(self) -> Generator[sqlite3.Connection, None, None]:
        """A connection that sees one state of the file."""
        with self._translate_errors(), closing(self._connect()) as connection:
            connection.execute("BEGIN")
            yield connection

    @contextmanager
    def write_transaction(self) -> Generator[sqlite3.Connection, None, None]:
        """A connection whose changes are made as one, or not at all."""
        with self._translate_errors():
            if not self.exists:
                self._create()
            with closing(self._connect()) as connection:
                connection.execute("BEGIN IMMEDIATE")
                yield connection
                connection.execute("COMMIT")

    def connect(self) -> sqlite3.Connection:
        """A connection to be closed later: while it is open, writing is cheap."""
        with self._translate_errors():
            if not self.exists:
                self._create()
            return self._connect()

    def _connect(self) -> sqlite3.Connection:
        size = self._check_size()
        tighten(self.path, *(self.path.with_name(self.path.name + end) for end in _SIDE_FILES))
        connection = sqlite3.connect(
            self.path, timeout=BUSY_TIMEOUT, isolation_level=None, check_same_thread=False
        )
        try:
            self._check_header(connection, size)
            connection.execute("PRAGMA foreign_keys = ON")
            connection.execute("PRAGMA synchronous = NORMAL")
            connection.execute("PRAGMA secure_delete = ON")
        except BaseException:
            connection.close()
            raise
        return connection

    def _check_size(self) -> int:
        """Refuses what SQLite would take for a new database.

        The file is not opened for it: closing it again would take away the locks that SQLite has on
        it elsewhere in this process (sqlite.org/howtocorrupt.html, 2.2).
        """
        size = self.path.stat().st_size
        if size == 0:
            raise SessionError(f"{self.path} is empty: no session file, or one that was cut")
        if size < _MIN_PAGE_SIZE:
            raise SessionError(f"{self.path} is no session file, or one that was cut")
        return size

    def _check_header(self, connection: sqlite3.Connection, size: int) -> None:
        (owner,) = connection.execute("PRAGMA application_id").fetchone()
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if owner != _APPLICATION_ID:
            raise SessionError(f"{self.path} is a database of another program; give another path")
        (page,) = connection.execute("PRAGMA page_size").fetchone()
        if size % page:
            raise SessionError(f"{self.path} is damaged: its last page is not whole")
        if version > SCHEMA_VERSION:
            raise SessionError(
                f"{self.path} was written by a newer agentcall (format {version}, this one knows "
                f"{SCHEMA_VERSION}); update agentcall"
            )

    def _create(self) -> None:
        make_folder(self.path.parent)
        draft = self.path.with_name(f"{self.path.name}.{os.getpid()}-{os.urandom(4).hex()}.new")
        os.close(open_private(draft, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
        try:
            with closing(sqlite3.connect(draft, isolation_level=None)) as connection:
                connection.execute("PRAGMA journal_mode = WAL")
                connection.executescript(f"BEGIN; {_SCHEMA} COMMIT;")
                connection.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
                connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
            with suppress(FileExistsError):  # somebody else was faster
                os.link(draft, self.path)
        finally:
            draft.unlink(missing_ok=True)

    @contextmanager
    def _translate_errors(self) -> Generator[None, None, None]:
        try:
            yield
        except sqlite3.Error as error:
            raise SessionError(f"the session file {self.path} {_describe_error(error)}") from error
        except OSError as error:
            raise SessionError(f"the session file {self.path} cannot be used: {error}") from error
        except (ValueError, KeyError, TypeError) as error:  # in what was read from it
            words = f"is damaged ({error}); restore a copy, or move it away to begin anew"
            raise SessionError(f"the session file {self.path} {words}") from error


def _describe_error(error: sqlite3.Error) -> str:
    said = str(error)
    if "locked" in said or "busy" in said:
        return f"was in use by another program for more than {BUSY_TIMEOUT:g} seconds"
    if "full" in said:
        return "could not be written: the disk is full; what was in it is as it was"
    if "not a database" in said:
        return "is no session file: it is not even a database; give another path"
    if "malformed" in said or "corrupt" in said or "decode" in said:
        return f"is damaged ({said}); restore a copy, or move it away to begin anew"
    return f"cannot be used: {said}"
