"""A generated section of a page, between a line that names the command and an end marker."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs" / "robustness.md"
END = "<!-- end -->"


@dataclass(frozen=True, slots=True)
class Section:
    """The section of a page that a command generates."""

    command: str

    @property
    def begin(self) -> str:
        """The line before the section."""
        return f"<!-- begin: made by {self.command} -->"

    def write(self, text: str, path: Path = PAGE) -> None:
        """Replace the section's text.

        Raises:
            ValueError: the page has no such section.
        """
        head, begin, rest = path.read_text("utf-8").partition(self.begin)
        _, end, tail = rest.partition(END)
        if not begin or not end:
            raise ValueError(f"{path} has no lines {self.begin!r} and {END!r} to write between")
        path.write_text(f"{head}{begin}\n\n{text.strip()}\n\n{end}{tail}", "utf-8")


def format_row(*cells: object) -> str:
    """Format a line of a table."""
    return f"| {' | '.join(map(str, cells))} |"
