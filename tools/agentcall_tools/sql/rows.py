"""The rows of a query as text."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from agentcall_tools.visible_text import remove_invisible

MAX_CELL_LENGTH = 500
MAX_CHARACTERS = 20_000


class SqlError(ValueError):
    """A query failed; the message is the database's, or says what to change."""


@dataclass(frozen=True, slots=True)
class QueryRows:
    """The columns and first rows of a result; `is_truncated` says that there are more."""

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    is_truncated: bool = False

    def format_table(self) -> str:
        """Format the columns and rows as lines, followed by the number of rows."""
        lines = [" | ".join(remove_invisible(name) for name in self.columns)]
        size = 0
        for row in self.rows:
            line = " | ".join(row)
            size += len(line)
            if size > MAX_CHARACTERS:
                break
            lines.append(line)
        count = len(lines) - 1
        is_cut = self.is_truncated or count < len(self.rows)
        more = f"the first {count} rows; there are more: narrow the query down or count"
        return "\n".join([*lines, f"({more})" if is_cut else f"({count} row{'s' * (count != 1)})"])


def format_cell(value: object) -> str:
    """Format a value as one line of at most `MAX_CELL_LENGTH` characters."""
    if value is None:
        return "NULL"
    if isinstance(value, bytes):
        return f"<{len(value)} bytes>"
    text = str(value)
    cut = "..." if len(text) > MAX_CELL_LENGTH else ""
    return remove_invisible(text[:MAX_CELL_LENGTH].replace("\n", "\\n").replace("\r", "")) + cut


def format_cells(row: Iterable[object]) -> tuple[str, ...]:
    """Format the values of a row."""
    return tuple(format_cell(value) for value in row)
