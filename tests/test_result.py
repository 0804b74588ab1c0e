from __future__ import annotations

import json
from dataclasses import dataclass, replace

import pytest

from agentcall import PendingCall, RunResult
from agentcall.errors import UsageError
from agentcall.messages import Assistant, ToolCall, ToolResult, Usage, User
from agentcall.result import MissingOutput, NoOutput

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


@dataclass
class Point:
    x: int


def test_a_result_says_what_the_run_gave() -> None:
    assert RESULT.output == "It is 5."
    assert RESULT.new_messages == MESSAGES[2:]
    assert RESULT.tool_calls == ((CALL, ToolResult("a", "加", "5")),)
    assert RESULT.text == str(RESULT) == "It is 5."


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
