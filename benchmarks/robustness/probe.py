"""Run canitoolcall's live probe on a well-behaved fake server and on the embedded model.

    python -m benchmarks.robustness.probe               # the fake server, seconds
    python -m benchmarks.robustness.probe --embedded    # also the embedded model, minutes
    python -m benchmarks.robustness.probe --write       # both, and write the table to the page

The fake server plays a rule-based model that is always right, so a failure is the server's fault.
The embedded model's answers are also read with agentcall's readers.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path
from typing import Any

from agentcall.dialects.parsers.response_parser import collect_parts, create_text_reader
from agentcall.testing import Completion, FakeServer, RecordedRequest, Reply, call, calls, say
from benchmarks.robustness.canitoolcall_readers import CANITOOLCALL, OfferedTool
from benchmarks.robustness.installation import find_python
from benchmarks.robustness.section import Section, format_row

SECTION = Section("python -m benchmarks.robustness.probe --write")
ANSWER_TIMEOUT = 300
"""Timeout of one answer, in seconds; the embedded model runs on a CPU."""

COLUMNS = ("plain", "streamed", "same")
DESIGN_REVIEW = call(
    "create_event",
    title="Design review",
    start="2026-10-01T15:00:00Z",
    attendees=[
        {"name": "Ana", "email": "ana@example.com"},
        {"name": "Bo", "email": "bo@example.com"},
    ],
    location={"city": "Berlin", "room": "4.12"},
)
NOTE = call("save_note", title="Grüße aus Zürich", body="Café ☕ in 東京 — naïve résumé 🚀")
RULES: tuple[tuple[str, Completion], ...] = (
    (
        "Paris and in Tokyo",
        calls(call("get_weather", city="Paris"), call("get_weather", city="Tokyo")),
    ),
    ("weather in Paris", call("get_weather", city="Paris")),
    ("Lisbon", call("get_weather", city="Lisbon")),
    ("Design review", DESIGN_REVIEW),
    ("Save a note", NOTE),
    ("time is it on the server", call("get_server_time")),
    (
        "9.11 or 9.9",
        call("record_answer", answer="9.9").replace(thinking="9.9 is 9.90: it is larger."),
    ),
    ("17 + 25", say("42")),
)
"""The model's reply to a question that contains a text; the first match applies."""


def answer_by_rules(request: RecordedRequest) -> Reply:
    """Answer as a model that is always right: call the right tool, and repeat its result."""
    last = request.messages[-1]
    content = str(last.get("content"))
    if last.get("role") == "tool":
        return say(f"The tool says: {content}")
    reply = next((reply for text, reply in RULES if text in content), say("I do not know."))
    names = {tool["function"]["name"] for tool in request.tools}
    has_tools = names.issuperset(call.name for call in reply.calls)
    return reply if has_tools else say("There is no tool for it.")


@dataclass(frozen=True, slots=True)
class ParsedCall:
    """A call with its parsed arguments."""

    name: str
    arguments: Mapping[str, Any]  # Any: JSON

    def includes(self, right: ParsedCall) -> bool:
        """Whether this is the right call; it may have more, optional arguments."""
        return self.name == right.name and right.arguments.items() <= self.arguments.items()


@dataclass(frozen=True, slots=True)
class ProbeOutcome:
    """The probe's outcome of a request: the scenario, the column, the verdict and the answer."""

    scenario: str
    column: str
    status: str
    heard: Mapping[str, Any]  # Any: JSON

    @property
    def calls(self) -> list[ParsedCall]:
        """The native calls."""
        native: Sequence[Mapping[str, Any]] = self.heard.get("tool_calls") or ()
        return [ParsedCall(each["name"], json.loads(each["arguments_raw"])) for each in native]

    def parse_calls(self, offers: Sequence[OfferedTool]) -> list[ParsedCall]:
        """Return the calls as agentcall reads them: the native ones, else those in the text."""
        reader = create_text_reader(offers)
        parts = reader.feed(self.heard.get("content") or "")
        found = collect_parts(parts + reader.close("stop")).calls
        return self.calls or [ParsedCall(each.name, json.loads(each.arguments)) for each in found]


def run_probe(url: str, name: str) -> list[ProbeOutcome]:
    """Run the probe on a server, one request at a time."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        probe = [str(find_python(CANITOOLCALL)), "-m", "canitoolcall", "probe", "--base-url", url]
        ways = ["--model", name, "--timeout", str(ANSWER_TIMEOUT), "--concurrency", "1"]
        subprocess.run([*probe, *ways, "--json", str(report)], check=False)  # 1: a row failed
        found = json.loads(report.read_text("utf-8"))["outcomes"]
    return [_parse_outcome(each) for each in found]


def _parse_outcome(found: Mapping[str, Any]) -> ProbeOutcome:  # Any: JSON
    column = "streamed" if found["stream"] else "plain"
    if found["check"] != "scenario":
        column = "same"
    return ProbeOutcome(found["scenario_id"], column, found["status"], found["observed"] or {})


@dataclass(frozen=True, slots=True)
class ProbeReport:
    """The outcomes of the probe on the fake server and on the embedded one."""

    fake: list[ProbeOutcome]
    offers: dict[str, list[OfferedTool]]
    embedded: list[ProbeOutcome]

    @property
    def markdown(self) -> str:
        """The table for the page."""
        names = ("agentcall", "xllamacpp")
        versions = ", ".join(f"{name} {version(name)}" for name in names)
        today = datetime.now(timezone.utc).date().isoformat()
        about = f"{versions}, {CANITOOLCALL.requirements_text.strip().replace('==', ' ')}, {today}."
        heads = [f"{server}, {column}" for server in ("fake", "embedded") for column in COLUMNS]
        lines = [
            format_row("scenario", *heads, "read by agentcall"),
            "|---" * (len(heads) + 2) + "|",
        ]
        return "\n".join((about, "", *lines, *self._rows()))

    def _rows(self) -> Iterator[str]:
        for scenario, offers in self.offers.items():
            fake = {each.column: each for each in self.fake if each.scenario == scenario}
            embedded = {each.column: each for each in self.embedded if each.scenario == scenario}
            verdicts = [found[column].status for found in (fake, embedded) for column in COLUMNS]
            yield format_row(scenario, *verdicts, _judge_calls(fake, embedded, offers))


def _judge_calls(
    fake: Mapping[str, ProbeOutcome],
    embedded: Mapping[str, ProbeOutcome],
    offers: Sequence[OfferedTool],
) -> str:
    """Return "pass" if the calls in both answers are those of the right model, else "fail"."""
    right = fake["plain"].calls
    for column in ("plain", "streamed"):
        read = embedded[column].parse_calls(offers)
        pairs = zip(read, right, strict=False)
        if len(read) != len(right) or not all(one.includes(other) for one, other in pairs):
            return "fail"
    return "pass"


def probe_fake() -> tuple[list[ProbeOutcome], dict[str, list[OfferedTool]]]:
    """Run the probe on the fake server; return the outcomes and the tools of each scenario."""
    with FakeServer(answer_by_rules) as server:
        found = run_probe(server.url, "fake-model")
        asked = server.requests
    plain = [each for each in found if each.column == "plain"]
    requests = [request for request in asked if not request.stream]
    return found, {
        outcome.scenario: [_make_offer(tool["function"]) for tool in request.tools]
        for outcome, request in zip(plain, requests, strict=True)
    }


def _make_offer(function: Mapping[str, Any]) -> OfferedTool:  # Any: JSON
    return OfferedTool(function["name"], function.get("parameters") or {})


def probe_embedded() -> list[ProbeOutcome]:
    """Run the probe on the embedded server."""
    from agentcall_server.embedded_server import EmbeddedServer

    with EmbeddedServer() as server:
        return run_probe(server.url, server.model)


def main() -> None:
    """Run the probe, and write the table to the page if requested."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.robustness.probe")
    parser.add_argument("--embedded", action="store_true", help="also probe the embedded model")
    parser.add_argument("--write", action="store_true", help="probe both, write the page's table")
    options = parser.parse_args()
    fake, offers = probe_fake()
    if not (options.embedded or options.write):
        return
    table = ProbeReport(fake, offers, probe_embedded()).markdown
    print(table)
    if options.write:
        SECTION.write(table)


if __name__ == "__main__":
    main()
