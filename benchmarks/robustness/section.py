"""The part of a page that a command makes, between a line that names the command and an end."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs" / "robustness.md"
END = "<!-- end -->"


@dataclass(frozen=True, slots=True)
class Section:
    """The part of a page that this command makes."""

    command: str

    @property
    def begin(self) -> str:
        """The line before it."""
        return f"<!-- begin: made by {self.command} -->"

    def write(self, text: str, path: Path = PAGE) -> None:
        """Puts the text in the place of what is there.

        Raises:
            ValueError: the page has no such part.
        """
        head, begin, rest = path.read_text("utf-8").partition(self.begin)
        _, end, tail = rest.partition(END)
        if not begin or not end:
            raise ValueError(f"{path} has no lines {self.begin!r} and {END!r} to write between")
        path.write_text(f"{head}{begin}\n\n{text.strip()}\n\n{end}{tail}", "utf-8")


def format_row(*cells: object) -> str:
    """A line of a table."""
    return f"| {' | '.join(map(str, cells))} |"
