"""Measure the overhead of agentcall, and write docs/performance.md.

python -m benchmarks.overhead              agentcall and a loop by hand on aiohttp, some minutes
python -m benchmarks.overhead --peers      all frameworks, each in its own environment
python -m benchmarks.overhead --page       only write the page, from the last results

`--rounds`, `--row` and `--who` measure less, print the result, and do not change the page; with
`--keep` the rows replace their last results.
"""

from __future__ import annotations

import argparse

from benchmarks.overhead.page import build_bars_table
from benchmarks.overhead.parts import BESIDE_AIOHTTP, WHOLE_FIELD, Part, build_pages
from benchmarks.overhead.results import Results, load_results
from benchmarks.overhead.rounds import play_rounds
from benchmarks.overhead.rows import ROWS
from benchmarks.overhead.stage import open_stage


def main() -> None:
    """Measure what the command line selects."""
    options = _parse_options()
    if not options.page:
        _measure(WHOLE_FIELD if options.peers else BESIDE_AIOHTTP, options)
    if options.page or options.keep:
        for path, text in build_pages().items():
            path.write_text(text, "utf-8")


def _measure(part: Part, options: argparse.Namespace) -> None:
    rows = [row for row in ROWS if options.row in row.name]
    contestants = [c for c in part.contestants if not options.who or c.name in options.who]
    before = load_results(part.path) if options.row and options.keep else Results()
    results = Results()
    with open_stage() as stage:
        for results in play_rounds(stage, contestants, rows, options.rounds):
            if options.keep:
                before.merge(results).save(part.path)
    print(build_bars_table(results))


def _parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.overhead")
    parser.add_argument("--peers", action="store_true", help="measure all frameworks")
    parser.add_argument("--page", action="store_true", help="only write the page")
    parser.add_argument("--rounds", type=int, help="number of rounds of each row")
    parser.add_argument("--row", default="", help="only rows whose name contains this text")
    parser.add_argument("--who", nargs="*", default=(), help="only these contestants")
    parser.add_argument("--keep", action="store_true", help="write the rows to the page")
    options = parser.parse_args()
    if options.keep and options.who:
        parser.error("--keep needs all contestants: results are compared within a round")
    options.keep |= not (options.row or options.who or options.rounds or options.page)
    return options


if __name__ == "__main__":
    main()
