"""`Result(text, images=, data=)`: text and images for the model, data for the application alone."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import isolated_tools
import pytest
from asgi_server import standing
from pydantic import BaseModel

from agentcall import Agent, Image, Result, RunResult, SQLiteSession, ToolRegistry, tool
from agentcall.dialects.constrained import ConstrainedDialect
from agentcall.dialects.dialect import Dialect
from agentcall.dialects.internlm import InternLMDialect
from agentcall.dialects.native import NativeDialect
from agentcall.durable import durable
from agentcall.errors import ModelRefused, ToolError, UsageError
from agentcall.events import Event, Nested, ToolCallFinished, event_to_json
from agentcall.messages import ToolResult, Untrusted
from agentcall.runtime.executor import call_once
from agentcall.testing import (
    FakeServer,
    ScriptedModel,
    call,
    calls,
    openai_error,
    say,
    status,
)

PIXEL = isolated_tools.PIXEL
SECRET = "for the application"


class Table:
    """Data without a JSON form."""

    def __repr__(self) -> str:
        return SECRET


class Row(BaseModel):
    name: str
    note: str = SECRET


@dataclass
class Place:
    x: int


@tool
def chart(kind: str = "bars") -> Result:
    """Draw a chart."""
    return Result({"kind": kind}, images=[Image.from_bytes(PIXEL), PIXEL], data=Table())


@tool
async def find(name: str) -> Result:
    """Find a row."""
    return Result(f"found {name}", data=[Row(name=name), Place(1)])


async def given(function: Any, arguments: str = "{}") -> ToolResult:
    return await call_once(ToolRegistry(function), function.__name__, arguments)


def sent(model: ScriptedModel | FakeServer) -> str:
    return "".join(request.raw.decode() for request in model.requests)


async def test_the_model_reads_text_and_images_and_the_application_has_the_data() -> None:
    model = ScriptedModel([call("chart"), say("ok")])
    events = [event async for event in Agent(model, tools=[chart]).run_stream("go")]
    (finished,) = (event for event in events if isinstance(event, ToolCallFinished))
    assert isinstance(finished.result.data, Table)
    assert "images" in event_to_json(finished)["result"]  # type: ignore[operator]
    tool_message, images_message = model.requests[-1].messages[-2:]
    assert tool_message["content"] == (
        '{"kind":"bars"}\n[image 1: image/png, 70 bytes]\n[image 2: image/png, 70 bytes]'
    )
    kinds = [part["type"] for part in images_message["content"]]
    assert kinds == ["text", "text", "image_url", "text", "image_url"]
    assert SECRET not in sent(model)


@pytest.mark.parametrize("dialect", [NativeDialect(), InternLMDialect(), ConstrainedDialect()])
async def test_no_dialect_and_no_mode_sends_the_data(dialect: Dialect) -> None:
    script = [call("find", name="ann"), say("ok")]
    texts = {
        "InternLMDialect": [
            say('<|action_start|><|plugin|>{"name": "find", "parameters": {"name": "ann"}}'),
            say("ok"),
        ],
        "ConstrainedDialect": [say('{"calls":[{"name":"find","arguments":{"name":"ann"}}]}')],
    }
    model = ScriptedModel([*texts.get(type(dialect).__name__, script), say("ok")], dialect=dialect)
    result = await Agent(model, tools=[find]).run("go")
    (record,) = result.tool_calls
    assert (record.text, record.data) == ("found ann", [Row(name="ann"), Place(1)])
    assert SECRET not in sent(model)
    again = ScriptedModel([say("yes")], dialect=dialect)
    await Agent(again, tools=[find]).run("And?", messages=result.messages)
    assert "found ann" in sent(again)
    assert SECRET not in sent(again)


async def test_a_server_without_eyes_gets_a_line_for_each_image() -> None:
    blind = status(400, body=openai_error("This model does not support image inputs"))
    with FakeServer([call("chart"), blind, say("ok")]) as server:
        result = await Agent(server.url, tools=[chart]).run("go")
    assert result.output == "ok"
    assert "base64" not in server.requests[-1].raw.decode()
    assert (
        "(image 2 is not shown, as you read only text: image/png"
        in server.requests[-1].raw.decode()
    )


async def test_data_inside_other_values_never_become_text() -> None:
    one, other = Result("one", data=Table()), Result("two", images=PIXEL, data=2)

    def rows() -> list[Result]:
        return [one, other]

    def stream() -> Iterator[Result]:
        yield one
        yield other

    async def stream_later() -> AsyncIterator[Result]:
        yield one

    def inside() -> dict[str, object]:
        return {"rows": {"a": one}, "odd": {1: 2**70}}

    def around() -> Result:
        return Result(Result("inner", data=Table()), data=3)

    def fail() -> str:
        raise ToolError(Result("no", data=Table()))

    def fail_oddly() -> str:
        raise ValueError("no", one)

    found = [
        await given(function)
        for function in (rows, stream, stream_later, inside, around, fail, fail_oddly)
    ]
    assert all(SECRET not in result.text for result in found)
    assert found[0].text == '["one",["two","[image 1: image/png, 70 bytes]"]]'
    assert [found[0].data, len(found[0].images)] == [[one.data, 2], 1]
    assert found[1].text == found[0].text
    assert (found[2].text, found[2].data) == ('["one"]', [one.data])
    assert found[3].text.startswith('{"rows":{"a":"one"}')
    assert (found[3].data, found[4].text, found[4].data) == ([one.data], "inner", 3)
    assert (found[5].text, found[5].is_error) == ("no", True)
    assert SECRET not in f"{one} {other!r}"


async def test_the_mark_of_untrusted_content_is_kept() -> None:
    def around() -> object:
        return Untrusted(Result("a page", data=1))

    def inside() -> object:
        return Result(Untrusted("a page"), data=1)

    def in_image() -> object:
        return Result("a page", images=[Image("https://x/y.png", untrusted=True)])

    def clean() -> object:
        return Result("a page", data=Untrusted("never read by the model"))

    results = [await given(function) for function in (around, inside, in_image, clean)]
    assert [result.untrusted for result in results] == [True, True, True, False]
    assert [result.data for result in results[:2]] == [1, 1]


def test_an_image_that_is_none_is_refused_where_the_result_is_made() -> None:
    with pytest.raises(UsageError, match=r"image 1 is 'chart.png'; use Image.file\(path\)"):
        Result("", images=[PIXEL, "chart.png"])  # type: ignore[list-item]
    with pytest.raises(UsageError, match=r"Result\(images='chart.png'\): give a list of images"):
        Result("", images="chart.png")  # type: ignore[arg-type]


async def test_saved_data_are_their_json_value_or_none(tmp_path: Path) -> None:
    model = ScriptedModel([calls(call("find", name="ann"), call("chart")), say("ok")])
    session = SQLiteSession("s", path=tmp_path / "s.db")
    result = await Agent(model, tools=[find, chart]).run("go", session=session)
    loaded = RunResult.from_json(result.to_json())
    again = RunResult.from_json(loaded.to_json())
    for each in (loaded, again):
        found, drawn = each.tool_calls
        assert found.data == [{"name": "ann", "note": SECRET}, {"x": 1}]
        assert drawn.data is None
        assert drawn.result is not None
        assert drawn.result.unsaved_data == "Table"
        assert len(drawn.result.images) == 2
    stored = [m for m in session.messages if isinstance(m, ToolResult)]
    assert [m.data for m in stored] == [loaded.tool_calls[0].data, None]
    other = ScriptedModel([say("ok")])
    await Agent(other, tools=[find, chart]).run("And?", session=session)
    assert SECRET not in sent(other)


async def test_a_durable_run_that_goes_on_has_the_data_that_could_be_saved(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/runs.db"
    first = ScriptedModel([calls(call("find", name="ann"), call("chart")), status(401)])
    with pytest.raises(ModelRefused):
        await durable(Agent(first, tools=[find, chart]), url).run("go", run_id="r")
    second = ScriptedModel([say("ok")])
    result = await durable(Agent(second, tools=[find, chart]), url).run(run_id="r")
    found, drawn = result.tool_calls
    assert found.data == [{"name": "ann", "note": SECRET}, {"x": 1}]
    assert (drawn.data, drawn.result and drawn.result.unsaved_data) == (None, "Table")
    assert SECRET not in sent(second)


@pytest.mark.processes
async def test_an_isolated_tool_gives_images_and_data_that_are_json() -> None:
    registry = ToolRegistry(isolated_tools.chart)
    saved = await call_once(registry, "chart", '{"savable": true}')
    assert (saved.text, saved.data) == (
        "a chart\n[image 1: image/png, 70 bytes]",
        {"points": [{"x": 1, "y": 2}]},
    )
    assert saved.images == (Image.from_bytes(PIXEL),)
    lost = await call_once(registry, "chart", '{"savable": false}')
    assert (lost.data, lost.unsaved_data) == (None, "dict")


async def test_the_tools_of_agents_that_are_tools_and_take_over_give_data() -> None:
    inner = Agent(ScriptedModel([call("chart"), say("drawn")]), tools=[chart], name="inner")
    other = Agent(ScriptedModel([call("find", name="bo"), say("bye")]), tools=[find], name="other")
    model = ScriptedModel([call("inner", task="draw"), call("transfer_to_other")])
    agent = Agent(model, tools=[inner.as_tool()], handoffs=[other])
    data: list[object] = []

    def look(event: Event) -> None:
        match event:
            case Nested(event=nested):
                look(nested)
            case ToolCallFinished(_, result):
                data.append(result.data)
            case _:
                pass

    events = [event async for event in agent.run_stream("go")]
    for event in events:
        look(event)
    assert [type(each).__name__ for each in data] == ["Table", "NoneType", "NoneType", "list"]


def test_the_endpoint_sends_no_data() -> None:
    import httpx

    from agentcall.serving.openai_api import OpenAIEndpoint

    agent = Agent(ScriptedModel([call("find", name="ann"), say("ok")] * 2), tools=[find])
    body = {"model": "agent", "messages": [{"role": "user", "content": "go"}]}
    with standing(OpenAIEndpoint(agent)) as port:
        url = f"http://127.0.0.1:{port}"
        plain = httpx.post(f"{url}/v1/chat/completions", json=body)
        streamed = httpx.post(f"{url}/v1/chat/completions", json={**body, "stream": True})
    assert plain.json()["choices"][0]["message"]["content"] == "ok"
    assert SECRET not in plain.text + streamed.text


def test_a_result_is_what_a_python_caller_gets() -> None:
    result = chart("pie")
    assert isinstance(result.data, Table)
    assert result.images[0].url.endswith(base64.b64encode(PIXEL).decode())
