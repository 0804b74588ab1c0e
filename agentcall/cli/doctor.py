"""`agentcall doctor` and `agentcall server smoke`: examine a model server, and test it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from agentcall.cli.command import make_app
from agentcall.cli.errors import UNFINISHED, UNREACHABLE, print_warning
from agentcall.cli.interrupt import InterruptibleLoop
from agentcall.cli.model_server import get_default_server, resolve_server
from agentcall.cli.options import JSONObjectOption, JSONOption, ServedModelOption
from agentcall.cli.server.local import get_server
from agentcall.cli.terminal import make_table, write_json
from agentcall.diagnostics.doctor import DoctorReport, Finding, FindingLevel, examine
from agentcall.diagnostics.smoke import QUESTIONS, SmokeCheck, ask_question
from agentcall.dialects.constrained import ConstrainedDialect
from agentcall.display import to_single_line
from agentcall.models.capabilities import ToolSupport
from agentcall.models.http import HTTPEndpoint
from agentcall.models.http_chat import HTTPChat
from agentcall.models.resolve import split_shorthands
from agentcall.models.server_programs import PROGRAMS, find_listening_programs
from agentcall.settings import ModelSettings
from agentcall_server.errors import ServerNotRunning
from agentcall_server.progress import make_progress
from agentcall_server.server_registry import ServerEntry, list_entries

DOCTOR_HELP = """Examine a model server: is it up, do tools reach the model, what to change.

\b
Exit codes:
  0  no problem was found
  1  something has to be changed
  2  the command is wrong
  3  the server cannot be reached, or refuses the request
"""
SMOKE_HELP = """Ask a server a few questions that need tools, and check its answers.

SERVER is the name of a server that was launched on this machine, http://host:port/v1, or
lmdeploy:NAME. Default: the only server that is ready, else AGENTCALL_MODEL, else
http://127.0.0.1:23333/v1.

\b
Exit codes:
  0  all answers and tool calls are right
  1  some are not
  3  the server cannot be reached, or refuses the request
"""

_LEVEL_STYLES: dict[FindingLevel, str] = {"ok": "green", "warn": "yellow", "error": "bold red"}
_TOOL_SUPPORT_TEXTS: dict[ToolSupport, str] = {
    "reach": "reach the model",
    "dropped": "are dropped silently",
    "refused": "are refused",
    "unknown": "not known",
}
_SMOKE_SETTINGS = ModelSettings(temperature=0.0, max_tokens=1024)


@dataclass(frozen=True, slots=True)
class DoctorOptions:
    """Options of `agentcall doctor`."""

    url: Annotated[
        str | None,
        typer.Argument(
            help="http://host:port/v1, http://host:port/v1#NAME, lmdeploy:NAME or ollama:NAME "
            "(vllm, llamacpp, ...). "
            "Default: AGENTCALL_MODEL if it is one of these, else http://127.0.0.1:23333/v1.",
        ),
    ] = None
    model: ServedModelOption = None
    json: JSONObjectOption = False


@dataclass(frozen=True, slots=True)
class SmokeOptions:
    """Options of `agentcall server smoke`."""

    server: Annotated[
        str | None, typer.Argument(metavar="SERVER", help="A name, a URL or lmdeploy:NAME.")
    ] = None
    model: ServedModelOption = None
    json: JSONOption = False


def run_doctor(options: DoctorOptions) -> int:
    """Print the report and return the exit code."""
    # of several servers the first is examined
    endpoint, name = resolve_server(split_shorthands(options.url or get_default_server())[0])
    with InterruptibleLoop() as loop:
        report = loop.run(examine(endpoint, options.model or name))
    if options.json:
        write_json(_report_to_json(report), indent=True)
    else:
        _print_report(report)
        if options.url is None and not (report.model or report.served):
            print_warning(
                "to examine another server: agentcall doctor http://host:port/v1 (or ollama:NAME); "
                "without a server: agentcall run -m embedded, a model on this machine's CPU"
            )
            for kind in find_listening_programs():
                print_warning(
                    f"something listens at the usual port of {PROGRAMS[kind].title}: "
                    f"agentcall doctor {kind}:"
                )
    if report.healthy:
        return 0
    return UNFINISHED if report.model or report.served else UNREACHABLE


def _report_to_json(report: DoctorReport) -> dict[str, object]:
    return {**asdict(report), "healthy": report.healthy}


def _print_report(report: DoctorReport) -> None:
    streams = {True: "yes", False: "no", None: ""}[report.streams_with_tools]
    rows = {
        "server": report.url,
        "software": f"{report.server or 'not known'} {report.version}".strip(),
        "model": report.model,
        "also serves": ", ".join(name for name in report.served if name != report.model),
        "context": f"{report.context:,} tokens" if report.context else "not reported",
        "tools": _TOOL_SUPPORT_TEXTS[report.tools],
        "streams with tools": streams,
        "dialect": f"{report.dialect}: {report.reason}" if report.dialect else "",
    }
    grid = Table.grid(padding=(0, 2))
    for name, value in rows.items():
        if value:
            grid.add_row(Text(name, "dim"), Text(to_single_line(value)))
    console = Console(highlight=False)
    console.print(grid)
    for finding in report.findings:
        _print_finding(console, finding)


def _print_finding(console: Console, finding: Finding) -> None:
    """Print how bad it is, what it is, and what to change."""
    grid = Table.grid(padding=(0, 1))
    grid.add_column(width=5)
    text = Text(to_single_line(finding.what))
    if finding.advice:
        text.append(f"\n{to_single_line(finding.advice)}", "dim")
    grid.add_row(Text(finding.level, _LEVEL_STYLES[finding.level]), text)
    console.print(grid)


def run_smoke_test(options: SmokeOptions) -> int:
    """Ask the questions, print the report and return the exit code."""
    model, name = _resolve_smoke_target(options)
    progress = make_progress()
    checks: list[SmokeCheck] = []
    with InterruptibleLoop() as loop:
        progress.wait(f"examining {model.endpoint.display_url}")
        report = loop.run(examine(model.endpoint, name))
        for question in QUESTIONS if report.model and report.dialect else ():
            progress.wait(f"asking: {question.name}")
            checks.append(loop.run(ask_question(model, question)))
    progress.wait("")
    passed = bool(checks) and all(check.passed for check in checks)
    if options.json:
        document = {
            "passed": passed,
            "checks": [{**asdict(check), "passed": check.passed} for check in checks],
            "doctor": _report_to_json(report),
        }
        write_json(document, indent=True)
    else:
        _print_checks(report, checks)
    if not checks and not report.served:
        return UNREACHABLE
    return 0 if passed else UNFINISHED


def _resolve_smoke_target(options: SmokeOptions) -> tuple[HTTPChat, str | None]:
    """Return the model, and the name that the doctor examines."""
    entry = _find_launched_server(options.server)
    if entry is None:
        endpoint, name = resolve_server(options.server or get_default_server())
        name = options.model or name
        return HTTPChat(endpoint, name, settings=_SMOKE_SETTINGS), name
    wanted, status = entry.wanted, entry.status
    if wanted is None or status is None or not entry.is_ready:
        raise ServerNotRunning(f"{entry.name} is not ready; agentcall server status {entry.name}")
    endpoint = HTTPEndpoint(f"{wanted.root}/v1", entry.endpoint.key)
    name = options.model or status.model
    # the dialect that a run with -m embedded uses
    dialect = ConstrainedDialect() if wanted.kind == "embedded" else "auto"
    return HTTPChat(endpoint, name, dialect=dialect, settings=_SMOKE_SETTINGS), name


def _find_launched_server(name: str | None) -> ServerEntry | None:
    """Return the launched server of this name, or the only one that is ready."""
    if name is None:
        ready = [entry for entry in list_entries() if entry.is_ready]
        return ready[0] if len(ready) == 1 else None
    return None if ":" in name else get_server(name)


def _print_checks(report: DoctorReport, checks: list[SmokeCheck]) -> None:
    console = Console(highlight=False)
    for finding in report.findings:
        _print_finding(console, finding)
    if not checks:
        return
    table = make_table("question", "", "calls", "answer", Column("seconds", justify="right"))
    for check in checks:
        table.add_row(
            check.name,
            Text("right", "green") if check.passed else Text("wrong", "bold red"),
            Text("\n".join(map(to_single_line, check.calls))),
            Text(to_single_line(check.answer if check.passed else check.wrong, 120)),
            f"{check.seconds:.1f}",
        )
    console.print(table)
    right = sum(check.passed for check in checks)
    console.print(f"{right} of {len(checks)} questions were answered correctly")


app = make_app(DoctorOptions, run_doctor, DOCTOR_HELP)
smoke_app = make_app(SmokeOptions, run_smoke_test, SMOKE_HELP)
