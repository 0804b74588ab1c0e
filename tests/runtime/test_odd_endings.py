"""Answers without text, or that something ended before the model did; plain and streamed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
from rows import each_row

from agentcall import Agent, tool
from agentcall.errors import BadAnswer
from agentcall.events import RunFinished, TextDelta
from agentcall.models.http_chat import HTTPChat
from agentcall.result import MissingOutput, RunResult
from agentcall.testing import (
    MISSING,
    Completion,
    FakeServer,
    Reply,
    call,
    forever,
    say,
)

both = pytest.mark.parametrize("stream", [False, True], ids=["plain", "streamed"])


@dataclass
class Point:
    x: int


@tool
def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


async def run(
    stream: bool, *script: Reply, output: Any = str
) -> tuple[RunResult[Any], list[Any], FakeServer]:
    """The result of a script, the events if they are asked for, and the server."""
    with FakeServer(script) as server:
        model = HTTPChat(server.url, "m", dialect="native")
        agent = Agent(model, tools=[add], output_type=output)
        if not stream:
            return await agent.run("go"), [], server
        events = [event async for event in agent.run_stream("go")]
        last = events[-1]
        assert isinstance(last, RunFinished)
        return last.result, events, server


def thinks(text: str, content: object = None) -> Completion:
    """An answer that stands in `reasoning_content` alone."""
    return Completion(thinking=text, message={"content": content})


@both
@each_row("content", [None, "", " \n", MISSING])
async def test_an_answer_that_is_only_thinking_is_taken_after_a_retry(
    stream: bool, content: object
) -> None:
    result, events, server = await run(stream, forever(thinks("It is 5.", content)))
    assert (result.output, result.stop_reason) == ("It is 5.", "final")
    assert len(server.requests) == 2
    if stream:
        assert [e.text for e in events if isinstance(e, TextDelta)][-1] == "It is 5."


@both
async def test_a_typed_answer_that_is_only_thinking_is_taken_after_a_retry(stream: bool) -> None:
    result, *_ = await run(stream, forever(thinks('So: {"x": 3}')), output=Point)
    assert result.output == Point(3)


@both
async def test_an_answer_after_tools_that_is_only_thinking_is_taken(stream: bool) -> None:
    script = (call("add", a=2, b=3), forever(thinks("It is 5.")))
    assert (await run(stream, *script))[0].output == "It is 5."


@both
async def test_a_model_that_answers_on_the_retry_is_not_taken_by_its_thinking(stream: bool) -> None:
    assert (await run(stream, thinks("hm"), say("It is 5.")))[0].output == "It is 5."


@both
async def test_thinking_that_is_no_answer_says_how_to_turn_the_parser_off(stream: bool) -> None:
    with pytest.raises(BadAnswer, match=r"empty answer 3 times.*reasoning parser"):
        await run(stream, forever(thinks("I wonder.")), output=Point)


@both
async def test_an_answer_that_a_filter_stopped_has_its_own_stop_reason(stream: bool) -> None:
    result, *_ = await run(stream, say("The secret is").replace(finish_reason="content_filter"))
    assert (result.output, result.stop_reason) == ("The secret is", "content_filter")


@both
async def test_an_answer_that_a_filter_removed_is_missing(stream: bool) -> None:
    result, *_ = await run(stream, say("").replace(finish_reason="content_filter"))
    assert result.stop_reason == "content_filter"
    assert isinstance(result.answer, MissingOutput)
    assert "content filter" in result.answer.reason
    assert RunResult.from_json(result.to_json()).stop_reason == "content_filter"


@both
async def test_a_call_in_a_filtered_answer_is_not_executed(stream: bool) -> None:
    reply = call("add", a=2, b=3).replace(finish_reason="content_filter")
    result, *_ = await run(stream, reply)
    assert (result.stop_reason, result.tool_calls) == ("content_filter", ())


@both
async def test_half_of_a_typed_answer_is_no_output(stream: bool) -> None:
    reply = say('{"x": ').replace(finish_reason="content_filter")
    result, *_ = await run(stream, reply, output=Point)
    assert result.stop_reason == "content_filter"
    assert isinstance(result.answer, MissingOutput)
    assert result.text == '{"x": '
