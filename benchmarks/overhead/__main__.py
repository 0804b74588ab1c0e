"""Measures what agentcall adds to a model call, and writes docs/performance.md.

python -m benchmarks.overhead              agentcall beside a loop by hand on aiohttp, some minutes
python -m benchmarks.overhead --peers      the whole field, each in an environment of its own
python -m benchmarks.overhead --page       only the page, of what was measured last

`--rounds`, `--row` and `--who` measure less, print it, and leave the page as it is; with `--keep`
the rows take the place of what was measured of them last.
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
    """Measures what the command line names."""
    options = _parse_options()
    if not options.page:
        _measure(WHOLE_FIELD if options.peers else BESIDE_AIOHTTP, options)
    if options.page or options.keep:
        for path, text in build_pages().items():
            path.write_text(text, "utf-8")


def _measure(part: Part, options: argparse.Namespace) -> None:
    rows = [row for row in ROWS if options.row in row.name]
    who = [each for each in part.contestants if not options.who or each.name in options.who]
    before = load_results(part.path) if options.row and options.keep else Results()
    results = Results()
    with open_stage() as stage:
        for results in play_rounds(stage, who, rows, options.rounds):
            if options.keep:
                before.merge(results).save(part.path)
    print(build_bars_table(results))


def _parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.overhead")
    parser.add_argument("--peers", action="store_true", help="the whole field")
    parser.add_argument("--page", action="store_true", help="only write the page")
    parser.add_argument("--rounds", type=int, help="rounds of each row, in place of its own")
    parser.add_argument("--row", default="", help="only rows with this word")
    parser.add_argument("--who", nargs="*", default=(), help="only these contestants")
    parser.add_argument("--keep", action="store_true", help="put the rows into the page")
    options = parser.parse_args()
    if options.keep and options.who:
        parser.error("--keep is for all contestants: figures are compared within a round")
    options.keep |= not (options.row or options.who or options.rounds or options.page)
    return options


if __name__ == "__main__":
    main()
