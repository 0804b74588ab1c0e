"""A doctor's report on the screen, or as JSON."""

from __future__ import annotations

import sys
from dataclasses import asdict

import orjson
from rich.console import Console
from rich.table import Table
from rich.text import Text

from agentcall.cli.doctor import DoctorOptions
from agentcall.cli.faults import UNFINISHED, UNREACHABLE
from agentcall.cli.interruptible import InterruptibleLoop
from agentcall.cli.whereabouts import get_default_server, resolve_server
from agentcall.diagnostics.doctor import DoctorReport, Finding, FindingLevel, examine
from agentcall.display import to_single_line
from agentcall.models.capabilities import ToolSupport
from agentcall.models.http import HTTPEndpoint
from agentcall.models.local_servers import find_api_key
from agentcall.models.resolve import split_shorthands

_LEVEL_STYLES: dict[FindingLevel, str] = {"ok": "green", "warn": "yellow", "error": "bold red"}
_TOOL_SUPPORT_TEXTS: dict[ToolSupport, str] = {
    "reach": "reach the model",
    "dropped": "are dropped silently",
    "refused": "are refused",
    "unknown": "not known",
}


def run_doctor(options: DoctorOptions) -> int:
    """Prints the report; gives the exit code."""
    # of several servers the first is examined
    url, name = resolve_server(split_shorthands(options.url or get_default_server())[0])
    endpoint = HTTPEndpoint(url, find_api_key(url))
    with InterruptibleLoop() as loop:
        report = loop.run(examine(endpoint, options.model or name))
    if options.json:
        sys.stdout.buffer.write(
            orjson.dumps(_report_to_json(report), option=orjson.OPT_INDENT_2) + b"\n"
        )
    else:
        _print_report(report)
    if report.healthy:
        return 0
    return UNFINISHED if report.model or report.served else UNREACHABLE


def _report_to_json(report: DoctorReport) -> dict[str, object]:
    return {**asdict(report), "healthy": report.healthy}


def _print_report(report: DoctorReport) -> None:
    console = Console(highlight=False)
    facts = Table.grid(padding=(0, 2))
    for name, value in _list_report_rows(report):
        if value:
            facts.add_row(Text(name, "dim"), Text(to_single_line(value)))
    console.print(facts)
    for finding in report.findings:
        print_finding(console, finding)


def _list_report_rows(report: DoctorReport) -> list[tuple[str, str]]:
    streams = {True: "yes", False: "no", None: ""}[report.streams_with_tools]
    others = [name for name in report.served if name != report.model]
    return [
        ("server", report.url),
        ("software", f"{report.server or 'not known'} {report.version}".strip()),
        ("model", report.model),
        ("also serves", ", ".join(others)),
        ("context", f"{report.context:,} tokens" if report.context else "not told"),
        ("tools", _TOOL_SUPPORT_TEXTS[report.tools]),
        ("streams with tools", streams),
        ("dialect", f"{report.dialect}: {report.reason}" if report.dialect else ""),
    ]


def print_finding(console: Console, finding: Finding) -> None:
    """Prints how bad it is, what it is, and what to change."""
    grid = Table.grid(padding=(0, 1))
    grid.add_column(width=5)
    words = Text(to_single_line(finding.what))
    if finding.advice:
        words.append(f"\n{to_single_line(finding.advice)}", "dim")
    grid.add_row(Text(finding.level, _LEVEL_STYLES[finding.level]), words)
    console.print(grid)
