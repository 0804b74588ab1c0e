"""A doctor's report on the screen, or as JSON."""

from __future__ import annotations

import sys
from dataclasses import asdict

import orjson
from rich.console import Console
from rich.table import Table
from rich.text import Text

from agentcall.cli.doctor import DoctorOptions
from agentcall.cli.faults import UNFINISHED, UNREACHED
from agentcall.cli.interruptible import InterruptibleLoop
from agentcall.cli.whereabouts import server_of, usual_server
from agentcall.doctor import Finding, Level, Report, examine
from agentcall.models.endpoint import Endpoint
from agentcall.models.facts import Fate
from agentcall.models.launched import api_key
from agentcall.models.shorthand import parted
from agentcall.plaintext import line_of

_STYLES: dict[Level, str] = {"ok": "green", "warn": "yellow", "error": "bold red"}
_FATES: dict[Fate, str] = {
    "reach": "reach the model",
    "dropped": "are dropped silently",
    "refused": "are refused",
    "unknown": "not known",
}


def examined(options: DoctorOptions) -> int:
    """Prints the report; gives the exit code."""
    # of several servers the first is examined
    url, name = server_of(parted(options.url or usual_server())[0])
    endpoint = Endpoint(url, api_key(url))
    with InterruptibleLoop() as loop:
        report = loop.run(examine(endpoint, options.model or name))
    if options.json:
        sys.stdout.buffer.write(orjson.dumps(_document(report), option=orjson.OPT_INDENT_2) + b"\n")
    else:
        _show(report)
    if report.healthy:
        return 0
    return UNFINISHED if report.model or report.served else UNREACHED


def _document(report: Report) -> dict[str, object]:
    return {**asdict(report), "healthy": report.healthy}


def _show(report: Report) -> None:
    console = Console(highlight=False)
    facts = Table.grid(padding=(0, 2))
    for name, value in _facts(report):
        if value:
            facts.add_row(Text(name, "dim"), Text(line_of(value)))
    console.print(facts)
    for finding in report.findings:
        show_finding(console, finding)


def _facts(report: Report) -> list[tuple[str, str]]:
    streams = {True: "yes", False: "no", None: ""}[report.streams_with_tools]
    others = [name for name in report.served if name != report.model]
    return [
        ("server", report.url),
        ("software", f"{report.server or 'not known'} {report.version}".strip()),
        ("model", report.model),
        ("also serves", ", ".join(others)),
        ("context", f"{report.context:,} tokens" if report.context else "not told"),
        ("tools", _FATES[report.tools]),
        ("streams with tools", streams),
        ("dialect", f"{report.dialect}: {report.reason}" if report.dialect else ""),
    ]


def show_finding(console: Console, finding: Finding) -> None:
    """Prints how bad it is, what it is, and what to change."""
    grid = Table.grid(padding=(0, 1))
    grid.add_column(width=5)
    words = Text(line_of(finding.what))
    if finding.advice:
        words.append(f"\n{line_of(finding.advice)}", "dim")
    grid.add_row(Text(finding.level, _STYLES[finding.level]), words)
    console.print(grid)
