"""A smoke test on the screen, or as JSON: a doctor's findings, then question after question."""

from __future__ import annotations

import sys
from dataclasses import asdict, dataclass

import orjson
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from agentcall.cli.examination import print_finding
from agentcall.cli.faults import UNFINISHED, UNREACHABLE
from agentcall.cli.interruptible import InterruptibleLoop
from agentcall.cli.launches import ServerSmokeOptions
from agentcall.cli.plain import escape_json
from agentcall.cli.standing import get_server
from agentcall.cli.whereabouts import get_default_server, resolve_server
from agentcall.diagnostics.doctor import DoctorReport, examine
from agentcall.diagnostics.smoke import QUESTIONS, SmokeCheck, ask_question
from agentcall.dialects.constrained import ConstrainedDialect
from agentcall.display import to_single_line
from agentcall.models.http import HTTPEndpoint
from agentcall.models.http_chat import HTTPChat
from agentcall.models.local_servers import find_api_key
from agentcall.settings import ModelSettings
from agentcall_server.errors import ServerNotRunning
from agentcall_server.progress import make_progress
from agentcall_server.server_registry import ServerEntry, list_entries

_SMOKE_SETTINGS = ModelSettings(temperature=0.0, max_tokens=1024)


@dataclass(frozen=True, slots=True)
class _SmokeTarget:
    """What is tested: the model, and how the doctor reaches it."""

    model: HTTPChat
    endpoint: HTTPEndpoint
    name: str | None


def run_smoke_test(options: ServerSmokeOptions) -> int:
    """Prints the report; gives the exit code."""
    subject, show = _resolve_smoke_target(options), make_progress()
    checks: list[SmokeCheck] = []
    with InterruptibleLoop() as loop:
        show.wait(f"examining {subject.endpoint.display_url}")
        report = loop.run(examine(subject.endpoint, subject.name))
        for question in QUESTIONS if report.model and report.dialect else ():
            show.wait(f"asking: {question.name}")
            checks.append(loop.run(ask_question(subject.model, question)))
    show.wait("")
    passed = bool(checks) and all(check.passed for check in checks)
    if options.json:
        _write_smoke_json(report, checks, passed=passed)
    else:
        _print_smoke_results(report, checks)
    if not checks and not report.served:
        return UNREACHABLE
    return 0 if passed else UNFINISHED


def _resolve_smoke_target(options: ServerSmokeOptions) -> _SmokeTarget:
    entry = _find_launched_server(options.server)
    if entry is None:
        url, name = resolve_server(options.server or get_default_server())
        endpoint, name = HTTPEndpoint(url, find_api_key(url)), options.model or name
        return _SmokeTarget(HTTPChat(endpoint, name, settings=_SMOKE_SETTINGS), endpoint, name)
    wanted, status = entry.wanted, entry.status
    if wanted is None or status is None or not entry.is_ready:
        raise ServerNotRunning(f"{entry.name} is not ready; agentcall server status {entry.name}")
    endpoint = HTTPEndpoint(f"{wanted.root}/v1", entry.endpoint.key)
    name = options.model or status.model
    # as `embedded` does for a run
    dialect = ConstrainedDialect() if wanted.kind == "embedded" else "auto"
    return _SmokeTarget(
        HTTPChat(endpoint, name, dialect=dialect, settings=_SMOKE_SETTINGS), endpoint, name
    )


def _find_launched_server(server: str | None) -> ServerEntry | None:
    """The server of ours that is meant, if it is one."""
    if server is None:
        ready = [one for one in list_entries() if one.is_ready]
        return ready[0] if len(ready) == 1 else None
    return None if ":" in server else get_server(server)


def _write_smoke_json(report: DoctorReport, checks: list[SmokeCheck], *, passed: bool) -> None:
    document = {
        "passed": passed,
        "checks": [{**asdict(check), "passed": check.passed} for check in checks],
        "doctor": {**asdict(report), "healthy": report.healthy},
    }
    whole = orjson.dumps(document, option=orjson.OPT_INDENT_2)
    sys.stdout.buffer.write(escape_json(whole) + b"\n")


def _print_smoke_results(report: DoctorReport, checks: list[SmokeCheck]) -> None:
    console = Console(highlight=False)
    for finding in report.findings:
        print_finding(console, finding)
    if not checks:
        return
    table = Table(box=box.SIMPLE_HEAD, header_style="dim", pad_edge=False)
    for name in ("question", "", "calls", "answer", "seconds"):
        table.add_column(name, justify="right" if name == "seconds" else "left")
    for check in checks:
        verdict = Text("right", "green") if check.passed else Text("wrong", "bold red")
        answer = to_single_line(check.answer if check.passed else check.wrong, 120)
        table.add_row(
            check.name,
            verdict,
            Text("\n".join(map(to_single_line, check.calls))),
            Text(answer),
            f"{check.seconds:.1f}",
        )
    console.print(table)
    right = sum(check.passed for check in checks)
    console.print(f"{right} of {len(checks)} questions were answered rightly")
