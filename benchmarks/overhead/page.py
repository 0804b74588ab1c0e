"""The table of docs/performance.md, between its markers."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from importlib.metadata import version

from benchmarks.overhead.measure import Figure

BEGIN = "<!-- begin: python -m benchmarks.overhead -->"
END = "<!-- end -->"
_PACKAGES = ("aiohttp", "orjson", "pydantic")


def table(figures: Sequence[Figure]) -> str:
    """The figures as a table, and what they were made on."""
    lines = [
        "| | measured | agentcall, ms | aiohttp, ms | ratio | rounds, lowest to highest | bar |",
        "|---|---|---:|---:|---:|---:|---:|",
        *map(_line, figures),
    ]
    packages = ", ".join(f"{name} {version(name)}" for name in _PACKAGES)
    machine = f"{platform.system()} on {os.cpu_count()} cores ({platform.machine()})"
    made = f"Made with Python {platform.python_version()}, {packages}; {machine}."
    return "\n".join([*lines, "", made])


def _line(figure: Figure) -> str:
    low, high = figure.ratios[0], figure.ratios[-1]
    bar = "" if figure.bar is None else f"{figure.bar:.1f}"
    held = "" if figure.bar is None or figure.ratio <= figure.bar else " (missed)"
    return (
        f"| {figure.name} | {figure.unit} | {figure.ours:.2f} | {figure.raw:.2f} "
        f"| {figure.ratio:.2f} | {low:.2f} to {high:.2f} | {bar}{held} |"
    )


def written(page: str, made: str) -> str:
    """The page with the table in its place."""
    head, _, rest = page.partition(BEGIN)
    tail = rest.partition(END)[2]
    return f"{head}{BEGIN}\n{made}\n{END}{tail}"
