"""All scenarios of the battery, in the groups of the page."""

from __future__ import annotations

from dataclasses import dataclass

from benchmarks.robustness.answers import ANSWERS
from benchmarks.robustness.base import BASE
from benchmarks.robustness.calls import CALLS
from benchmarks.robustness.loops import LOOPS, OVERFLOWS
from benchmarks.robustness.repairs import REPAIRS
from benchmarks.robustness.scenario import Scenario
from benchmarks.robustness.streams import STREAMS
from benchmarks.robustness.texts import TEXTS
from benchmarks.robustness.thinking import THINKING


@dataclass(frozen=True, slots=True)
class Group:
    """Scenarios that are counted together."""

    title: str
    scenarios: tuple[Scenario, ...]


GROUPS = (
    Group("The 28 scenarios", BASE),
    Group("More scenarios", (*TEXTS, *CALLS, *ANSWERS, *LOOPS, *OVERFLOWS)),
    Group("Nothing lost in repair", REPAIRS),
    Group("Calls in streams", STREAMS),
    Group("Thinking, and calls that are cut", THINKING),
)
SCENARIOS = tuple(scenario for group in GROUPS for scenario in group.scenarios)
