"""Plays the rounds: all contestants one after the other, again and again, row by row."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence

from benchmarks.overhead.field import Contestant
from benchmarks.overhead.results import Results, rounded
from benchmarks.overhead.rows import Row
from benchmarks.overhead.staff import ContestantError
from benchmarks.overhead.stage import Stage
from benchmarks.overhead.task import Task


def play(
    stage: Stage, contestants: Sequence[Contestant], rows: Sequence[Row], rounds: int | None
) -> Iterator[Results]:
    """The figures so far, after each row; `rounds` if not each row's own."""
    results = Results()
    for each in contestants:
        results.versions[each.name] = stage.fresh(each, "versions", Task())
    for row in rows:
        told = results.rows[row.name] = {each.name: [] for each in contestants if row.who(each)}
        for _ in range(rounds or row.rounds):
            for each in contestants:
                if row.who(each):
                    _measure(stage, row, each, told)
        _tell(row, results)
        yield results


def _measure(
    stage: Stage, row: Row, contestant: Contestant, told: dict[str, list[dict[str, float]]]
) -> None:
    try:
        figures = row.how(stage, contestant)
    except ContestantError as error:
        print(error, file=sys.stderr, flush=True)
    else:
        told[contestant.name].append({name: rounded(value) for name, value in figures.items()})


def _tell(row: Row, results: Results) -> None:
    for name, rounds in results.rows[row.name].items():
        figures = sorted({figure for each in rounds for figure in each})
        medians = {figure: results.median(row.name, name, figure) for figure in figures}
        shown = ", ".join(f"{figure} {value:.4g}" for figure, value in medians.items() if value)
        print(f"{row.name:20} {name:16} {shown}", flush=True)
