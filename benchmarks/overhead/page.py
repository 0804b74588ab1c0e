"""Build the tables of docs/performance.md, which are between markers."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from benchmarks.overhead import plot
from benchmarks.overhead.bars import BARS, PEERS, Verdict
from benchmarks.overhead.field import AGENTCALL, AIOHTTP
from benchmarks.overhead.results import Results
from benchmarks.overhead.rows import AT_ONCE, CHUNKS, OUTPUTS, STEPS, TOOLS


@dataclass(frozen=True, slots=True)
class Column:
    """A column with one figure of a row; seconds and bytes are multiplied by `scale`.

    beside: the contestant whose figure is absolute, the others are ratios to it; None for none.
    at_once: for runs per second, the number of runs in the measured time.
    """

    title: str
    row: str
    figure: str
    scale: float = 1000
    beside: str | None = AIOHTTP
    at_once: int = 0

    def format_cell(self, results: Results, name: str) -> str:
        """Return the cell of a contestant."""
        values = results.get_values(self.row, name, self.figure)
        if not values:
            return ""
        if self.beside is None or name == self.beside:
            return _format_number(self._convert(statistics.median(values)))
        ratios = results.get_ratios(self.row, name, self.beside, self.figure)
        return _format_spread([1 / ratio for ratio in ratios] if self.at_once else ratios)

    def _convert(self, value: float) -> float:
        return self.at_once / value if self.at_once else value * self.scale


_MEGA = 1 / 1024**2
COLD = (
    Column("import, CPU ms", "import", "cpu"),
    Column("memory behind it, MB", "import", "peak", _MEGA, None),
    Column("first run, CPU ms", "first run", "cpu"),
    Column("first run, clock ms", "first run", "wall"),
    Column("memory, MB", "first run", "peak", _MEGA, None),
    Column("1,000 schemas, CPU ms", "schemas", "cpu", beside=AGENTCALL),
)
WARM = (
    Column("run of three calls, CPU ms", "warm run", "cpu"),
    *(Column(f"{n:,} at once, runs/s", f"{n} at once", "wall", 1, at_once=n) for n in AT_ONCE),
    *(Column(f"{n:,} at once, peak MB", f"{n} at once", "peak", _MEGA, None) for n in AT_ONCE),
    Column("right answers of 100 under faults", "faults", "well", 100, None),
)
GROWTH = tuple(
    Column(f"steps: {n}, CPU ms a call", f"{n} steps", "cpu", 1000 / (n + 1)) for n in STEPS
)
LOAD = (
    *(Column(f"tools: {n:,}, CPU ms", f"{n} tools", "cpu") for n in TOOLS),
    *(Column(f"output: {n // 1000:,} kB, CPU ms", f"{n} characters", "cpu") for n in OUTPUTS),
)
STREAM = (
    Column("first event, clock ms", "first event", "first"),
    Column(f"{CHUNKS:,} chunks, CPU ms", "stream", "cpu"),
    Column("pieces seen", "stream", "pieces", 1, None),
)


def build_field_page(results: Results) -> str:
    """Build all tables of the whole field."""
    names = list(results.versions)
    crowd = f"![Runs a second of a thousand at once]({plot.CROWD})"
    growth = f"![CPU of a call by the steps of its run]({plot.GROWTH})"
    parts = [
        ("Bars", build_bars_table(results)),
        ("Cold start", build_table(results, names, COLD)),
        ("Warm runs", f"{crowd}\n\n{build_table(results, names, WARM)}"),
        ("Growth with steps", f"{growth}\n\n{build_table(results, names, GROWTH)}"),
        ("With tools and outputs", build_table(results, names, LOAD)),
        ("Streaming", build_table(results, names, STREAM)),
        ("Without the client's walk", f"{build_walk_table(results)}\n\n{describe_walk(results)}"),
    ]
    return "\n\n".join(
        [*(f"#### {title}\n\n{made}" for title, made in parts), describe_environment(results)]
    )


def build_own_page(results: Results) -> str:
    """Build the bars compared with aiohttp."""
    return f"{build_bars_table(results)}\n\n{describe_environment(results)}"


def build_table(results: Results, names: Sequence[str], columns: Sequence[Column]) -> str:
    """Build a table with a row per contestant that has results, and a column per figure."""
    lines = [_format_row(["", *(column.title for column in columns)])]
    lines.append("|---|" + "---:|" * len(columns))
    for name in names:
        cells = [column.format_cell(results, name) for column in columns]
        if any(cells):
            lines.append(_format_row([name, *cells]))
    return "\n".join(lines)


def build_walk_table(results: Results) -> str:
    """Build the table of the CPU time with and without the client's conversion, by steps."""
    titles = [f"steps: {n}, CPU ms a call, without it, part left" for n in STEPS]
    lines = [_format_row(["", *titles, "agentcall's part of what is left at the end"])]
    lines.append("|---|" + "---:|" * (len(STEPS) + 1))
    last = f"{STEPS[-1]} steps"
    for name in results.rows.get(f"{last}, no walk", ()):
        cells = [_format_walk_cell(results, name, steps) for steps in STEPS]
        ours, left = (
            _get_median(results, last, AGENTCALL),
            _get_median(results, f"{last}, no walk", name),
        )
        lines.append(_format_row([name, *cells, f"{ours / left:.3f}" if ours and left else ""]))
    return "\n".join(lines)


def describe_walk(results: Results) -> str:
    """Compare the peers' longest runs without the conversion with agentcall's."""
    row = f"{STEPS[-1]} steps"
    parts: list[str] = []
    for name, told in ((row, "As it is"), (f"{row}, no walk", "Without the walk")):
        best = results.find_best(name, PEERS, "cpu")
        ours, theirs = _get_median(results, row, AGENTCALL), _get_median(results, name, best or "")
        if best and ours and theirs:
            parts.append(f"{told}, agentcall costs {ours / theirs:.3f} of the best peer, {best}.")
    return f"At {STEPS[-1]} steps: {' '.join(parts)}"


def _format_walk_cell(results: Results, name: str, steps: int) -> str:
    row = f"{steps} steps"
    whole, left = _get_median(results, row, name), _get_median(results, f"{row}, no walk", name)
    if not whole or not left:
        return ""
    calls = (steps + 1) / 1000
    return f"{_format_number(whole / calls)}, {_format_number(left / calls)}, {left / whole:.2f}"


def _get_median(results: Results, row: str, name: str) -> float | None:
    return results.get_median(row, name, "cpu")


def build_bars_table(results: Results) -> str:
    """Build the table of the bars and their verdicts."""
    head = ["what", "beside", "agentcall", "it", "ratio, lowest to highest", "bar", ""]
    verdicts = [found for bar in BARS if (found := bar.judge(results))]
    lines = [_format_row(head), "|---|---|---:|---:|---:|---:|---|"]
    return "\n".join([*lines, *(_format_bar(results, each) for each in verdicts)])


def _format_bar(results: Results, verdict: Verdict) -> str:
    bar = verdict.bar
    figures = [
        results.get_median(bar.row, name, bar.figure) for name in (AGENTCALL, verdict.baseline)
    ]
    ratios: Sequence[float] = verdict.ratios
    if bar.as_rate:
        ratios = sorted(1 / ratio for ratio in ratios)
    allowed = f"at least {1 / bar.limit:g}" if bar.as_rate else f"at most {bar.limit:g}"
    told = [_format_figure(bar.figure, figure, bar.as_rate) for figure in figures if figure]
    return _format_row(
        [bar.label, verdict.baseline, *told, _format_spread(ratios), allowed, verdict.description]
    )


def _format_figure(figure: str, value: float, as_rate: bool) -> str:
    if as_rate:
        return f"{_format_number(1000 / value)}/s"
    if figure == "peak":
        return f"{_format_number(value * _MEGA)} MB"
    return f"{_format_number(value * 1000)} ms"


def describe_environment(results: Results) -> str:
    """Return versions, machine and date as text."""
    versions: dict[str, str] = {}
    for name, packages in results.versions.items():
        told = ", ".join(f"{package} {number}" for package, number in packages.items())
        versions[name] = told
    listed = "; ".join(f"{name}: {told}" for name, told in versions.items())
    return f"Made on {results.date} with Python {results.python}; {results.machine}. {listed}."


def _format_spread(ratios: Sequence[float]) -> str:
    low, high = min(ratios), max(ratios)
    middle = _format_number(statistics.median(ratios))
    return (
        middle
        if len(ratios) == 1
        else f"{middle} ({_format_number(low)} to {_format_number(high)})"
    )


def _format_number(value: float) -> str:
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def _format_row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def replace_section(page: str, name: str, made: str) -> str:
    """Replace the text between the markers of this name. Raises ValueError if they are missing."""
    begin, end = f"<!-- begin: {name} -->", f"<!-- end: {name} -->"
    head, found, rest = page.partition(begin)
    _, ended, tail = rest.partition(end)
    if not found or not ended:
        raise ValueError(f"the page lacks {begin} or {end}")
    return f"{head}{begin}\n{made}\n{end}{tail}"
