"""A program that runs one query on a SQLite file: https://sqlite.org/security.html.

It reads a JSON object from standard input (`path`, `query`, `rows`, `longest`, `seconds`) and
writes one to standard output: `columns`, `rows` and `is_cut`, or `error`. It imports only the
standard library.

Rules: the file is opened with mode=ro, and SQLite's authorizer refuses every statement and function
that does more than read, such as ATTACH, PRAGMA and load_extension. A query is interrupted at its
deadline. Some functions cannot be interrupted or use all memory, so the process also has resource
limits, and its parent kills it when it is late.
"""

import json
import sqlite3
import sys
import time
from collections.abc import Generator
from contextlib import closing, contextmanager, suppress
from typing import TypedDict
from urllib.parse import quote

MAX_MEMORY = 512 * 2**20
MAX_FILE_BYTES = 2**30  # for temporary files of sorting
MAX_CHARACTERS = 1_000_000
_STEPS = 2_000
_GRACE_SECONDS = 2
_READ_ACTIONS = frozenset(
    {sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_FUNCTION, sqlite3.SQLITE_RECURSIVE}
)
_REFUSED_FUNCTIONS = frozenset(
    {"load_extension", "fts3_tokenizer", "readfile", "writefile", "edit"}
)
_LIMITS = {  # by name, as Python has them from 3.11 on
    "SQLITE_LIMIT_LENGTH": 10_000_000,
    "SQLITE_LIMIT_LIKE_PATTERN_LENGTH": 200,
    "SQLITE_LIMIT_ATTACHED": 0,
    "SQLITE_LIMIT_EXPR_DEPTH": 100,
    "SQLITE_LIMIT_COMPOUND_SELECT": 50,
    "SQLITE_LIMIT_WORKER_THREADS": 0,
}


class SQLiteRequest(TypedDict):
    """A query with limits on the number of rows and the length of a value."""

    path: str
    query: str
    rows: int
    longest: int
    seconds: float


class SQLiteResult(TypedDict):
    """The result; values are text or None."""

    columns: list[str]
    rows: list[list[str | None]]
    is_cut: bool


def read_rows(request: SQLiteRequest) -> SQLiteResult:
    """Return the first rows of a query. Raise sqlite3.Error if it fails."""
    with _connect(request) as connection:
        cursor = connection.execute(request["query"])
        result = SQLiteResult(
            columns=[c[0] for c in cursor.description or ()], rows=[], is_cut=False
        )
        size = 0
        for row in cursor:  # one by one, as each is shortened before the next is read
            if len(result["rows"]) == request["rows"] or size > MAX_CHARACTERS:
                result["is_cut"] = True
                break
            values = [_shorten(value, request["longest"]) for value in row]
            size += sum(len(value or "") for value in values)
            result["rows"].append(values)
        return result


@contextmanager
def _connect(request: SQLiteRequest) -> Generator[sqlite3.Connection, None, None]:
    address = f"file:{quote(request['path'])}?mode=ro"
    with closing(sqlite3.connect(address, uri=True, timeout=request["seconds"])) as connection:
        connection.text_factory = _decode
        connection.execute("PRAGMA query_only = ON")
        connection.execute("PRAGMA trusted_schema = OFF")
        limit = getattr(connection, "setlimit", None)
        if limit is not None:
            for name, value in _LIMITS.items():
                limit(getattr(sqlite3, name), value)
        deadline = time.monotonic() + request["seconds"]
        connection.set_progress_handler(lambda: time.monotonic() > deadline, _STEPS)
        connection.set_authorizer(_authorize)
        yield connection


def _authorize(
    action: int, first: str | None, second: str | None, database: str | None, trigger: str | None
) -> int:
    match action, first:
        case sqlite3.SQLITE_FUNCTION, _ if (second or "").lower() in _REFUSED_FUNCTIONS:
            return sqlite3.SQLITE_DENY
        # SQLite itself needs these to open a virtual table, such as one of full text search.
        case (sqlite3.SQLITE_UPDATE, "sqlite_master") | (sqlite3.SQLITE_PRAGMA, "data_version"):
            return sqlite3.SQLITE_OK
        case _:
            return sqlite3.SQLITE_OK if action in _READ_ACTIONS else sqlite3.SQLITE_DENY


def _decode(data: bytes) -> str:
    return data.decode("utf-8", "replace")


def _shorten(value: object, longest: int) -> str | None:
    if isinstance(value, bytes):
        return f"<{len(value)} bytes>"
    return None if value is None else str(value)[:longest]


def _limit_resources(seconds: float) -> None:
    """Set resource limits, if the system has them."""
    with suppress(ImportError, OSError, ValueError):
        import resource

        cpu_seconds = int(seconds) + _GRACE_SECONDS
        resource.setrlimit(resource.RLIMIT_CPU, (cpu_seconds, cpu_seconds))
        resource.setrlimit(resource.RLIMIT_FSIZE, (MAX_FILE_BYTES, MAX_FILE_BYTES))
        resource.setrlimit(resource.RLIMIT_AS, (MAX_MEMORY, MAX_MEMORY))


def main() -> None:
    """Answer the request on standard input."""
    request: SQLiteRequest = json.load(sys.stdin)
    _limit_resources(request["seconds"])
    answer: SQLiteResult | dict[str, str]
    try:
        answer = read_rows(request)
    except (sqlite3.Error, sqlite3.Warning, MemoryError) as error:
        answer = {"error": str(error) or "out of memory"}
    json.dump(answer, sys.stdout)


if __name__ == "__main__":
    main()
