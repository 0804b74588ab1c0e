"""Run the rounds of each row: in each round all contestants, one after the other."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence

from benchmarks.overhead.contestant_process import ContestantError
from benchmarks.overhead.field import Contestant
from benchmarks.overhead.results import Results, round_figure
from benchmarks.overhead.rows import Row
from benchmarks.overhead.stage import Stage
from benchmarks.overhead.task import Task


def play_rounds(
    stage: Stage, contestants: Sequence[Contestant], rows: Sequence[Row], rounds: int | None
) -> Iterator[Results]:
    """Yield the results so far after each row; `rounds` overrides each row's own number."""
    results = Results()
    for each in contestants:
        results.versions[each.name] = stage.measure_fresh(each, "versions", Task())
    for row in rows:
        told = results.rows[row.name] = {
            each.name: [] for each in contestants if row.includes(each)
        }
        for _ in range(rounds or row.rounds):
            for each in contestants:
                if row.includes(each):
                    _measure(stage, row, each, told)
        _print_row(row, results)
        yield results


def _measure(
    stage: Stage, row: Row, contestant: Contestant, told: dict[str, list[dict[str, float]]]
) -> None:
    try:
        figures = row.measure(stage, contestant)
    except ContestantError as error:
        print(error, file=sys.stderr, flush=True)
    else:
        told[contestant.name].append({name: round_figure(value) for name, value in figures.items()})


def _print_row(row: Row, results: Results) -> None:
    for name, rounds in results.rows[row.name].items():
        figures = sorted({figure for each in rounds for figure in each})
        medians = {figure: results.get_median(row.name, name, figure) for figure in figures}
        shown = ", ".join(f"{figure} {value:.4g}" for figure, value in medians.items() if value)
        print(f"{row.name:20} {name:16} {shown}", flush=True)
