"""A smoke test on the screen, or as JSON: a doctor's findings, then question after question."""

from __future__ import annotations

import sys
from dataclasses import asdict, dataclass

import orjson
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from agentcall.cli.examination import show_finding
from agentcall.cli.faults import UNFINISHED, UNREACHED
from agentcall.cli.interruptible import InterruptibleLoop
from agentcall.cli.launches import SmokeOptions
from agentcall.cli.plain import shown_json
from agentcall.cli.standing import named
from agentcall.cli.whereabouts import server_of, usual_server
from agentcall.dialects.constrained import Constrained
from agentcall.doctor import Report, examine
from agentcall.models.endpoint import Endpoint
from agentcall.models.http_chat import HTTPChat
from agentcall.models.launched import api_key
from agentcall.models.protocol import Settings
from agentcall.plaintext import line_of
from agentcall.smoke import QUESTIONS, Check, ask
from agentcall_server.errors import NotUp
from agentcall_server.ledger import Entry, entries
from agentcall_server.progress import screen

_SAMPLED = Settings(temperature=0.0, max_tokens=1024)


@dataclass(frozen=True, slots=True)
class _Subject:
    """What is tested: the model, and how the doctor reaches it."""

    model: HTTPChat
    endpoint: Endpoint
    name: str | None


def smoked(options: SmokeOptions) -> int:
    """Prints the report; gives the exit code."""
    subject, show = _subject(options), screen()
    checks: list[Check] = []
    with InterruptibleLoop() as loop:
        show.wait(f"examining {subject.endpoint.place}")
        report = loop.run(examine(subject.endpoint, subject.name))
        for question in QUESTIONS if report.model and report.dialect else ():
            show.wait(f"asking: {question.name}")
            checks.append(loop.run(ask(subject.model, question)))
    show.wait("")
    passed = bool(checks) and all(check.passed for check in checks)
    if options.json:
        _write(report, checks, passed=passed)
    else:
        _show(report, checks)
    if not checks and not report.served:
        return UNREACHED
    return 0 if passed else UNFINISHED


def _subject(options: SmokeOptions) -> _Subject:
    entry = _launched(options.server)
    if entry is None:
        url, name = server_of(options.server or usual_server())
        endpoint, name = Endpoint(url, api_key(url)), options.model or name
        return _Subject(HTTPChat(endpoint, name, settings=_SAMPLED), endpoint, name)
    wanted, status = entry.wanted, entry.status
    if wanted is None or status is None or not entry.is_ready:
        raise NotUp(f"{entry.name} is not ready; agentcall server status {entry.name}")
    endpoint = Endpoint(f"{wanted.root}/v1", entry.door.key)
    name = options.model or status.model
    # as `embedded` does for a run
    dialect = Constrained() if wanted.kind == "embedded" else "auto"
    return _Subject(HTTPChat(endpoint, name, dialect=dialect, settings=_SAMPLED), endpoint, name)


def _launched(server: str | None) -> Entry | None:
    """The server of ours that is meant, if it is one."""
    if server is None:
        ready = [one for one in entries() if one.is_ready]
        return ready[0] if len(ready) == 1 else None
    return None if ":" in server else named(server)


def _write(report: Report, checks: list[Check], *, passed: bool) -> None:
    document = {
        "passed": passed,
        "checks": [{**asdict(check), "passed": check.passed} for check in checks],
        "doctor": {**asdict(report), "healthy": report.healthy},
    }
    whole = orjson.dumps(document, option=orjson.OPT_INDENT_2)
    sys.stdout.buffer.write(shown_json(whole) + b"\n")


def _show(report: Report, checks: list[Check]) -> None:
    console = Console(highlight=False)
    for finding in report.findings:
        show_finding(console, finding)
    if not checks:
        return
    table = Table(box=box.SIMPLE_HEAD, header_style="dim", pad_edge=False)
    for name in ("question", "", "calls", "answer", "seconds"):
        table.add_column(name, justify="right" if name == "seconds" else "left")
    for check in checks:
        verdict = Text("right", "green") if check.passed else Text("wrong", "bold red")
        answer = line_of(check.answer if check.passed else check.wrong, 120)
        table.add_row(
            check.name,
            verdict,
            Text("\n".join(map(line_of, check.calls))),
            Text(answer),
            f"{check.seconds:.1f}",
        )
    console.print(table)
    right = sum(check.passed for check in checks)
    console.print(f"{right} of {len(checks)} questions were answered rightly")
