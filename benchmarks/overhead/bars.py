"""The limits for our overhead: ratios to a loop by hand on aiohttp, and to the best peer."""

from __future__ import annotations

import statistics
from dataclasses import dataclass

from benchmarks.overhead.field import AGENTCALL, AIOHTTP, FIELD
from benchmarks.overhead.results import Results

PEERS = tuple(each.name for each in FIELD if each.is_peer)


@dataclass(frozen=True, slots=True)
class Bar:
    """A limit for the ratio of our figure to that of `baseline`, or of the best peer if None.

    as_rate: the figure is the time of many runs, and is shown as runs per second.
    """

    label: str
    row: str
    figure: str
    limit: float
    baseline: str | None = AIOHTTP
    as_rate: bool = False

    def judge(self, results: Results) -> Verdict | None:
        """Return the verdict on the bar; None if it was not measured."""
        other = self.baseline or results.find_best(self.row, PEERS, self.figure)
        ratios = results.get_ratios(self.row, AGENTCALL, other, self.figure) if other else []
        return Verdict(self, other or "", tuple(ratios)) if ratios else None


@dataclass(frozen=True, slots=True)
class Verdict:
    """A bar, the contestant that we are compared with, and the sorted ratios of the rounds."""

    bar: Bar
    baseline: str
    ratios: tuple[float, ...]

    @property
    def ratio(self) -> float:
        """The median ratio."""
        return statistics.median(self.ratios)

    @property
    def is_held(self) -> bool:
        """Whether the ratio is within the limit."""
        return self.ratio <= self.bar.limit

    @property
    def description(self) -> str:
        """The verdict as text."""
        return "holds" if self.is_held else f"missed by {self.ratio / self.bar.limit - 1:.0%}"


BARS = (
    Bar("`from agentcall import Agent, tool`", "import", "cpu", 0.25, None),
    Bar("whole first run in a fresh process", "first run", "cpu", 0.35, None),
    Bar("warm run of three calls", "warm run", "cpu", 2.0),
    Bar("warm run of three calls", "warm run", "cpu", 0.20, None),
    Bar("1,000 runs at once: runs a second", "1000 at once", "wall", 2.0, as_rate=True),
    Bar("1,000 runs at once: runs a second", "1000 at once", "wall", 0.1, None, as_rate=True),
    Bar("1,000 runs at once: peak memory", "1000 at once", "peak", 0.5, None),
    Bar("run of 1 tool step", "1 steps", "cpu", 2.0),
    Bar("run of 10 tool steps", "10 steps", "cpu", 2.0),
    Bar("run of 50 tool steps", "50 steps", "cpu", 2.0),
    Bar("run of 200 tool steps", "200 steps", "cpu", 2.0),
    Bar("run of 200 tool steps", "200 steps", "cpu", 0.02, None),
    Bar("1 tool offered", "1 tools", "cpu", 2.0),
    Bar("100 tools offered", "100 tools", "cpu", 2.0),
    Bar("1,000 tools offered", "1000 tools", "cpu", 1.0),
    Bar("a tool's output of 1 kB", "1000 characters", "cpu", 2.0),
    Bar("a tool's output of 100 kB", "100000 characters", "cpu", 2.0),
    Bar("a tool's output of 1 MB", "1000000 characters", "cpu", 1.5),
    Bar("schemas of 1,000 functions", "schemas", "cpu", 0.5, None),
    Bar("an answer streamed in 2,000 chunks", "stream", "cpu", 2.0),
)
