"""The tools: list the tables of a database, and run a SELECT."""

import asyncio
from collections.abc import Coroutine, Sequence
from pathlib import Path
from typing import Protocol, TypeVar

from agentcall import tool
from agentcall_tools.sql.postgres import PostgresReader
from agentcall_tools.sql.rows import QueryRows, SqlError
from agentcall_tools.sql.sqlite import SQLiteReader

MAX_QUERY_LENGTH = 20_000
MAX_SCHEMA_LENGTH = 20_000
T = TypeVar("T")


class ReadOnlyDatabase(Protocol):
    """A database that returns its tables as text, and the rows of a query."""

    async def describe_tables(self) -> str: ...

    async def run_query(self, query: str) -> QueryRows: ...


class Sql:
    """A database as tools that only read: `Agent(tools=[Sql("sqlite:///shop.db")])`.

    url: "sqlite:///file.db", the path of such a file, or "postgresql://user@host/database".
    rows: the largest number of rows of a result.
    seconds: the time limit of a query.
    functions: VOLATILE functions of PostgreSQL that a query may call.
    """

    def __init__(
        self,
        url: str | Path,
        *,
        rows: int = 100,
        seconds: float = 10.0,
        functions: Sequence[str] = (),
    ) -> None:
        self._database = _open_database(str(url), rows, seconds, functions)
        self._seconds = seconds
        self.query_database = tool(timeout=seconds + 30)(self.query_database)

    @tool(idempotent=True, read_only=True, untrusted=True, timeout=60)
    async def list_tables(self) -> str:
        """Returns the tables and views of the database with their columns, to write queries by."""
        text = await self._wait_in_time(self._database.describe_tables())
        if len(text) > MAX_SCHEMA_LENGTH:
            return f"{text[:MAX_SCHEMA_LENGTH]}\n[cut: there are more tables]"
        return text or "the database has no tables"

    @tool(idempotent=True, read_only=True, untrusted=True, timeout=60)
    async def query_database(self, query: str) -> str:
        """Runs one SELECT on the database and returns its rows.

        Args:
            query: The SQL. Count, group and limit there: only the first rows are returned.
        """
        if not query.strip() or len(query) > MAX_QUERY_LENGTH:
            raise SqlError(f"query has 1 to {MAX_QUERY_LENGTH} characters, got {len(query)}")
        return (await self._wait_in_time(self._database.run_query(query))).format_table()

    async def _wait_in_time(self, work: Coroutine[None, None, T]) -> T:
        try:
            return await asyncio.wait_for(work, self._seconds + 20)
        except asyncio.TimeoutError:
            raise SqlError(
                f"the database did not answer within {self._seconds:g} seconds"
            ) from None


def _open_database(
    url: str, rows: int, seconds: float, functions: Sequence[str]
) -> ReadOnlyDatabase:
    if url.startswith(("postgresql://", "postgres://")):
        return PostgresReader(url, seconds, rows, functions)
    path = Path(url.removeprefix("sqlite:///")).expanduser().absolute()
    if "://" in url.removeprefix("sqlite:///"):
        raise ValueError(
            f"{url.partition('://')[0]!r} is not a supported database: use sqlite or postgresql"
        )
    if not path.is_file():
        raise FileNotFoundError(f"there is no database file {path}")
    return SQLiteReader(path, seconds, rows)
