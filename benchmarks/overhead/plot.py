"""Draw two charts as SVG: the CPU time of a call by steps, and the rate of a thousand runs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from xml.sax.saxutils import escape

from benchmarks.overhead.field import AGENTCALL
from benchmarks.overhead.results import Results
from benchmarks.overhead.rows import STEPS

GROWTH, CROWD = "performance-growth.svg", "performance-crowd.svg"

Points = Mapping[str, Sequence[tuple[float, float]]]

_WIDE, _HIGH, _LEFT, _TOP, _RIGHT, _BOTTOM = 760, 420, 60, 40, 150, 50
_GREY, _OURS = "#9aa3ad", "#c2410c"
_FONT = 'font-family="sans-serif" font-size="12"'


def plot_growth(results: Results) -> str:
    """Draw the CPU milliseconds of a call by the tool steps of its run, both logarithmic."""
    points: dict[str, list[tuple[float, float]]] = {}
    for name in results.versions:
        for steps in STEPS:
            spent = results.get_median(f"{steps} steps", name, "cpu")
            if spent:
                points.setdefault(name, []).append((steps, spent * 1000 / (steps + 1)))
    return _draw_chart(points, "CPU of a call in ms, by the tool steps of its run")


def plot_crowd(results: Results) -> str:
    """Draw the runs per second of a thousand concurrent runs, as bars."""
    rates = {
        name: 1000 / wall
        for name in results.versions
        if (wall := results.get_median("1000 at once", name, "wall"))
    }
    high, most = 30 * len(rates) + _TOP + 10, max(rates.values(), default=1)
    parts = [_draw_text(_LEFT, 24, "1,000 runs at once: runs a second", anchor="start", bold=True)]
    for place, (name, rate) in enumerate(sorted(rates.items(), key=lambda item: -item[1])):
        y, colour = _TOP + 30 * place, _get_colour(name)
        wide = (_WIDE - 280) * rate / most
        parts.append(f'<rect x="170" y="{y}" width="{wide:.1f}" height="20" fill="{colour}"/>')
        parts.append(_draw_text(160, y + 15, name, anchor="end"))
        parts.append(_draw_text(176 + wide, y + 15, f"{rate:,.0f}", anchor="start"))
    return _wrap_svg(high, parts)


def _draw_chart(points: Points, title: str) -> str:
    every = [pair for pairs in points.values() for pair in pairs]
    if not every:
        return _wrap_svg(_HIGH, [_draw_text(_LEFT, 24, title, anchor="start", bold=True)])
    xs, ys = [math.log10(x) for x, _ in every], [math.log10(y) for _, y in every]
    low, high = math.floor(min(ys)), math.ceil(max(ys))
    right, bottom = _WIDE - _RIGHT, _HIGH - _BOTTOM

    def at(x: float, y: float) -> tuple[float, float]:
        across = (math.log10(x) - min(xs)) / (max(xs) - min(xs))
        up = (math.log10(y) - low) / (high - low)
        return _LEFT + across * (right - _LEFT), bottom - up * (bottom - _TOP)

    parts = [_draw_text(_LEFT, 24, title, anchor="start", bold=True)]
    for power in range(low, high + 1):
        _, y = at(STEPS[0], 10**power)
        parts.append(f'<path d="M{_LEFT} {y:.1f}H{right}" stroke="#e5e7eb"/>')
        parts.append(_draw_text(_LEFT - 6, y + 4, f"{10**power:g}", anchor="end"))
    for steps in STEPS:
        parts.append(_draw_text(at(steps, 1)[0], bottom + 20, str(steps), anchor="middle"))
    for name, pairs in points.items():
        line = "L".join(f"{x:.1f} {y:.1f}" for x, y in (at(*pair) for pair in pairs))
        style = f'fill="none" stroke="{_get_colour(name)}" stroke-width="2"'
        parts.append(f'<path d="M{line}" {style}/>')
    ends = {name: at(*pairs[-1])[1] for name, pairs in points.items()}
    for name, y in _separate_labels(ends).items():
        parts.append(_draw_text(right + 8, y + 4, name, anchor="start", colour=_get_colour(name)))
    return _wrap_svg(_HIGH, parts)


def _separate_labels(places: Mapping[str, float], least: float = 14) -> dict[str, float]:
    """Move labels down so that no two of them overlap."""
    moved: dict[str, float] = {}
    last = -math.inf
    for name, place in sorted(places.items(), key=lambda item: item[1]):
        last = moved[name] = max(place, last + least)
    return moved


def _get_colour(name: str) -> str:
    if name == AGENTCALL:
        return _OURS
    return "#2563eb" if name.endswith("by hand") else _GREY


def _draw_text(
    x: float, y: float, text: str, *, anchor: str, bold: bool = False, colour: str = "#111827"
) -> str:
    weight = ' font-weight="bold"' if bold else ""
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{colour}"{weight} {_FONT}>'
        f"{escape(text)}</text>"
    )


def _wrap_svg(high: float, parts: Sequence[str]) -> str:
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDE} {high:.0f}">'
    return "\n".join(
        [head, '<rect width="100%" height="100%" fill="#ffffff"/>', *parts, "</svg>\n"]
    )
