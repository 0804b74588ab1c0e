"""Open the database of a journal by its URL.

sqlite:///runs.db                    a file in the current folder; sqlite:////tmp/runs.db elsewhere
postgresql://user@host:port/name     a database of a PostgreSQL server
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import cast
from urllib.parse import unquote

from agentcall.durable.journal import JournalDatabase
from agentcall.durable.sqlite_journal import SQLiteDatabase
from agentcall.errors import MissingExtra, UsageError
from agentcall.models.url import redact_url

_SQLITE_PREFIX = "sqlite:///"
_POSTGRES_PREFIXES = ("postgresql://", "postgres://")


def make_opener(
    url: str, *, lease: float = 30.0, make: bool = True
) -> Callable[[], JournalDatabase]:
    """Return a function that opens the database of a URL. Raises UsageError for other URLs.

    lease: seconds after which another machine takes over a run whose worker is silent.
    make: whether to create a file that does not exist.
    """
    if not isinstance(cast("object", url), str):
        raise UsageError(f"{url!r:.100} is not a journal; use a text such as sqlite:///runs.db")
    if url.startswith(_SQLITE_PREFIX) and len(url) > len(_SQLITE_PREFIX):
        return partial(
            SQLiteDatabase, Path(unquote(url[len(_SQLITE_PREFIX) :])).absolute(), make=make
        )
    if url.startswith(_POSTGRES_PREFIXES):
        return partial(_open_postgres, url, lease)
    shown = redact_url(url) or url
    raise UsageError(
        f"{shown!r} is not a journal; use sqlite:///FILE or postgresql://user@host:port/name"
    )


def _open_postgres(url: str, lease: float) -> JournalDatabase:
    try:
        from agentcall.durable.postgres_journal import PostgresDatabase
    except ImportError as error:
        raise MissingExtra.for_feature("a journal in PostgreSQL", "durable", error) from None
    return PostgresDatabase(url, redact_url(url), lease=lease)
