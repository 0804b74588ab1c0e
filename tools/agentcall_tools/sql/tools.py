"""Tools that read a database and cannot change it."""

import asyncio
from collections.abc import Coroutine, Sequence
from pathlib import Path
from typing import Protocol, TypeVar

from agentcall import tool
from agentcall_tools.sql.postgres import Postgres
from agentcall_tools.sql.rows import Rows, SqlError
from agentcall_tools.sql.sqlite import SQLite

LONGEST_QUERY = 20_000
LONGEST_SCHEMA = 20_000
T = TypeVar("T")


class Database(Protocol):
    """What is asked: its tables as text, and the rows of a query."""

    async def tables(self) -> str: ...

    async def rows(self, query: str) -> Rows: ...


class Sql:
    """A database as tools that only read: `Agent(tools=[Sql("sqlite:///shop.db")])`.

    url: "sqlite:///file.db", the path of such a file, or "postgresql://user@host/database".
    rows: how many rows of a result are given.
    seconds: until a query is ended.
    functions: names of functions that a query may call in PostgreSQL though they are VOLATILE.
    """

    def __init__(
        self,
        url: str | Path,
        *,
        rows: int = 100,
        seconds: float = 10.0,
        functions: Sequence[str] = (),
    ) -> None:
        self._database = _database(str(url), rows, seconds, functions)
        self._seconds = seconds
        self.query_database = tool(timeout=seconds + 30)(self.query_database)

    @tool(idempotent=True, read_only=True, untrusted=True, timeout=60)
    async def list_tables(self) -> str:
        """Returns the tables and views of the database with their columns, to write queries by."""
        text = await self._in_time(self._database.tables())
        if len(text) > LONGEST_SCHEMA:
            return f"{text[:LONGEST_SCHEMA]}\n[cut: there are more tables]"
        return text or "the database has no tables"

    @tool(idempotent=True, read_only=True, untrusted=True, timeout=60)
    async def query_database(self, query: str) -> str:
        """Runs one SELECT on the database and returns its rows.

        Args:
            query: The SQL. Count, group and limit there: only the first rows are returned.
        """
        if not query.strip() or len(query) > LONGEST_QUERY:
            raise SqlError(f"query has 1 to {LONGEST_QUERY} characters, got {len(query)}")
        return (await self._in_time(self._database.rows(query))).shown()

    async def _in_time(self, work: Coroutine[None, None, T]) -> T:
        try:
            return await asyncio.wait_for(work, self._seconds + 20)
        except asyncio.TimeoutError:
            raise SqlError(
                f"the database did not answer within {self._seconds:g} seconds"
            ) from None


def _database(url: str, rows: int, seconds: float, functions: Sequence[str]) -> Database:
    if url.startswith(("postgresql://", "postgres://")):
        return Postgres(url, seconds, rows, functions)
    path = Path(url.removeprefix("sqlite:///")).expanduser().absolute()
    if "://" in url.removeprefix("sqlite:///"):
        raise ValueError(
            f"{url.partition('://')[0]!r} is no database that is known: sqlite or postgresql"
        )
    if not path.is_file():
        raise FileNotFoundError(f"there is no database file {path}")
    return SQLite(path, seconds, rows)
