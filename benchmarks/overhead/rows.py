"""The rows of the benchmark: what is measured, how often, and for which contestants."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from benchmarks.overhead.contestant_process import Figures
from benchmarks.overhead.field import OPENAI, Contestant
from benchmarks.overhead.stage import Stage
from benchmarks.overhead.task import Task

STEPS, TOOLS, OUTPUTS = (1, 10, 50, 200), (1, 10, 100, 1000), (1000, 100_000, 1_000_000)
AT_ONCE = (200, 1000)
CHUNKS, FUNCTIONS, RUNS = 2000, 1000, 300
FAULTS = 5
"""Percentage of the requests with each kind of fault."""

_SECONDS = 0.4
"""How long short runs are repeated in one round."""

Measurement = Callable[[Stage, Contestant], Figures]
Filter = Callable[[Contestant], bool]


def _is_any(contestant: Contestant) -> bool:
    del contestant
    return True


def _uses_official_client(contestant: Contestant) -> bool:
    return contestant.is_peer or contestant.name == OPENAI


def _has_schemas(contestant: Contestant) -> bool:
    return not contestant.name.endswith("by hand")


@dataclass(frozen=True, slots=True)
class Row:
    """A measurement; slow ones have fewer `rounds`."""

    name: str
    measure: Measurement
    rounds: int = 7
    includes: Filter = _is_any


def _runs(task: Task) -> Measurement:
    def how(stage: Stage, contestant: Contestant) -> Figures:
        return stage.measure_warm(contestant, "runs", task, seconds=_SECONDS)

    return how


def _without_walk(task: Task) -> Measurement:
    def how(stage: Stage, contestant: Contestant) -> Figures:
        return stage.measure_warm(contestant.without_walk(), "runs", task, seconds=_SECONDS)

    return how


def _streams(task: Task) -> Measurement:
    def how(stage: Stage, contestant: Contestant) -> Figures:
        return stage.measure_warm(contestant, "streams", task, seconds=_SECONDS)

    return how


def _crowd(at_once: int) -> Measurement:
    def how(stage: Stage, contestant: Contestant) -> Figures:
        return stage.measure_fresh(contestant, "crowd", Task(delay=50), at_once=at_once)

    return how


def _import(stage: Stage, contestant: Contestant) -> Figures:
    return stage.cold_import(contestant)


def _first(stage: Stage, contestant: Contestant) -> Figures:
    return stage.cold_run(contestant, Task())


def _schemas(stage: Stage, contestant: Contestant) -> Figures:
    return stage.measure_fresh(contestant, "schemas", Task(tools=FUNCTIONS))


def _survival(stage: Stage, contestant: Contestant) -> Figures:
    dice = contestant.name.replace(" ", "-")  # the same faults for each, from the first on
    return stage.measure_fresh(contestant, "survival", Task(faults=FAULTS, dice=dice), runs=RUNS)


def _get_rounds(steps: int) -> int:
    return 7 if steps <= 10 else 3


ROWS = (
    Row("import", _import),
    Row("first run", _first),
    Row("warm run", _runs(Task())),
    *(Row(f"{n} at once", _crowd(n), 3 if n < 1000 else 2) for n in AT_ONCE),
    *(Row(f"{n} steps", _runs(Task(steps=n)), _get_rounds(n)) for n in STEPS),
    *(
        Row(f"{n} steps, no walk", _without_walk(Task(steps=n)), 3, _uses_official_client)
        for n in STEPS
    ),
    *(Row(f"{n} tools", _runs(Task(tools=n))) for n in TOOLS),
    *(Row(f"{n} characters", _runs(Task(output=n))) for n in OUTPUTS),
    Row("schemas", _schemas, 5, _has_schemas),
    Row("first event", _streams(Task(steps=0, chunks=10, delay=5))),
    Row("stream", _streams(Task(steps=0, chunks=CHUNKS))),
    Row("faults", _survival, 1),
)
