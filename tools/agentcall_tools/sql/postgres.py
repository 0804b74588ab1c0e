"""PostgreSQL, read only.

Rules:
1. A query runs in a READ ONLY transaction, which the server enforces, and which is rolled back.
2. It is the query of a cursor, sent by the protocol for one statement, so that the server's own
   grammar allows nothing but a SELECT: no COPY, SET, DO or CALL, and no second statement.
3. A function that may have effects is refused (`postgres_functions`), as no rollback undoes them.
4. The server ends the query at its deadline, and shortens each value before it is sent.
5. A superuser is refused: functions such as lo_export write files, whatever the transaction.
"""

from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from agentcall.errors import MissingExtra
from agentcall_tools.sql.postgres_functions import check_effects
from agentcall_tools.sql.rows import MAX_CELL_LENGTH, QueryRows, SqlError, format_cells

if TYPE_CHECKING:
    from psycopg import AsyncConnection

_LIST_TABLES = """
SELECT format('%s %s (%s)', kind, name, string_agg(line, ', ' ORDER BY place)) FROM (
  SELECT CASE WHEN c.relkind IN ('v', 'm') THEN 'view' ELSE 'table' END AS kind,
    c.oid::regclass AS name, a.attnum AS place,
    a.attname || ' ' || format_type(a.atttypid, a.atttypmod) AS line
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
  WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f')
    AND n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname NOT LIKE 'pg_%'
    AND has_table_privilege(c.oid, 'SELECT')
  UNION ALL
  SELECT 'table', k.conrelid::regclass, 10000, pg_get_constraintdef(k.oid)
  FROM pg_constraint k JOIN pg_namespace n ON n.oid = k.connamespace
  WHERE k.contype IN ('p', 'f') AND n.nspname NOT IN ('pg_catalog', 'information_schema')
    AND has_table_privilege(k.conrelid, 'SELECT')
) AS found GROUP BY kind, name ORDER BY name"""


@dataclass(frozen=True, slots=True)
class PostgresReader:
    """A database; each query uses a new connection."""

    url: str = field(repr=False)  # it may have a password
    seconds: float
    max_rows: int
    functions: Sequence[str] = ()

    async def describe_tables(self) -> str:
        """Return the readable tables and views with their columns and keys."""
        async with self._connect() as connection:
            cursor = await connection.execute(_LIST_TABLES)
            return "\n".join([str(row[0]) async for row in cursor])

    async def run_query(self, query: str) -> QueryRows:
        """Return the result of a query. Raise SqlError if it fails or is refused."""
        text = query.strip().rstrip("; \n\t")
        async with self._connect() as connection:
            await check_effects(connection, text, self.functions)
            columns = await _read_columns(connection, text)
            names = [f"c{number}" for number in range(len(columns))]
            # One character more than is shown, so that a cut is seen.
            short = ", ".join(f"left({name}::text, {MAX_CELL_LENGTH + 1})" for name in names)
            within = f"(\n{text}\n) AS q({', '.join(names)})"
            # The server has accepted the text as one SELECT, so it is one in parentheses, too.
            await _declare_cursor(connection, f"SELECT {short} FROM {within}" if names else text)  # noqa: S608 - quoted
            fetch = f"FETCH {self.max_rows + 1:d} FROM agentcall_cursor"
            cursor = await connection.execute(fetch.encode())
            rows = [format_cells(row) for row in await cursor.fetchall()]
        return QueryRows(columns, rows[: self.max_rows], is_truncated=len(rows) > self.max_rows)

    @asynccontextmanager
    async def _connect(self) -> "AsyncGenerator[AsyncConnection[tuple[Any, ...]]]":
        """Open a connection in a READ ONLY transaction; the server's errors become SqlError."""
        try:
            import psycopg
        except ImportError as error:
            raise MissingExtra.for_feature("PostgreSQL", "postgres", error) from None

        milliseconds = f"{self.seconds * 1000:.0f}"
        try:
            connection = await psycopg.AsyncConnection.connect(
                self.url, autocommit=True, connect_timeout=10, application_name="agentcall"
            )
            try:
                if connection.info.parameter_status("is_superuser") == "on":
                    raise SqlError("the user is a superuser, whom nothing keeps from writing; "
                                   "connect as a role that may only SELECT")  # fmt: skip
                await connection.execute("BEGIN READ ONLY")
                # so that backslashes mean the same to the server as to `check_effects`
                await connection.execute("SET LOCAL standard_conforming_strings = on")
                for name in ("statement_timeout", "lock_timeout"):
                    await connection.execute(f"SET LOCAL {name} = {milliseconds}".encode())
                yield connection
            finally:
                await connection.close()  # which rolls back
        except psycopg.errors.QueryCanceled:
            raise SqlError(
                f"the query took over {self.seconds:g} seconds; narrow it down"
            ) from None
        except psycopg.Error as error:
            raise SqlError(_format_error(error)) from None


async def _read_columns(connection: "AsyncConnection[tuple[Any, ...]]", query: str) -> list[str]:
    """Return the names of a query's columns; here the server checks that it is a SELECT."""
    await _declare_cursor(connection, query)
    cursor = await connection.execute("FETCH 0 FROM agentcall_cursor")
    columns = [column.name for column in cursor.description or ()]
    await connection.execute("CLOSE agentcall_cursor")
    return columns


async def _declare_cursor(connection: "AsyncConnection[tuple[Any, ...]]", query: str) -> None:
    statement = f"DECLARE agentcall_cursor NO SCROLL CURSOR FOR {query}"
    # Binary, as psycopg then uses the extended protocol, which refuses several statements.
    await connection.execute(statement.encode(), binary=True)


def _format_error(error: Exception) -> str:
    """Return the server's message, with the position and the hint."""
    diagnostic = getattr(error, "diag", None)
    lines = [getattr(diagnostic, name, None) for name in ("message_primary", "message_hint")]
    message = "; ".join(line for line in lines if line) or str(error).strip()
    return message[:1_000] or type(error).__name__
