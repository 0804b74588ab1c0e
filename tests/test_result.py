from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import get_args

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from rows import each_row

from agentcall import Agent, Limits, PendingCall, RunResult
from agentcall.cli.errors import describe_ending
from agentcall.dialects.dialect import PromptSpec
from agentcall.errors import UsageError
from agentcall.messages import Assistant, ToolCall, ToolResult, Usage, User
from agentcall.result import MissingOutput, NoOutput, StopReason
from agentcall.runtime.instrumentation import AgentSpan, get_instrumentation
from agentcall.serving.openai_api.response import get_finish_reason
from agentcall.testing import ScriptedModel, say
from agentcall.tracing import instrument

CALL = ToolCall("a", "加", '{"x": "一"}')
WAITING = PendingCall(CALL, "算", "a reason; 加 waits for approval: none")
MESSAGES = (
    User("earlier"),
    Assistant("old"),
    User("q"),
    Assistant("let me see", (CALL,)),
    ToolResult("a", "加", "5"),
    Assistant("It is 5."),
)
RESULT = RunResult("It is 5.", MESSAGES, 2, Usage(2, 30, 4, 1, 1), "final", "r1", turns=2)


def add(a: int, b: int) -> int:
    """Add."""
    return a + b


@dataclass
class Point:
    x: int


def test_a_result_says_what_the_run_gave() -> None:
    assert RESULT.output == "It is 5."
    assert RESULT.new_messages == MESSAGES[2:]
    assert RESULT.tool_calls == ((CALL, ToolResult("a", "加", "5")),)
    assert RESULT.text == str(RESULT) == "It is 5."


@pytest.mark.parametrize(
    ("output_type", "text", "answer"),
    [
        (str, "I think", "I think"),
        (int, "12", None),
        (list[int], "[1, 2]", [1, 2]),
        (list[int], "[1, 2", None),
    ],
)
def test_an_answer_that_was_cut_is_an_output_only_if_it_is_whole(
    output_type: type, text: str, answer: object
) -> None:
    for reason in ("length", "content_filter"):
        model = ScriptedModel([replace(say(text), finish_reason=reason)])
        result = Agent(model, output_type=output_type).run_sync("go")
        found = None if isinstance(result.answer, MissingOutput) else result.answer
        assert (found, result.text) == (answer, text)


async def test_a_text_that_was_rejected_is_no_output() -> None:
    replies = [say("I will look it up.")]
    agent = Agent(
        ScriptedModel(replies), tools=[add], required_tools=[add], limits=Limits(requests=1)
    )
    result = await agent.run("go")
    assert (result.stop_reason, result.text) == ("max_requests", "I will look it up.")
    with pytest.raises(NoOutput, match="it made 1 requests"):
        result.output


def test_the_text_is_that_of_this_run_alone() -> None:
    assert replace(RESULT, messages=MESSAGES[:3]).text == ""


def test_an_output_that_is_missing_raises_with_the_reason() -> None:
    result = replace(RESULT, answer=MissingOutput("it made 3 requests"), stop_reason="max_requests")
    with pytest.raises(NoOutput, match=r"max_requests.*it made 3 requests"):
        result.output
    assert str(result) == "It is 5."


@pytest.mark.parametrize(
    "result",
    [
        RESULT,
        replace(RESULT, answer=MissingOutput("waits"), stop_reason="approval", pending=(WAITING,)),
    ],
)
def test_a_result_comes_back_from_json(result: RunResult[str]) -> None:
    text = result.to_json()
    assert RunResult.from_json(text) == RunResult.from_json(text.encode()) == result
    assert "加" in text


def test_a_typed_output_comes_back_as_json() -> None:
    result = replace(RESULT, answer=Point(3))  # type: ignore[arg-type]
    assert RunResult.from_json(result.to_json()).output == {"x": 3}


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", json.dumps({**json.loads(RESULT.to_json()), "stop_reason": "x"})]
)
def test_what_is_no_result_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="not the result of a run"):
        RunResult.from_json(text)


FINISH_REASONS: dict[StopReason, str] = {
    "final": "stop",
    "max_requests": "length",
    "max_tool_calls": "stop",
    "max_tokens": "length",
    "content_filter": "content_filter",
    "loop": "stop",
    "timeout": "stop",
    "cancelled": "stop",
    "approval": "stop",
    "blocked": "content_filter",
    "error": "stop",
}
"""Of the endpoint, by stop reason. A new stop reason has to be handled in each test below."""

FAILED: set[StopReason] = {"timeout", "cancelled", "error"}
"""The stop reasons with which the span of a run is a failed one."""


def test_every_stop_reason_is_in_these_tests() -> None:
    assert set(FINISH_REASONS) == set(get_args(StopReason))


@each_row("reason", FINISH_REASONS)
def test_the_endpoint_has_a_finish_reason_for_every_stop_reason(reason: StopReason) -> None:
    assert get_finish_reason(replace(RESULT, stop_reason=reason)) == FINISH_REASONS[reason]


@each_row("reason", FINISH_REASONS)
def test_the_command_line_explains_every_stop_reason_but_final(reason: StopReason) -> None:
    assert bool(describe_ending(replace(RESULT, stop_reason=reason))) == (reason != "final")


@each_row("reason", FINISH_REASONS)
def test_a_span_has_a_status_for_every_stop_reason(reason: StopReason) -> None:
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    with instrument(tracer_provider=provider):
        instrumentation = get_instrumentation()
        assert instrumentation is not None
        span = AgentSpan("a", "r", PromptSpec("", (), None), ())
        with instrumentation.observe(span) as record:
            record(replace(RESULT, stop_reason=reason))
    (finished,) = exporter.get_finished_spans()
    assert finished.status.is_ok == (reason not in FAILED)
    assert dict(finished.attributes or {})["agentcall.stop_reason"] == reason


def test_the_docs_have_a_row_for_every_stop_reason() -> None:
    page = (Path(__file__).parents[1] / "docs/stopping.md").read_text("utf-8")
    assert [reason for reason in FINISH_REASONS if f"\n| `{reason}` |" not in page] == []
