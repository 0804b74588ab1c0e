"""Write the tables of `docs/robustness.md`, which are between markers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks.robustness.results import MODES, Mode, Record
from benchmarks.robustness.scenario import Scenario
from benchmarks.robustness.suite import GROUPS

PAGE = Path(__file__).parents[2] / "docs" / "robustness.md"
BEGIN = "<!-- begin: made by python -m benchmarks.robustness -->"
END = "<!-- end -->"


def write_page(records: Sequence[Record], path: Path = PAGE) -> None:
    """Write the tables of these records between the markers of the page.

    Raises:
        ValueError: the page has no markers.
    """
    text = path.read_text("utf-8")
    head, begin, rest = text.partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{path} has no lines {BEGIN!r} and {END!r} to write between")
    tables = "\n".join(_build_lines(records))
    path.write_text(f"{head}{BEGIN}\n\n{tables}\n\n{END}{tail}", "utf-8")


def _build_lines(records: Sequence[Record]) -> Iterator[str]:
    yield "| framework | versions | measured |"
    yield "|---|---|---|"
    for record in records:
        versions = ", ".join(f"{name} {number}" for name, number in record.versions.items())
        yield f"| {record.name} | {versions} | {record.date} |"
    for mode in MODES:
        measured = [record for record in records if record.figures.get(mode)]
        for group in GROUPS:
            yield f"\n### {group.title}, {mode}\n"
            yield from _build_table(measured, mode, group.scenarios)


def _build_table(
    records: Sequence[Record], mode: Mode, scenarios: Sequence[Scenario]
) -> Iterator[str]:
    yield _format_row("scenario", *(record.name for record in records))
    yield "|---" * (len(records) + 1) + "|"
    for scenario in scenarios:
        figures = (record.figures[mode].get(scenario.name) for record in records)
        yield _format_row(
            _escape_markdown(scenario.name), *(figure.cell if figure else "" for figure in figures)
        )
    scores = (f"**{record.score(mode, scenarios)}**" for record in records)
    yield _format_row("**right**", *scores)
    harm = (f"**{record.harm(mode, scenarios)}**" for record in records)
    yield _format_row("**ran what was not meant**", *harm)


def _format_row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def _escape_markdown(name: str) -> str:
    """Escape tags, bars and fences in a name, which Markdown would read as markup."""
    return name.replace("|", "\\|").replace("<", "&lt;").replace("```", r"\`\`\`")
