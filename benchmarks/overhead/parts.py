"""The parts of docs/performance.md: their contestants, results and tables."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.overhead import plot
from benchmarks.overhead.field import FIELD, OURS, Contestant
from benchmarks.overhead.page import build_field_page, build_own_page, replace_section
from benchmarks.overhead.results import Results, load_results

DOCS = Path(__file__).parents[2] / "docs"
PAGE = DOCS / "performance.md"


@dataclass(frozen=True, slots=True)
class Part:
    """A part of the page, with its contestants and the function that builds it."""

    name: str
    contestants: Sequence[Contestant]
    page: Callable[[Results], str]

    @property
    def path(self) -> Path:
        """The file with its results."""
        return Path(__file__).with_name(f"{self.name}.json")


BESIDE_AIOHTTP = Part("beside-aiohttp", OURS, build_own_page)
WHOLE_FIELD = Part("whole-field", FIELD, build_field_page)


def build_pages() -> Mapping[Path, str]:
    """Build the page and its pictures from the saved results."""
    text, pictures = PAGE.read_text("utf-8"), dict[Path, str]()
    for part in (BESIDE_AIOHTTP, WHOLE_FIELD):
        if part.path.exists():
            text = replace_section(text, part.name, part.page(load_results(part.path)))
    if WHOLE_FIELD.path.exists():
        results = load_results(WHOLE_FIELD.path)
        pictures[DOCS / plot.GROWTH] = plot.plot_growth(results)
        pictures[DOCS / plot.CROWD] = plot.plot_crowd(results)
    return {PAGE: text, **pictures}
