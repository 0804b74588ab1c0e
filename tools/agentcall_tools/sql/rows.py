"""What a query gave, as text."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from agentcall_tools.visible import visible

LONGEST_CELL = 500
MOST_CHARACTERS = 20_000


class SqlError(ValueError):
    """A query that gave nothing; the text is the database's own, or says what to change."""


@dataclass(frozen=True, slots=True)
class Rows:
    """The columns and the first rows of a result; `is_cut` says that there are more."""

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    is_cut: bool = False

    def shown(self) -> str:
        """A line for the columns and one for each row, with their number below."""
        lines = [" | ".join(visible(name) for name in self.columns)]
        size = 0
        for row in self.rows:
            line = " | ".join(row)
            size += len(line)
            if size > MOST_CHARACTERS:
                break
            lines.append(line)
        count = len(lines) - 1
        is_cut = self.is_cut or count < len(self.rows)
        more = f"the first {count} rows; there are more: narrow the query down or count"
        return "\n".join([*lines, f"({more})" if is_cut else f"({count} row{'s' * (count != 1)})"])


def cell(value: object) -> str:
    """A value in one line of at most so many characters."""
    if value is None:
        return "NULL"
    if isinstance(value, bytes):
        return f"<{len(value)} bytes>"
    text = str(value)
    cut = "..." if len(text) > LONGEST_CELL else ""
    return visible(text[:LONGEST_CELL].replace("\n", "\\n").replace("\r", "")) + cut


def cells(row: Iterable[object]) -> tuple[str, ...]:
    """A row's values as text."""
    return tuple(cell(value) for value in row)
