from __future__ import annotations

import json
from pathlib import Path
from typing import get_args

import pytest
from rows import each_row

from agentcall.cli.render import LineDisplay
from agentcall.events import (
    AnswerDiscarded,
    ApprovalRequested,
    ContextCompacted,
    ContextTrimmed,
    DialectChosen,
    Event,
    HandedOver,
    LoopDetected,
    MessageReceived,
    MessagesOmitted,
    ModelAnswered,
    ModelProgress,
    Nested,
    PartialOutput,
    RunBlocked,
    RunFinished,
    RunStarted,
    ServerAdapted,
    TextDelta,
    ThinkingDelta,
    ToolCallDenied,
    ToolCallFinished,
    ToolCallRefused,
    ToolCallRepaired,
    ToolCallStarted,
    ToolProgress,
    event_to_json,
)
from agentcall.messages import ToolCall, ToolResult, Usage
from agentcall.result import MissingOutput, RunResult
from agentcall.serving.openai_api.response import format_step

CALL = ToolCall("a", "f", '{"x": 1}')
RESULT: RunResult[str] = RunResult(MissingOutput("why"), (), 0, Usage(1), "timeout", "r")
EVENTS: list[Event] = [
    RunStarted("r"),
    DialectChosen("native", "because"),
    ServerAdapted("alternating roles", "roles must alternate"),
    ModelProgress("reading", 128, 450),
    TextDelta("你好"),
    PartialOutput({"name": "Shang"}),
    ThinkingDelta("hm"),
    ModelAnswered(Usage(1, 10, 5), 2.0, 1.5),
    AnswerDiscarded("cut"),
    ToolCallRepaired(CALL, "rule", "a", "b"),
    ToolCallDenied(CALL, "because"),
    ApprovalRequested(CALL, "because"),
    ToolCallStarted(CALL),
    ToolProgress(CALL, {"done": 1}),
    ToolCallRefused(CALL, ToolResult("a", "f", "no", is_error=True)),
    ToolCallFinished(CALL, ToolResult("a", "f", "1"), 0.5),
    LoopDetected(CALL, "again"),
    ContextTrimmed("a", 10, 5),
    ContextCompacted(40, 12),
    MessagesOmitted(3),
    HandedOver("triage", "billing"),
    MessageReceived("Rome too."),
    RunBlocked("a secret"),
    Nested("research", "call_1", Nested("search", "call_2", TextDelta("a"))),
    RunFinished(RESULT),
]


def test_every_event_is_tried_here() -> None:
    assert {type(event) for event in EVENTS} == set(get_args(Event))


def test_the_docs_have_a_row_for_every_event() -> None:
    page = (Path(__file__).parents[1] / "docs/observability.md").read_text("utf-8")
    names = [type(event).__name__ for event in EVENTS]
    assert [name for name in names if f"\n| `{name}` |" not in page] == []


SHOWN: dict[type[Event], set[str]] = {
    RunStarted: set(),
    DialectChosen: {"terminal"},
    ServerAdapted: {"terminal"},
    ModelProgress: set(),
    TextDelta: set(),
    PartialOutput: set(),
    ThinkingDelta: {"endpoint"},
    ModelAnswered: set(),
    AnswerDiscarded: {"terminal"},
    ToolCallRepaired: {"terminal"},
    ToolCallDenied: set(),
    ApprovalRequested: {"endpoint"},
    ToolCallStarted: {"endpoint"},
    ToolProgress: {"endpoint", "terminal"},
    ToolCallRefused: {"endpoint"},
    ToolCallFinished: {"endpoint", "terminal"},
    LoopDetected: {"terminal"},
    ContextTrimmed: {"terminal"},
    ContextCompacted: {"terminal"},
    MessagesOmitted: {"terminal"},
    HandedOver: {"terminal"},
    MessageReceived: {"terminal"},
    RunBlocked: {"terminal"},
    Nested: set(),
    RunFinished: set(),
}
"""Where an event is shown as a step: the endpoint's reasoning text, the terminal's lines."""


def test_every_event_is_shown_where_it_should_be(capsys: pytest.CaptureFixture[str]) -> None:
    assert set(SHOWN) == set(get_args(Event))
    for event in EVENTS:
        LineDisplay(verbose=True).handle(event)
        shown = {"terminal"} if capsys.readouterr().err else set()
        if format_step(event) is not None:
            shown.add("endpoint")
        assert shown == SHOWN[type(event)], event


@each_row("event", EVENTS, ids=lambda event: type(event).__name__)
def test_an_event_has_a_json_form_with_its_name_and_fields(event: Event) -> None:
    wire = event_to_json(event)
    assert wire["type"] == type(event).__name__
    assert set(wire) == {"type", *type(event).__slots__}
    assert json.loads(json.dumps(wire)) == wire


def test_a_finished_call_says_the_call_the_result_and_the_time() -> None:
    wire = event_to_json(ToolCallFinished(CALL, ToolResult("a", "f", "1"), 0.5))
    assert wire["call"]["function"]["name"] == "f"  # type: ignore[index,call-overload]
    assert wire["result"]["content"] == "1"  # type: ignore[index,call-overload]
    assert wire["seconds"] == 0.5


def test_a_finished_run_says_why_there_is_no_output() -> None:
    wire = event_to_json(RunFinished(RESULT))["result"]
    assert wire["output"] is None  # type: ignore[index,call-overload]
    assert wire["missing"] == "why"  # type: ignore[index,call-overload]
