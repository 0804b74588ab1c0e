"""SQLite, read only: each query runs in a process that is killed after the time limit."""

import asyncio
import json
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from subprocess import DEVNULL, PIPE

from pydantic import BaseModel, ValidationError

from agentcall_tools.sql import sqlite_reader
from agentcall_tools.sql.rows import MAX_CELL_LENGTH, QueryRows, SqlError, format_cells

_MAX_TABLES = 1_000
_MAX_TABLE_LENGTH = 20_000
_GRACE_SECONDS = 5.0
_LIST_TABLES = (
    "SELECT sql FROM sqlite_master WHERE type IN ('table', 'view') AND sql IS NOT NULL "
    "AND name NOT LIKE 'sqlite_%' ORDER BY name"
)


class _SQLiteAnswer(BaseModel):
    columns: list[str] = []
    rows: list[list[str | None]] = []
    is_cut: bool = False
    error: str | None = None


@dataclass(frozen=True, slots=True)
class SQLiteReader:
    """A SQLite database file."""

    path: Path
    seconds: float
    max_rows: int

    async def describe_tables(self) -> str:
        """Return the CREATE statements of the tables and views."""
        answer = await self._run_reader(_LIST_TABLES, _MAX_TABLES, _MAX_TABLE_LENGTH)
        return "\n\n".join(str(row[0]) for row in answer.rows)

    async def run_query(self, query: str) -> QueryRows:
        """Return the result of a query. Raise SqlError if it fails or is refused."""
        # One character more than is shown, so that a cut is seen.
        answer = await self._run_reader(query, self.max_rows, MAX_CELL_LENGTH + 1)
        return QueryRows(answer.columns, [format_cells(row) for row in answer.rows], answer.is_cut)

    async def _run_reader(self, query: str, rows: int, longest: int) -> _SQLiteAnswer:
        request = sqlite_reader.SQLiteRequest(
            path=str(self.path), query=query, rows=rows, longest=longest, seconds=self.seconds
        )
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-I", "-S", sqlite_reader.__file__),
            stdin=PIPE,
            stdout=PIPE,
            stderr=DEVNULL,
        )
        try:
            exchange = process.communicate(json.dumps(request).encode())
            output, _ = await asyncio.wait_for(exchange, self.seconds + _GRACE_SECONDS)
            answer = _SQLiteAnswer.model_validate_json(output)
        except (asyncio.TimeoutError, ValidationError):  # too late, or ended by its limits
            raise SqlError(self._explain_error("interrupted")) from None
        finally:
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()
        if answer.error is not None:
            raise SqlError(self._explain_error(answer.error))
        return answer

    def _explain_error(self, error: str) -> str:
        if "interrupted" in error:
            return f"the query took over {self.seconds:g} seconds; narrow it down"
        if "out of memory" in error:
            return "the query needs too much memory; narrow it down"
        if "not authorized" in error or "prohibited" in error:
            return f"{error}: only SELECT is allowed; nothing may be changed or attached"
        return error
