"""The results of the battery, saved in `results.json`."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeAlias

from benchmarks.robustness.scenario import Scenario
from benchmarks.robustness.verdict import NOT_MEANT, Outcome, find_problem

MAX_REASON = 200
"""Maximum characters of the reason why a figure is wrong."""

RESULTS = Path(__file__).parent / "results.json"
MODES: tuple[Mode, ...] = ("plain", "streamed")
Mode: TypeAlias = Literal["plain", "streamed"]


@dataclass(frozen=True, slots=True)
class Figure:
    """A framework's result in a scenario: its requests, and what was wrong."""

    requests: int
    wrong: str = ""

    @property
    def cell(self) -> str:
        """The figure as the cell of a table."""
        return f"{'no' if self.wrong else 'ok'}/{self.requests}"

    @property
    def is_harmful(self) -> bool:
        """Whether a wrong tool ran, or a tool with wrong arguments."""
        return self.wrong.startswith(NOT_MEANT)


@dataclass(frozen=True, slots=True)
class Record:
    """The results of a framework: versions, date, and figures by mode and scenario."""

    name: str
    versions: dict[str, str]
    date: str
    seconds: float
    figures: dict[Mode, dict[str, Figure]] = field(default_factory=dict[Mode, dict[str, Figure]])

    def score(self, mode: Mode, scenarios: Iterable[Scenario]) -> str:
        """Return how many of these scenarios are right: `28/28`."""
        figures = self._figures(mode, scenarios)
        return f"{sum(not figure.wrong for figure in figures)}/{len(figures)}"

    def harm(self, mode: Mode, scenarios: Iterable[Scenario]) -> int:
        """Return the number of these scenarios in which an unintended call ran."""
        return sum(figure.is_harmful for figure in self._figures(mode, scenarios))

    def _figures(self, mode: Mode, scenarios: Iterable[Scenario]) -> list[Figure]:
        figures = self.figures[mode]
        return [figures[scenario.name] for scenario in scenarios if scenario.name in figures]


def make_figure(scenario: Scenario, outcome: Outcome) -> Figure:
    """Return the figure of an outcome."""
    # The port differs from run to run.
    wrong = re.sub(r"(127\.0\.0\.1):\d+", r"\1", find_problem(scenario, outcome))
    return Figure(outcome.requests, " ".join(wrong.split())[:MAX_REASON])


def load_records(path: Path = RESULTS) -> list[Record]:
    """Load the records of a file; none if it does not exist."""
    if not path.exists():
        return []
    return [_parse_record(each) for each in json.loads(path.read_text("utf-8"))]


def save_records(records: Sequence[Record], path: Path = RESULTS) -> None:
    """Save the records to a file."""
    fields = [asdict(record, dict_factory=_drop_blanks) for record in records]
    text = json.dumps(fields, indent=1, ensure_ascii=False)
    path.write_text(text + "\n", "utf-8")


def merge_records(old: Sequence[Record], new: Sequence[Record]) -> list[Record]:
    """Return the old records, replaced by the new ones of the same name."""
    by_name = {record.name: record for record in (*old, *new)}
    return list(by_name.values())


def _drop_blanks(fields: list[tuple[str, Any]]) -> dict[str, Any]:  # Any: JSON
    return {name: value for name, value in fields if value != ""}


def _parse_record(fields: dict[str, Any]) -> Record:  # Any: JSON
    figures: dict[Mode, dict[str, Figure]] = {
        mode: {name: Figure(**figure) for name, figure in by_name.items()}
        for mode, by_name in fields["figures"].items()
    }
    return Record(fields["name"], fields["versions"], fields["date"], fields["seconds"], figures)
