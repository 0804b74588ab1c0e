"""The text of a run as it arrives, and streams for sync code."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agentcall import Agent, tool
from agentcall.durable import durable
from agentcall.errors import ModelRefused, UsageError
from agentcall.events import RunFinished, TextDelta, ToolCallFinished
from agentcall.models.http_chat import HTTPChat
from agentcall.testing import FakeServer, ScriptedModel, call, say, status

pytest_plugins = ["agentcall.testing.plugin"]
Serve = Callable[..., FakeServer]
ADD_AND_SAY = [say("I add.").replace(calls=call("add", a=2, b=3).calls), say("It is 5.")]


@tool
def add(a: int, b: int) -> int:
    """Add."""
    return a + b


def make_agent() -> Agent:
    return Agent(ScriptedModel(ADD_AND_SAY), tools=[add])


def serve_agent(server: FakeServer) -> Agent:
    return Agent(HTTPChat(server.url, "fake-model", dialect="native"), tools=[add])


async def test_the_text_of_a_run_arrives_in_pieces_and_the_result_at_its_end() -> None:
    stream = make_agent().stream_text("2+3?")
    with pytest.raises(UsageError, match="no result yet"):
        _ = stream.result
    pieces = [text async for text in stream]
    assert "".join(pieces) == "I add.\n\nIt is 5."
    assert stream.result.output == "It is 5."


def test_sync_code_reads_the_same_text(fake_server: Serve) -> None:
    server = fake_server([call("add", a=2, b=3), say("It is 5.")])
    stream = serve_agent(server).stream_text_sync("2+3?")
    assert "".join(stream) == "It is 5."
    assert stream.result.output == "It is 5."


def test_sync_code_reads_the_events_up_to_the_result() -> None:
    *events, last = make_agent().run_stream_sync("2+3?")
    assert isinstance(last, RunFinished)
    assert last.result.output == "It is 5."
    assert any(isinstance(event, ToolCallFinished) for event in events)


async def test_sync_streams_work_inside_a_running_loop() -> None:
    assert "".join(make_agent().stream_text_sync("2+3?")).endswith("It is 5.")


def test_no_request_follows_the_event_at_which_sync_code_leaves(fake_server: Serve) -> None:
    server = fake_server([call("add", a=2, b=3), say("It is 5.")])
    for event in serve_agent(server).run_stream_sync("2+3?"):
        if isinstance(event, ToolCallFinished):
            break
    assert len(server.requests) == 1


def test_no_request_follows_the_event_at_which_a_durable_stream_is_left(
    fake_server: Serve, tmp_path: Path
) -> None:
    server = fake_server([call("add", a=2, b=3), say("It is 5.")])
    with durable(serve_agent(server), f"sqlite:///{tmp_path / 'runs.db'}") as agent:
        for event in agent.run_stream_sync("2+3?", run_id="r"):
            if isinstance(event, ToolCallFinished):
                break
        assert len(server.requests) == 1
        assert "".join(agent.stream_text_sync(run_id="r")) == "It is 5."
    assert len(server.requests) == 2


async def test_closing_a_text_stream_that_was_not_read_makes_no_request(
    fake_server: Serve,
) -> None:
    server = fake_server([say("It is 5.")])
    async with serve_agent(server).stream_text("2+3?"):
        pass
    with serve_agent(server).stream_text_sync("2+3?"):
        pass
    assert server.requests == []


def test_leaving_a_sync_stream_cancels_the_tools() -> None:
    ended: list[str] = []

    @tool
    async def wait() -> None:
        """Wait."""
        try:
            await asyncio.sleep(60)
        finally:
            ended.append("cancelled")

    stream = Agent(ScriptedModel([call("wait")]), tools=[wait]).run_stream_sync("go")
    next(event for event in stream if type(event).__name__ == "ToolCallStarted")
    stream.close()
    assert ended == ["cancelled"]


def test_what_a_server_refuses_is_raised_to_sync_code(fake_server: Serve) -> None:
    server = fake_server([status(403)])
    with pytest.raises(ModelRefused, match="403"):
        list(serve_agent(server).stream_text_sync("2+3?"))


def test_a_text_that_is_discarded_is_followed_by_a_paragraph_of_its_own() -> None:
    model = ScriptedModel([say("about five"), say("5")])
    stream = Agent(model, output_type=int).stream_text_sync("2+3?")
    assert "".join(stream) == "about five\n\n5"
    assert stream.result.output == 5


async def test_an_async_tool_is_told_to_use_async_for() -> None:
    @tool
    async def ask() -> str:
        """Ask."""
        return "".join(make_agent().stream_text_sync("2+3?"))

    agent: Agent[Any, Any] = Agent(ScriptedModel([call("ask"), say("ok")]), tools=[ask])
    result = await asyncio.to_thread(agent.run_sync, "go")
    assert "use `async for`" in str(result.tool_errors[0].exception)


async def test_a_text_stream_reads_only_the_agents_own_text() -> None:
    inner = Agent(ScriptedModel([say("inner words")]), name="inner")
    outer = Agent(ScriptedModel([call("inner", task="go"), say("done")]), tools=[inner.as_tool()])
    assert [text async for text in outer.stream_text("go")] == ["done"]


def test_the_events_of_sync_streams_are_those_of_async_ones() -> None:
    events = [type(event) for event in make_agent().run_stream_sync("2+3?")]
    assert events.count(TextDelta) >= 2
    assert events[-1] is RunFinished
