"""From a URL to the database of a journal.

sqlite:///runs.db                    a file in the current folder; sqlite:////tmp/runs.db elsewhere
postgresql://user@host:port/name     a database of a PostgreSQL server
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from urllib.parse import unquote

from agentcall.durable.database import Database
from agentcall.durable.sqlite import SQLite
from agentcall.errors import MissingExtra, UsageError
from agentcall.models.address import place

_FILE = "sqlite:///"
_SERVERS = ("postgresql://", "postgres://")


def opener(url: str, *, lease: float = 30.0, make: bool = True) -> Callable[[], Database]:
    """What opens the database of a URL. Raises UsageError for one that means nothing.

    lease: seconds after which another machine takes a run over whose worker is silent.
    make: whether a file that is not there is made.
    """
    if url.startswith(_FILE) and len(url) > len(_FILE):
        return partial(SQLite, Path(unquote(url[len(_FILE) :])).absolute(), make=make)
    if url.startswith(_SERVERS):
        return partial(_postgres, url, lease)
    shown = place(url) or url
    raise UsageError(
        f"{shown!r} is no journal; use sqlite:///FILE or postgresql://user@host:port/name"
    )


def _postgres(url: str, lease: float) -> Database:
    try:
        from agentcall.durable.postgres import Postgres
    except ImportError:
        raise MissingExtra(
            "a journal in PostgreSQL needs psycopg: pip install 'agentcall[durable]'"
        ) from None
    return Postgres(url, place(url), lease=lease)
