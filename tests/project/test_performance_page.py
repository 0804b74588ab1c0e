from __future__ import annotations

from dataclasses import replace

import pytest

from benchmarks.overhead import plot
from benchmarks.overhead.bars import BARS, Bar
from benchmarks.overhead.field import AGENTCALL, AIOHTTP
from benchmarks.overhead.page import build_bars_table, build_own_page, replace_section
from benchmarks.overhead.parts import BESIDE_AIOHTTP, PAGE, WHOLE_FIELD, Part, build_pages
from benchmarks.overhead.results import Results, load_results

MISSED = "## Missed bars, and where the time goes"
ROW, AT_ONCE = "warm run", "1000 at once"


def measured(ours: float, theirs: float, row: str = ROW) -> Results:
    return Results(
        versions={AIOHTTP: {"aiohttp": "3"}, AGENTCALL: {"agentcall": "1"}},
        rows={
            row: {
                AIOHTTP: [{"cpu": theirs, "wall": theirs}],
                AGENTCALL: [{"cpu": ours, "wall": ours}],
            }
        },
    )


def test_the_page_and_its_pictures_are_those_of_the_figures() -> None:
    for path, text in build_pages().items():
        assert path.read_text("utf-8") == text, path.name


@pytest.mark.parametrize("part", [BESIDE_AIOHTTP, WHOLE_FIELD], ids=lambda part: part.name)
def test_every_bar_was_measured_and_the_page_explains_those_that_are_missed(part: Part) -> None:
    results = load_results(part.path)
    explained = PAGE.read_text("utf-8").partition(MISSED)[2].partition("\n## ")[0]
    for bar in BARS:
        if bar.baseline is None and part is BESIDE_AIOHTTP:
            continue  # there are no peers in it
        verdict = bar.judge(results)
        assert verdict is not None, bar
        assert verdict.is_held or bar.label in explained, verdict


def test_a_bar_that_is_missed_says_by_how_much() -> None:
    bar = Bar("warm run", ROW, "cpu", 2.0)
    assert [
        found.description
        for ours in (1.0, 2.0, 2.5)
        if (found := bar.judge(measured(ours, theirs=1.0)))
    ] == ["holds", "holds", "missed by 25%"]


def test_a_rate_is_shown_as_runs_per_second() -> None:
    table = build_bars_table(measured(ours=2.0, theirs=1.0, row=AT_ONCE))
    assert "| 500/s | 1,000/s | 0.50 | at least 0.5 | holds |" in table


def test_new_measurements_replace_the_rows_before() -> None:
    before = replace(measured(1, 1), date="2026-01-01")
    again = measured(3, 2)
    after = replace(before, rows={**before.rows, "stream": {}}).merge(again)
    assert list(after.rows) == [ROW, "stream"]
    assert after.get_values(ROW, AGENTCALL, "cpu") == [3]
    with pytest.raises(ValueError, match="measure all rows again"):
        before.merge(replace(again, machine="another"))


def test_rows_without_measurements_are_left_out() -> None:
    results = measured(1, 1)
    assert build_own_page(results).count("| warm run of three calls |") == 1
    assert "</svg>" in plot.plot_growth(results)
    assert "</svg>" in plot.plot_crowd(results)


def test_a_page_without_the_markers_is_refused() -> None:
    with pytest.raises(ValueError, match="the page lacks <!-- begin: x -->"):
        replace_section("# A page\n", "x", "table")
