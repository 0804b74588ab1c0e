"""The cost of a run in counts that are equal on all machines; `make bench-counts` records them."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.overhead import counts
from benchmarks.overhead.counts import VERSION, Counts, load_counts, measure_run
from benchmarks.overhead.meter import Meter

pytestmark = pytest.mark.processes

ROOM = 1.1
"""The allowed growth of each count."""


@pytest.fixture(scope="module")
def counted() -> Counts:
    """The counts of a fresh process."""
    quiet = {key: value for key, value in os.environ.items() if not key.startswith("COV")}
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.overhead.counts"],
        cwd=Path(__file__).parents[2],
        env={**quiet, "PYTHONHASHSEED": "0"},
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(done.stdout)


def test_no_count_grew_by_more_than_a_tenth(counted: Counts) -> None:
    before = load_counts()
    if before is None:
        pytest.skip(f"no counts are recorded for Python {VERSION}; run `make bench-counts`")
    grown = [
        f"{what}: {count:,} {name}, {before[what][name]:,} before"
        for what, named in counted.items()
        for name, count in named.items()
        if count > before[what][name] * ROOM
    ]
    assert not grown, f"{grown}; if this is intended, run `make bench-counts`"


def test_the_recorded_counts_have_the_same_names(counted: Counts) -> None:
    for version, before in json.loads(counts.COUNTS_FILE.read_text("utf-8")).items():
        assert {what: [*named] for what, named in before.items()} == {
            what: [*named] for what, named in counted.items()
        }, version


def test_a_meter_counts_python_and_c_and_the_same_every_time() -> None:
    def measured(numbers: list[int]) -> tuple[int, int]:
        with Meter() as meter:
            for number in numbers:
                abs(number)
        return meter.instructions, meter.calls

    once, twice = measured([1] * 10), measured([1] * 20)
    assert measured([1] * 10) == once
    assert twice[1] - once[1] == 10
    assert measured([1] * 30)[0] - twice[0] == twice[0] - once[0]


async def test_the_count_of_a_run_is_the_same_every_time() -> None:
    first, second = await measure_run(2), await measure_run(2)
    assert first.calls == second.calls
    assert first.instructions == pytest.approx(second.instructions, rel=0.001)


async def test_a_step_late_in_a_run_costs_what_one_at_its_beginning_does() -> None:
    early = (await measure_run(15)).instructions - (await measure_run(5)).instructions
    late = (await measure_run(205)).instructions - (await measure_run(195)).instructions
    assert late <= early * 1.1
