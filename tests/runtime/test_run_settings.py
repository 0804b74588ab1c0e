"""The settings of models, agents and runs: which are sent, and with which request."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Iterator
from itertools import pairwise
from typing import Any

import orjson
import pytest
from openai import AsyncOpenAI, DefaultAsyncHttpxClient
from rows import each_row

from agentcall import Agent, Limits, ModelSettings, RunResult, tool
from agentcall.dialects.constrained import CONSTRAINED
from agentcall.dialects.internlm import INTERNLM
from agentcall.errors import ModelTimeout, UsageError
from agentcall.models import Fallback, HTTPChat, LoadBalancer, Model, OpenAIChat
from agentcall.testing import (
    FakeServer,
    ScriptedModel,
    call,
    forever,
    never,
    say,
    status,
)

Make = Callable[..., Model]


@tool
def add(a: int, b: int) -> int:
    """Add."""
    return a + b


@tool
def mul(a: int, b: int) -> int:
    """Multiply."""
    return a * b


@tool(requires_approval=True)
def pay(amount: int) -> str:
    """Pay."""
    return f"paid {amount}"


def http(url: str, settings: ModelSettings | None = None) -> Model:
    return HTTPChat(url, "fake-model", settings=settings)


@pytest.fixture(params=["http", "openai"])
async def make(request: pytest.FixtureRequest) -> AsyncIterator[Make]:
    clients: list[AsyncOpenAI] = []

    def openai(url: str, settings: ModelSettings | None = None) -> Model:
        quick = DefaultAsyncHttpxClient(verify=False)  # reading certificates takes most of a test
        clients.append(AsyncOpenAI(base_url=url, api_key="k", http_client=quick))
        return OpenAIChat(clients[-1], "fake-model", settings=settings)

    yield http if request.param == "http" else openai
    for client in clients:
        await client.close()


@pytest.fixture
def server() -> Iterator[FakeServer]:
    with FakeServer([forever(say("hi"))]) as running:
        yield running


def choices(model: ScriptedModel) -> list[Any]:
    return [request.body.get("tool_choice", "free") for request in model.requests]


# Merging.


async def test_the_settings_of_a_run_replace_the_agents_and_these_the_models(
    make: Make, server: FakeServer
) -> None:
    model = make(server.url, ModelSettings(temperature=0.1, top_p=0.5, seed=1, stop="A"))
    agent = Agent(model, settings=ModelSettings(temperature=0.2, seed=2, max_tokens=5, stop="B"))
    await agent.run("x", settings=ModelSettings(temperature=0, stop=["C", "D"]))
    body = server.requests[-1].body
    assert (body["temperature"], body["top_p"], body["seed"]) == (0, 0.5, 2)
    assert (body["max_tokens"], body["stop"]) == (5, ["C", "D"])
    await agent.run("x")
    assert server.requests[-1].body["temperature"] == 0.2


async def test_fields_and_headers_are_merged_by_key(make: Make, server: FakeServer) -> None:
    model = make(server.url, ModelSettings(extra_body={"a": 1, "b": 1, "c": 1}))
    agent = Agent(
        model,
        settings=ModelSettings(extra_body={"b": 2, "c": 2}, extra_headers={"X-A": "1", "X-B": "1"}),
    )
    await agent.run("x", settings=ModelSettings(extra_body={"c": 3}, extra_headers={"X-B": "2"}))
    request = server.requests[-1]
    assert [request.body[name] for name in "abc"] == [1, 2, 3]
    assert (request.headers["x-a"], request.headers["x-b"]) == ("1", "2")


async def test_headers_may_replace_the_key_and_are_not_in_errors(make: Make) -> None:
    settings = ModelSettings(extra_headers={"authorization": "Bearer of-the-gateway"})
    with FakeServer([forever(status(401, body={"error": "of-the-gateway is wrong"}))]) as server:
        with pytest.raises(Exception, match="401") as caught:
            await Agent(make(server.url, None), settings=settings).run("x")
        assert server.requests[-1].headers["authorization"] == "Bearer of-the-gateway"
    assert "of-the-gateway" not in str(caught.value)
    assert "of-the-gateway" not in repr(settings)


async def test_the_probes_of_a_server_have_the_headers_too(server: FakeServer) -> None:
    await Agent(f"{server.url}", settings=ModelSettings(extra_headers={"X-Gate": "7"})).run("x")
    assert {request.headers.get("x-gate") for request in server.all_requests} == {"7"}


@each_row("level", ["model", "agent", "run"])
async def test_a_timeout_ends_a_request(make: Make, level: str) -> None:
    short = ModelSettings(timeout=0.2)
    with FakeServer([forever(never())]) as server:
        agent = Agent(
            make(server.url, short if level == "model" else None),
            settings=short if level == "agent" else None,
        )
        with pytest.raises(ModelTimeout, match="timeout="):
            await agent.run("x", settings=short if level == "run" else None)


async def test_several_models_are_asked_with_the_settings(server: FakeServer) -> None:
    with FakeServer([forever(status(500))]) as broken:
        own = ModelSettings(top_p=0.3)
        nodes = [http(url, own) for url in (broken.url, server.url)]
        for model in (Fallback(*nodes), LoadBalancer(*nodes)):
            await Agent(model).run("x", settings=ModelSettings(seed=3))
            body = server.requests[-1].body
            assert (body["seed"], body["top_p"]) == (3, 0.3)


async def test_parallel_tool_calls_and_reasoning_effort_are_sent(make: Make) -> None:
    settings = ModelSettings(parallel_tool_calls=False, reasoning_effort="low")
    with FakeServer([forever(say("hi"))]) as server:
        await Agent(make(server.url, settings), tools=[add]).run("x")
        await Agent(make(server.url, settings)).run("x")
        with_tools, without = (request.body for request in server.requests)
    assert (with_tools["parallel_tool_calls"], with_tools["reasoning_effort"]) == (False, "low")
    assert "parallel_tool_calls" not in without


async def test_a_stream_has_the_settings_too(server: FakeServer) -> None:
    async for _ in Agent(f"{server.url}#fake-model").run_stream(
        "x", settings=ModelSettings(seed=5)
    ):
        pass
    body = server.requests[-1].body
    assert (body["seed"], body["stream"]) == (5, True)


def test_settings_of_another_type_are_refused_at_once() -> None:
    wrong: Any = {"temperature": 1}
    with pytest.raises(UsageError, match="ModelSettings"):
        Agent("http://127.0.0.1:1", settings=wrong)
    model = ScriptedModel([say("hi")])
    with pytest.raises(UsageError, match="ModelSettings"):
        Agent(model).run_sync("x", settings=wrong)
    assert model.requests == []


async def test_an_agent_as_a_tool_keeps_its_own_settings() -> None:
    inner = ScriptedModel([say("5")])
    expert = Agent(inner, name="expert", settings=ModelSettings(temperature=0.3))
    outer = ScriptedModel([call("expert", task="2+3"), say("5")])
    agent = Agent(outer, tools=[expert.as_tool()])
    await agent.run("x", settings=ModelSettings(temperature=0.9, max_tokens=50))
    assert [request.body["temperature"] for request in outer.requests] == [0.9, 0.9]
    assert inner.requests[0].body["temperature"] == 0.3
    assert "max_tokens" not in inner.requests[0].body


async def test_an_agent_that_takes_over_has_its_own_settings_below_those_of_the_run() -> None:
    sales_model = ScriptedModel([call("add", a=1, b=1), say("done")])
    sales = Agent(
        sales_model,
        name="sales",
        tools=[add],
        settings=ModelSettings(top_p=0.4, seed=4, tool_choice="required"),
    )
    model = ScriptedModel([call("transfer_to_sales")])
    agent = Agent(model, handoffs=[sales], settings=ModelSettings(top_p=0.1))
    await agent.run("x", settings=ModelSettings(seed=9, tool_choice="transfer_to_sales"))
    assert [request.body["seed"] for request in sales_model.requests] == [9, 9]
    assert [request.body["top_p"] for request in sales_model.requests] == [0.4, 0.4]
    assert choices(sales_model) == ["required", "free"]


# Resumed runs.


@pytest.mark.parametrize("saved", [True, False])
async def test_a_resumed_run_has_the_settings_that_it_was_started_with(saved: bool) -> None:
    model = ScriptedModel([call("pay", amount=3), say("paid")])
    agent = Agent(model, tools=[pay], settings=ModelSettings(temperature=0.5, top_p=0.5))
    settings = ModelSettings(
        temperature=0, seed=1, stop="X", tool_choice="required", extra_headers={"X-Key": "secret"}
    )
    paused = await agent.run("x", settings=settings)
    given = paused.to_json() if saved else paused
    assert "secret" not in paused.to_json()
    result = await agent.resume(given, {paused.pending[0].call.id: True})
    first, second = (request.body for request in model.requests)
    assert result.output == "paid"
    assert first["tool_choice"] == "required"
    assert "tool_choice" not in second
    assert {k: second[k] for k in ("temperature", "seed", "stop", "top_p")} == {
        "temperature": 0,
        "seed": 1,
        "stop": ["X"],
        "top_p": 0.5,
    }


async def test_resume_may_replace_the_settings() -> None:
    model = ScriptedModel([call("pay", amount=3), say("paid")])
    agent = Agent(model, tools=[pay])
    paused = await agent.run("x", settings=ModelSettings(temperature=0, seed=1))
    again = RunResult[Any].from_json(paused.to_json())
    settings = ModelSettings(seed=2)
    await agent.resume(again, {paused.pending[0].call.id: True}, settings=settings)
    assert (model.requests[1].body["temperature"], model.requests[1].body["seed"]) == (0, 2)


# tool_choice.


@each_row("level", ["model", "agent", "run"])
async def test_a_tool_choice_is_for_the_first_turn(make: Make, level: str) -> None:
    settings = ModelSettings(tool_choice="required")
    with FakeServer([call("add", a=1, b=2), call("add", a=3, b=3), say("6")]) as server:
        agent = Agent(
            make(server.url, settings if level == "model" else None),
            tools=[add],
            settings=settings if level == "agent" else None,
        )
        result = await agent.run("x", settings=settings if level == "run" else None)
        bodies = [request.body for request in server.requests]
    assert result.output == "6"
    assert [body.get("tool_choice", "free") for body in bodies] == ["required", "free", "free"]


async def test_a_tool_of_this_name_is_called_first() -> None:
    model = ScriptedModel([call("mul", a=1, b=2), say("2")])
    await Agent(model, tools=[add, mul]).run("x", settings=ModelSettings(tool_choice="mul"))
    assert choices(model) == [{"type": "function", "function": {"name": "mul"}}, "free"]


async def test_a_run_may_free_what_the_agent_or_the_model_requires(server: FakeServer) -> None:
    required = ModelSettings(tool_choice="required")
    agent = Agent(http(server.url, required), tools=[add], settings=required)
    await agent.run("x", settings=ModelSettings(tool_choice="auto"))
    assert "tool_choice" not in server.requests[-1].body


async def test_none_is_for_the_whole_run_and_no_call_is_executed() -> None:
    model = ScriptedModel([call("add", a=1, b=2), say("3")])
    agent = Agent(model, tools=[add], settings=ModelSettings(tool_choice="none"))
    result = await agent.run("x")
    assert (result.output, result.tool_calls) == ("3", ())
    assert choices(model) == ["none", "none"]


async def test_the_closing_request_is_not_held_to_a_tool() -> None:
    model = ScriptedModel([call("add", a=1, b=2), say("3")])
    agent = Agent(model, tools=[add], limits=Limits(requests=2))
    result = await agent.run("x", settings=ModelSettings(tool_choice="add"))
    assert result.output == "3"
    assert choices(model)[1] == "none"


async def test_a_turn_that_was_discarded_is_not_the_first_turn() -> None:
    model = ScriptedModel([say(""), call("add", a=1, b=2), say("3")])
    await Agent(model, tools=[add]).run("x", settings=ModelSettings(tool_choice="required"))
    assert choices(model) == ["required", "required", "free"]


@each_row("choice", ["any", "subtract"])
@each_row("level", ["model", "agent", "run"])
async def test_a_name_that_no_tool_has_is_refused_before_the_first_request(
    server: FakeServer, choice: str, level: str
) -> None:
    settings = ModelSettings(tool_choice=choice)
    agent = Agent(
        http(server.url, settings if level == "model" else None),
        tools=[add],
        settings=settings if level == "agent" else None,
    )
    with pytest.raises(UsageError, match=rf"{choice}.*add"):
        await agent.run("x", settings=settings if level == "run" else None)
    assert server.requests == []


async def test_an_agent_that_may_take_over_is_checked_before_the_first_request() -> None:
    other = Agent(
        ScriptedModel([]), name="sales", tools=[add], settings=ModelSettings(tool_choice="gone")
    )
    model = ScriptedModel([])
    with pytest.raises(UsageError, match=r"gone.*sales"):
        await Agent(model, handoffs=[other]).run("x")
    assert model.requests == []


async def test_required_without_tools_is_refused() -> None:
    model = ScriptedModel([])
    with pytest.raises(UsageError, match="has no tools"):
        await Agent(model).run("x", settings=ModelSettings(tool_choice="required"))


async def test_a_named_tool_is_offered_though_the_search_did_not_find_it() -> None:
    def make(number: int) -> Any:
        def function(value: str) -> str:
            return value

        return tool(name=f"tool_{number}", description=f"Does thing{number}.")(function)

    model = ScriptedModel([call("tool_77", value="x"), say("done")])
    agent = Agent(model, tools=[make(number) for number in range(100)])
    await agent.run("thing1 thing2", settings=ModelSettings(tool_choice="tool_77"))
    first, second = ([t["function"]["name"] for t in request.tools] for request in model.requests)
    assert "tool_77" in first
    assert second[: len(first)] == first


def turn_schema(body: Any) -> Any:
    return body["response_format"]["json_schema"]["schema"]


async def test_the_constrained_dialect_holds_the_choice_by_its_schema() -> None:
    answer, called = say('{"answer": "3"}'), say('{"name": "add", "arguments": {"a": 1, "b": 2}}')
    model = ScriptedModel([called, answer, called, answer], dialect=CONSTRAINED)
    agent = Agent(model, tools=[add, mul])
    await agent.run("x", settings=ModelSettings(tool_choice="add"))
    named, free = (turn_schema(request.body) for request in model.requests)
    assert named["properties"]["name"] == {"const": "add"}
    assert any("answer" in option["properties"] for option in free["anyOf"])
    await agent.run("x", settings=ModelSettings(tool_choice="required"))
    required = turn_schema(model.requests[2].body)
    assert not any("answer" in option["properties"] for option in required["anyOf"])


@pytest.mark.parametrize("choice", ["add", "required"])
async def test_the_answer_of_a_plan_is_not_held_to_the_choice_of_its_model(choice: str) -> None:
    plan = say(json.dumps({"plan": "answer = add(1, 2)"}))
    with FakeServer([plan, say("3")]) as server:  # which ignores the schema
        settings = ModelSettings(tool_choice=choice)
        model = HTTPChat(server.url, "fake-model", dialect="constrained", settings=settings)
        result = await Agent(model, tools=[add]).run("1+2?")
        assert [call.name for call, _ in result.tool_calls] == ["add"]
        assert "3" in result.output
        assert len(server.requests) == 2


async def test_a_dialect_without_a_field_says_the_choice_in_words() -> None:
    payload = '{"name": "add", "parameters": {"a": 1, "b": 2}}'
    block = f"<|action_start|><|plugin|>\n{payload}<|action_end|>"
    model = ScriptedModel([say(block), say("3")], dialect=INTERNLM)
    await Agent(model, tools=[add]).run("x", settings=ModelSettings(tool_choice="add"))
    first, second = (request.messages[0]["content"] for request in model.requests)
    assert "add" in first.removeprefix(second)
    assert first.startswith(second)


async def test_a_field_that_the_dialect_needs_is_not_replaced() -> None:
    model = ScriptedModel([say("hi")] * 2, dialect=INTERNLM)
    same = ModelSettings(extra_body={"skip_special_tokens": False})
    await Agent(model).run("x", settings=same)
    with pytest.raises(UsageError, match=r"skip_special_tokens.*internlm"):
        await Agent(model).run(
            "x", settings=ModelSettings(extra_body={"skip_special_tokens": True})
        )


# The bytes of requests.


async def test_requests_with_settings_begin_with_the_bytes_of_the_one_before(make: Make) -> None:
    with FakeServer([*(call("add", a=n, b=1) for n in range(3)), say("4")]) as server:
        agent = Agent(make(server.url, None), tools=[add])
        await agent.run("x", settings=ModelSettings(temperature=0, extra_body={"top_k": 1}))
        sent = [request.raw for request in server.requests]
    for before, after in pairwise(sent):
        assert after.startswith(before.removesuffix(b"]}"))


def test_settings_are_equal_and_hashed_by_value() -> None:
    one, two = (ModelSettings(stop=["a"], extra_body={"top_k": n}) for n in (1, 1))
    assert (one, hash(one)) == (two, hash(two))
    assert ModelSettings.from_json(orjson.loads(orjson.dumps(one.to_json()))) == one
