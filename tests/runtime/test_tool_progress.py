"""`context.emit(value)`: the progress of a tool, as `ToolProgress` events in their order."""

from __future__ import annotations

import asyncio
import json
import logging
import threading
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import isolated_tools
import pytest

from agentcall import Agent, Result, RunContext, tool
from agentcall.cli.render import LineDisplay
from agentcall.durable import durable
from agentcall.errors import ModelRefused
from agentcall.events import (
    Event,
    Nested,
    RunFinished,
    ToolCallFinished,
    ToolCallStarted,
    ToolProgress,
    event_to_json,
)
from agentcall.messages import ToolCall
from agentcall.serving.web.stream_state import ChatStreamState
from agentcall.testing import ScriptedModel, call, calls, say, status

LATE: list[Callable[[object], None]] = []


@tool
def count(context: RunContext, to: int) -> str:
    """Count."""
    for number in range(to):
        context.emit(number)
    return "counted"


@tool
async def count_later(context: RunContext, to: int) -> str:
    """Count, later."""
    for number in range(to):
        context.emit(number)
        await asyncio.sleep(0)
    await asyncio.to_thread(context.emit, "from a thread")
    return "counted"


@tool
def leave(context: RunContext) -> str:
    """Return before the work is done."""
    LATE.append(context.emit)
    return "left"


@tool(timeout=0.05)
def hang(context: RunContext) -> str:
    """Hang."""
    context.emit("begun")
    while not context.cancelled:
        time.sleep(0.005)
    context.emit("too late")
    return "never"


async def read(events: AsyncIterator[Event]) -> list[Event]:
    return [event async for event in events]


def values(events: list[Event]) -> list[object]:
    return [event.value for event in events if isinstance(event, ToolProgress)]


def script(name: str, **arguments: object) -> ScriptedModel:
    return ScriptedModel([call(name, **arguments), say("ok")])


@pytest.mark.parametrize("rounds", [1, 3])
async def test_progress_comes_in_order_between_the_start_and_the_end(rounds: int) -> None:
    # A tool that returns at once is waited for in another way the second time.
    for _ in range(rounds):
        agent = Agent(script("count", to=50), tools=[count])
        events = await read(agent.run_stream("go"))
    kinds = [type(event) for event in events if "Tool" in type(event).__name__]
    assert kinds == [ToolCallStarted, *[ToolProgress] * 50, ToolCallFinished]
    assert values(events) == list(range(50))
    (first, *_) = (event for event in events if isinstance(event, ToolProgress))
    assert first.call.args == {"to": 50}


async def test_async_tools_and_their_threads_report_in_order() -> None:
    events = await read(Agent(script("count_later", to=3), tools=[count_later]).run_stream("go"))
    assert values(events) == [0, 1, 2, "from a thread"]
    assert isinstance(events[-1], RunFinished)


async def test_progress_arrives_while_the_tool_runs() -> None:
    go_on = threading.Event()

    @tool
    def wait(context: RunContext) -> str:
        """Wait until the progress has been read."""
        context.emit("half")
        return "read" if go_on.wait(10) else "not read"

    async for event in Agent(script("wait"), tools=[wait]).run_stream("go"):
        match event:
            case ToolProgress():
                go_on.set()
            case ToolCallFinished(_, result):
                assert result.text == "read"
            case _:
                pass
    assert go_on.is_set()


async def test_calls_at_the_same_time_report_each_under_its_own_call() -> None:
    model = ScriptedModel([calls(call("count", to=20), call("count_later", to=20)), say("ok")])
    events = await read(Agent(model, tools=[count, count_later]).run_stream("go"))
    by_name: dict[str, list[object]] = {}
    for event in events:
        if isinstance(event, ToolProgress):
            by_name.setdefault(event.call.name, []).append(event.value)
    assert by_name == {
        "count": list(range(20)),
        "count_later": [*range(20), "from a thread"],
    }


async def test_nobody_listens_and_nothing_happens() -> None:
    agent = Agent(script("count", to=3), tools=[count])
    assert (await agent.run("go")).tool_calls[0].text == "counted"
    assert Agent(script("count", to=3), tools=[count]).run_sync("go").output == "ok"
    RunContext(None).emit("in a test of the tool itself")


async def test_what_comes_after_the_end_of_the_call_is_dropped_and_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "agentcall.tools")
    LATE.clear()
    agent = Agent(script("leave"), tools=[leave])
    async for event in agent.run_stream("go"):
        assert not isinstance(event, ToolProgress)
        if isinstance(event, ToolCallFinished):
            LATE[0]("late")
    assert "came after its end: it is dropped" in caplog.text
    LATE[0]("after the run")
    thread = threading.Thread(target=LATE[0], args=("from elsewhere",))
    thread.start()
    thread.join(10)


async def test_a_call_that_is_given_up_reports_until_then() -> None:
    events = await read(Agent(script("hang"), tools=[hang]).run_stream("go"))
    assert values(events) == ["begun"]


async def test_progress_of_agents_as_tools_is_nested_and_goes_on_after_a_handoff() -> None:
    inner = Agent(script("count", to=2), tools=[count], name="inner")
    other = Agent(script("count", to=1), tools=[count], name="other")
    model = ScriptedModel([call("inner", task="x"), call("transfer_to_other")])
    agent = Agent(model, tools=[inner.as_tool()], handoffs=[other])
    events = await read(agent.run_stream("go"))
    nested = [event for event in events if isinstance(event, Nested)]
    assert [(event.agent, event.event.value) for event in nested if is_progress(event.event)] == [
        ("inner", 0),
        ("inner", 1),
    ]
    assert values(events) == [0]


def is_progress(event: Event) -> bool:
    return isinstance(event, ToolProgress)


async def test_a_durable_run_reports_and_does_not_repeat_it(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/runs.db"
    first = durable(Agent(ScriptedModel([call("count", to=2), status(401)]), tools=[count]), url)
    seen: list[Event] = []

    async def read_to_the_error() -> None:
        async for event in first.run_stream("go", run_id="r"):
            seen.append(event)  # noqa: PERF401 - those before the error

    with pytest.raises(ModelRefused):
        await read_to_the_error()
    assert values(seen) == [0, 1]
    second = durable(Agent(ScriptedModel([say("ok")]), tools=[count]), url)
    events = await read(second.run_stream(run_id="r"))
    assert values(events) == []
    assert isinstance(events[-1], RunFinished)


async def test_an_isolated_tool_reports_what_is_json() -> None:
    # More than the buffer of a socket, so that the worker waits for its reader.
    model = ScriptedModel([call("reporting", count=60, size=50_000), say("ok")])
    agent = Agent(model, tools=[isolated_tools.reporting])
    events = await read(agent.run_stream("go"))
    numbers = [value["number"] for value in values(events) if isinstance(value, dict)]
    assert numbers == list(range(60))
    (ended,) = (event for event in events if isinstance(event, ToolCallFinished))
    assert ended.result.text == "done"
    model = ScriptedModel([call("reporting", count=2, size=1), say("ok")])
    assert (await Agent(model, tools=[isolated_tools.reporting]).run("go")).output == "ok"


def test_a_value_of_any_type_has_a_json_form() -> None:
    odd = ToolCall("c1", "fetch", "{}")
    for value in (
        object(),
        isolated_tools.PIXEL,
        Result("a", data=1),
        float("nan"),
        {1: {2}},
        None,
    ):
        assert json.dumps(event_to_json(ToolProgress(odd, value)))


def test_progress_is_json_and_one_line_everywhere(capsys: pytest.CaptureFixture[str]) -> None:
    event = ToolProgress(ToolCall("c1", "fetch", "{}"), {"pages": {1, 2}, "of": "a\nb"})
    assert event_to_json(event)["value"] == {"pages": [1, 2], "of": "a\nb"}
    LineDisplay().handle(event)
    LineDisplay().handle(Nested("helper", "c0", ToolProgress(event.call, "half\nway")))
    assert capsys.readouterr().err == (
        'tool: fetch: {"pages":[1,2],"of":"a\\nb"}\ntool: helper: fetch: half way\n'
    )
    state = ChatStreamState()
    state.apply(ToolCallStarted(event.call))
    state.apply(event)
    (message,) = state.render()
    assert message["metadata"]["log"] == '{"pages":[1,2],"of":"a\\nb"}'  # type: ignore[index,call-overload]
