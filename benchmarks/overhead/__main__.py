"""Measures what agentcall adds to a model call, and writes docs/performance.md.

python -m benchmarks.overhead              agentcall beside a loop by hand on aiohttp, some minutes
python -m benchmarks.overhead --peers      the whole field, each in an environment of its own
python -m benchmarks.overhead --page       only the page, of what was measured last

`--rounds`, `--row` and `--who` measure less, print it, and leave the page as it is.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.overhead import plot
from benchmarks.overhead.field import FIELD, OURS, Contestant
from benchmarks.overhead.page import bars_table, field_page, ours_page, written
from benchmarks.overhead.results import Results, loaded
from benchmarks.overhead.rounds import play
from benchmarks.overhead.rows import ROWS
from benchmarks.overhead.stage import staged

DOCS = Path(__file__).parents[2] / "docs"


@dataclass(frozen=True, slots=True)
class Part:
    """A part of the page: who is measured for it, and what is written."""

    name: str
    contestants: Sequence[Contestant]
    page: Callable[[Results], str]

    @property
    def path(self) -> Path:
        """Where its figures are kept."""
        return Path(__file__).with_name(f"{self.name}.json")

    def write(self, results: Results) -> None:
        """Puts the tables into the page."""
        path = DOCS / "performance.md"
        path.write_text(written(path.read_text("utf-8"), self.name, self.page(results)), "utf-8")


BESIDE_AIOHTTP = Part("beside-aiohttp", OURS, ours_page)
WHOLE_FIELD = Part("whole-field", FIELD, field_page)


def main() -> None:
    """Measures what the command line names."""
    options = _options()
    part = WHOLE_FIELD if options.peers else BESIDE_AIOHTTP
    if not options.page:
        rows = [row for row in ROWS if options.row in row.name]
        who = [each for each in part.contestants if not options.who or each.name in options.who]
        with staged() as stage:
            results = play(stage, who, rows, options.rounds)
        print(bars_table(results))
        if options.row or options.who or options.rounds:
            return
        results.save(part.path)
    _write_page()


def _write_page() -> None:
    for part in (BESIDE_AIOHTTP, WHOLE_FIELD):
        if part.path.exists():
            part.write(loaded(part.path))
    if WHOLE_FIELD.path.exists():
        results = loaded(WHOLE_FIELD.path)
        (DOCS / "performance-growth.svg").write_text(plot.growth(results), "utf-8")
        (DOCS / "performance-crowd.svg").write_text(plot.crowd(results), "utf-8")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.overhead")
    parser.add_argument("--peers", action="store_true", help="the whole field")
    parser.add_argument("--page", action="store_true", help="only write the page")
    parser.add_argument("--rounds", type=int, help="rounds of each row, in place of its own")
    parser.add_argument("--row", default="", help="only rows with this word")
    parser.add_argument("--who", nargs="*", default=(), help="only these contestants")
    return parser.parse_args()


if __name__ == "__main__":
    main()
