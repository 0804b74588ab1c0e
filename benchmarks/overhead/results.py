"""The results, saved as JSON: the figures of each round, and the machine and versions."""

from __future__ import annotations

import json
import os
import platform
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

Rounds = dict[str, list[dict[str, float]]]
"""The figures of each round, by contestant."""


def _describe_machine() -> str:
    cpu = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        lines = info.read_text("utf-8", "replace").splitlines()
        names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
        cpu = names[0] if names else cpu
    return f"{platform.system()} on {os.cpu_count()} cores ({cpu})"


@dataclass(slots=True)
class Results:
    """The figures of all rows, in seconds and bytes."""

    versions: dict[str, dict[str, str]] = field(default_factory=dict[str, "dict[str, str]"])
    rows: dict[str, Rounds] = field(default_factory=dict[str, Rounds])
    machine: str = field(default_factory=_describe_machine)
    python: str = field(default_factory=platform.python_version)
    date: str = field(default_factory=lambda: datetime.now(timezone.utc).date().isoformat())

    def get_values(self, row: str, name: str, figure: str) -> list[float]:
        """Return a contestant's figure of each round; empty if it was not measured."""
        return [each[figure] for each in self.rows.get(row, {}).get(name, ()) if figure in each]

    def get_median(self, row: str, name: str, figure: str) -> float | None:
        """Return the median of a contestant's figure; None if it was not measured."""
        values = self.get_values(row, name, figure)
        return statistics.median(values) if values else None

    def find_best(self, row: str, names: Sequence[str], figure: str) -> str | None:
        """Return the contestant with the lowest median."""
        known = {name: self.get_median(row, name, figure) for name in names}
        measured = {name: value for name, value in known.items() if value is not None}
        return min(measured, key=lambda name: measured[name]) if measured else None

    def get_ratios(self, row: str, name: str, other: str, figure: str) -> list[float]:
        """Return the sorted ratios of two contestants' figures, round by round."""
        ours, theirs = self.get_values(row, name, figure), self.get_values(row, other, figure)
        return sorted(a / b for a, b in zip(ours, theirs, strict=False))

    def merge(self, others: Results) -> Results:
        """Return the other results, with our rows that they lack.

        Raises ValueError if the machine or the versions differ.
        """
        if self.rows and (self.machine, self.python, self.versions) != (
            others.machine,
            others.python,
            others.versions,
        ):
            raise ValueError("the machine or a version has changed: measure all rows again")
        return replace(others, rows={**self.rows, **others.rows})

    def save(self, path: Path) -> None:
        """Save the results to a file."""
        path.write_text(json.dumps(asdict(self), indent=1) + "\n", "utf-8")


def round_figure(value: float) -> float:
    """Round to six digits, which is more than can be measured."""
    return float(f"{value:.6g}")


def load_results(path: Path) -> Results:
    """Load results from a file."""
    known: dict[str, Any] = json.loads(path.read_text("utf-8"))  # Any: JSON
    return Results(**known)
