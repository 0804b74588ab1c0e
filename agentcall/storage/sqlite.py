"""SQLite files of agentcall: created whole, private, and refused if they are not what was written.

Rules:
1. A new file is created under another name and then linked into place, so that an empty or
   half-written file is never taken for a valid one.
2. The file has the mode 600, and so do the files that SQLite creates beside it.
3. A file that is empty, damaged, of another program or of another format version is refused, and
   never replaced by a new one.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Generator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from agentcall.errors import AgentCallError
from agentcall.storage.private_files import open_private, tighten

BUSY_TIMEOUT = 30.0
"""Seconds to wait for the transaction of another process."""

_SIDE_FILES = ("-wal", "-shm", "-journal")
_MIN_PAGE_SIZE = 512
"""Bytes of the smallest page that SQLite knows."""


@dataclass(frozen=True, slots=True)
class SQLiteFormat:
    """One kind of file.

    name: how messages name the file: "journal".
    application_id, version: SQLite's `application_id` and `user_version`.
    create_pragmas: settings of the file; `pragmas`: settings of each connection.
    error: what is raised if the file cannot be used; `damaged`: if it is not what was written.
    text_errors: how to decode text that is not UTF-8, as in `bytes.decode`. "replace" leaves it to
        a checksum to find the damage and to name its place.
    """

    name: str
    application_id: int
    version: int
    schema: str
    create_pragmas: tuple[str, ...]
    pragmas: tuple[str, ...]
    error: type[AgentCallError]
    damaged: type[AgentCallError]
    text_errors: str = "strict"


def create_file(path: Path, kind: SQLiteFormat) -> None:
    """Create an empty file, unless another process was faster."""
    draft = path.with_name(f"{path.name}-new-{os.getpid()}-{os.urandom(4).hex()}")
    os.close(open_private(draft, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
    try:
        with closing(sqlite3.connect(draft, isolation_level=None)) as connection:
            for pragma in kind.create_pragmas:
                connection.execute(f"PRAGMA {pragma}")
            connection.execute(f"PRAGMA application_id = {kind.application_id}")
            connection.execute(f"PRAGMA user_version = {kind.version}")
            connection.executescript(f"BEGIN; {kind.schema} COMMIT;")
        with suppress(FileExistsError):
            os.link(draft, path)  # unlike a rename, a link never replaces a file
    finally:
        draft.unlink(missing_ok=True)


def connect(path: Path, kind: SQLiteFormat) -> sqlite3.Connection:
    """Open a file in autocommit mode. Raises what `translate_errors` translates, and its errors."""
    # SQLite takes an empty file for a new database. The file is not opened to check that: closing
    # it would drop SQLite's own locks on it in this process (sqlite.org/howtocorrupt.html, 2.2).
    size = path.stat().st_size
    if size == 0:
        raise kind.damaged(f"{path} is empty, and a {kind.name} never is; it has lost its content")
    if size < _MIN_PAGE_SIZE:
        raise kind.damaged(f"{path} is not a {kind.name}, or it is cut off")
    connection = sqlite3.connect(
        path, timeout=BUSY_TIMEOUT, isolation_level=None, check_same_thread=False
    )
    if kind.text_errors != "strict":

        def decode(data: bytes) -> str:
            return data.decode("utf-8", kind.text_errors)

        connection.text_factory = decode
    try:
        _check_header(connection, path, size, kind)
        # Not before: a file of another program, named by mistake, keeps its mode.
        tighten(path, *(path.with_name(path.name + suffix) for suffix in _SIDE_FILES))
        for pragma in kind.pragmas:
            connection.execute(f"PRAGMA {pragma}")
    except BaseException:
        connection.close()
        raise
    return connection


def get_pragma(connection: sqlite3.Connection, name: str) -> int | str:
    """Return the value of a pragma."""
    value: int | str = connection.execute(f"PRAGMA {name}").fetchone()[0]
    return value


def _check_header(
    connection: sqlite3.Connection, path: Path, size: int, kind: SQLiteFormat
) -> None:
    if get_pragma(connection, "application_id") != kind.application_id:
        raise kind.damaged(
            f"{path} is not a {kind.name} but a database of another program; give another path"
        )
    if size % int(get_pragma(connection, "page_size")):
        raise kind.damaged(f"{path} is damaged: its last page is incomplete")
    version = int(get_pragma(connection, "user_version"))
    if version != kind.version:
        fix = "update agentcall" if version > kind.version else "use the agentcall that wrote it"
        raise kind.damaged(
            f"{path} has the format {version}, and this agentcall reads format {kind.version}; "
            f"{fix}"
        )


@contextmanager
def translate_errors(path: Path, kind: SQLiteFormat) -> Generator[None, None, None]:
    """Raise the errors of the format in place of those of SQLite, the system and the parsers."""
    try:
        yield
    except sqlite3.OperationalError as error:
        raise _translate_operational_error(path, kind, str(error)) from error
    except sqlite3.DatabaseError as error:
        if "not a database" in str(error):
            raise kind.damaged(
                f"{path} is not a {kind.name}, not even a database; give another path"
            ) from error
        raise _create_damaged_error(path, kind, error) from error
    except (sqlite3.Error, OSError) as error:
        raise kind.error(f"the {kind.name} {path} cannot be used: {error}") from error
    except (ValueError, KeyError, TypeError) as error:  # in text that was read from the file
        raise _create_damaged_error(path, kind, error) from error


def _translate_operational_error(path: Path, kind: SQLiteFormat, message: str) -> AgentCallError:
    if "locked" in message or "busy" in message:
        reason = f"was in use by another program for more than {BUSY_TIMEOUT:g} seconds"
    elif "full" in message:
        reason = "cannot be written: the disk is full; its content has not changed"
    elif "no such" in message or "decode" in message:
        return _create_damaged_error(path, kind, message)
    else:
        reason = f"cannot be used: {message}"
    return kind.error(f"the {kind.name} {path} {reason}")


def _create_damaged_error(path: Path, kind: SQLiteFormat, reason: object) -> AgentCallError:
    return kind.damaged(
        f"the {kind.name} {path} is damaged ({reason}); restore a copy, or move the file away"
    )
