"""Measures both ways side by side: rounds of both are interleaved, and ratios are what counts."""

from __future__ import annotations

import asyncio
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from resource import RUSAGE_CHILDREN, getrusage

import aiohttp

from benchmarks.overhead.runners import Runner, Task, by_hand, with_agentcall


@dataclass(frozen=True, slots=True)
class Row:
    """A line of the table; `bar` is the ratio that we allow ourselves.

    unit: "CPU" of a run, or "clock" time of as many runs as are made `at_once`.
    """

    name: str
    task: Task
    bar: float
    runs: int = 40
    at_once: int = 1

    @property
    def unit(self) -> str:
        """What is compared."""
        return "CPU" if self.at_once == 1 else "clock"


@dataclass(frozen=True, slots=True)
class Figure:
    """What was measured: milliseconds of a run both ways (medians), and each round's ratio."""

    name: str
    unit: str
    ours: float
    raw: float
    ratios: tuple[float, ...]
    bar: float | None

    @property
    def ratio(self) -> float:
        """The median of the ratios."""
        return statistics.median(self.ratios)


def figure(
    name: str, unit: str, rounds: Sequence[tuple[float, float]], bar: float | None
) -> Figure:
    """The figure of rounds of both."""
    ours, raw = (statistics.median(column) * 1000 for column in zip(*rounds, strict=True))
    return Figure(name, unit, ours, raw, tuple(sorted(a / b for a, b in rounds)), bar)


async def measured(row: Row, url: str, rounds: int) -> Figure:
    """The figure of a row."""
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector) as session:
        both = (with_agentcall(url, row.task), by_hand(url, row.task, session))
        for run in both:
            await _spent(run, row, warm=True)
        pairs = [(await _spent(both[0], row), await _spent(both[1], row)) for _ in range(rounds)]
    return figure(row.name, row.unit, pairs, row.bar)


async def _spent(run: Runner, row: Row, *, warm: bool = False) -> float:
    """Seconds of a run: of CPU where they follow each other, else of the clock for all."""
    if row.at_once > 1:
        began = time.perf_counter()
        await asyncio.gather(*(run() for _ in range(row.at_once)))
        return time.perf_counter() - began
    runs = max(1, row.runs // 4) if warm else row.runs
    began = time.process_time()
    for _ in range(runs):
        assert await run()
    return (time.process_time() - began) / runs


def fresh(name: str, ours: str, raw: str, rounds: int) -> Figure:
    """The CPU of a fresh process that runs this code, both ways."""
    return figure(name, "CPU", [(_process(ours), _process(raw)) for _ in range(rounds)], None)


def _process(code: str) -> float:
    before = getrusage(RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)
    after = getrusage(RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
