"""Arguments of a run that change its agent: limits, settings, instructions, model, type, tools."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from agentcall import Agent, Limits, ModelSettings, RunContext, RunFinished, RunResult, tool
from agentcall.durable import durable
from agentcall.errors import DuplicateTool, UsageError
from agentcall.testing import FakeServer, ScriptedModel, call, forever, say


class City(BaseModel):
    name: str


@tool
def add(a: int, b: int) -> int:
    """Add."""
    return a + b


@tool(requires_approval=True)
def pay(amount: int) -> str:
    """Pay."""
    return f"paid {amount}"


def get_tools(model: ScriptedModel, index: int = -1) -> list[str]:
    offered = model.requests[index].body.get("tools", [])
    return [each["function"]["name"] for each in offered]


def get_instructions(model: ScriptedModel, index: int = -1) -> str:
    first = model.requests[index].messages[0]
    return first["content"] if first["role"] == "system" else ""


async def run_streamed(agent: Agent[Any, Any], prompt: str, **options: Any) -> RunResult[Any]:
    stream = agent.run_stream(prompt, **options)
    (result,) = [event.result async for event in stream if isinstance(event, RunFinished)]
    return result


async def run_in_thread(agent: Agent[Any, Any], prompt: str, **options: Any) -> RunResult[Any]:
    return agent.run_sync(prompt, **options)


async def run_plainly(agent: Agent[Any, Any], prompt: str, **options: Any) -> RunResult[Any]:
    return await agent.run(prompt, **options)


@pytest.mark.parametrize("run", [run_plainly, run_in_thread, run_streamed])
async def test_a_run_may_change_its_agent(run: Any) -> None:
    own, other = (
        ScriptedModel([say("own")]),
        ScriptedModel([call("add", a=1, b=2), say('{"name": "Oslo"}')]),
    )
    agent = Agent(own, tools=[pay], instructions="Be brief.")
    result = await run(
        agent,
        "?",
        model=other,
        tools=[add],
        instructions="Speak German.",
        output_type=City,
        limits=Limits(requests=5),
        settings=ModelSettings(temperature=0.5),
    )
    assert result.output == City(name="Oslo")
    assert get_tools(other, 0) == ["pay", "add"]
    assert get_instructions(other, 0).startswith("Be brief.\n\nSpeak German.")
    assert other.requests[0].body["temperature"] == 0.5
    assert (await agent.run("?")).output == "own"
    assert get_tools(own) == ["pay"]
    assert get_instructions(own) == "Be brief."


async def test_limits_of_a_run_replace_those_of_the_agent() -> None:
    agent = Agent(
        ScriptedModel([forever(call("add", a=1, b=2))]), tools=[add], limits=Limits(requests=9)
    )
    result = await agent.run("?", limits=Limits(requests=1))
    assert (result.stop_reason, result.usage.requests) == ("max_requests", 1)


async def test_a_model_and_a_type_are_made_once_for_equal_runs() -> None:
    agent = Agent(ScriptedModel([]), tools=[add])
    options = {"model": "http://127.0.0.1:1/v1#m", "output_type": list[City]}
    first, second = agent.with_overrides(options), agent.with_overrides(options)
    with_tools = agent.with_overrides({**options, "tools": [pay]})
    assert first.spec is second.spec
    assert with_tools.spec.model is first.spec.model
    assert with_tools.spec.output is first.spec.output


async def test_none_and_nothing_change_nothing() -> None:
    agent = Agent(ScriptedModel([say("a")]))
    assert agent.with_overrides({"tools": None, "limits": None, "model": None}) is agent
    result = await agent.run("?", tools=None, instructions=None, model=None, limits=None)
    assert result.overrides is None
    assert "overrides" not in result.to_json()


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"limit": Limits()}, TypeError, "has no argument 'limit'"),
        ({"limits": 5}, UsageError, "limits=5"),
        ({"instructions": ["a"]}, UsageError, "instructions="),
        ({"instructions": lambda: "a"}, UsageError, "instructions="),
        ({"model": 7}, UsageError, "model=7"),
        ({"tools": [5]}, UsageError, "5"),
        ({"output_type": "City"}, UsageError, "output_type"),
        ({"settings": {"temperature": 1}}, UsageError, "settings="),
    ],
)  # fmt: skip
async def test_wrong_values_are_refused_before_a_request(
    options: dict[str, Any], error: type[Exception], text: str
) -> None:
    agent = Agent(ScriptedModel([say("no")]), tools=[add])
    with pytest.raises(error, match=text):
        await agent.run("?", **options)
    with pytest.raises(error, match=text):
        agent.run_sync("?", **options)
    with pytest.raises(error, match=text):
        await run_streamed(agent, "?", **options)


async def test_a_tool_of_the_name_of_another_one_is_refused() -> None:
    def add(x: str) -> str:
        """Another one."""
        return x

    agent = Agent(ScriptedModel([say("a")]), tools=[globals()["add"]])
    with pytest.raises(DuplicateTool):
        await agent.run("?", tools=[add])
    assert (await agent.run("?", tools=[globals()["add"]])).output == "a"


async def test_a_tool_of_a_run_that_needs_deps_needs_them() -> None:
    @tool
    def ask(context: RunContext[int]) -> str:
        """Ask."""
        return str(context.deps)

    agent = Agent(ScriptedModel([call("ask"), say("5")]), deps_type=int | None)
    with pytest.raises(UsageError, match="ask takes RunContext"):
        await agent.run("?", tools=[ask], deps=None)
    assert (await agent.run("?", tools=[ask], deps=5)).output == "5"


async def test_functions_of_instructions_may_be_async_and_are_joined() -> None:
    async def first(context: RunContext[str]) -> str:
        return f"For {context.deps}."

    model = ScriptedModel([say("a")] * 2)
    agent = Agent(model, instructions=first, deps_type=str)
    await agent.run("?", deps="Ann", instructions="Be brief.")
    assert get_instructions(model) == "For Ann.\n\nBe brief."
    await agent.run(
        "?", deps="Ann", instructions=lambda context: f"{len(context.messages)} message."
    )
    assert get_instructions(model) == "For Ann.\n\n1 message."


async def test_a_resumed_run_continues_with_what_it_was_started_with() -> None:
    model = ScriptedModel([call("pay", amount=5), say("done")])
    agent = Agent(model, tools=[pay], instructions="Be brief.")
    paused = await agent.run("?", instructions="In German.", limits=Limits(requests=2), tools=[add])
    assert paused.pending
    text = paused.to_json()
    with pytest.raises(UsageError, match="started with tools=, which cannot be saved"):
        await agent.resume(text, {paused.pending[0].call.id: True})
    with pytest.raises(UsageError, match="tools="):
        agent.check_decisions(text, {paused.pending[0].call.id: True})
    result = await agent.resume(text, {paused.pending[0].call.id: True}, tools=[add])
    assert result.output == "done"
    assert get_instructions(model) == "Be brief.\n\nIn German."
    assert model.requests[-1].body["tool_choice"] == "none"  # the last of two requests
    assert result.overrides is not None
    assert result.overrides.limits == Limits(requests=2)


async def test_secrets_of_a_model_are_not_saved() -> None:
    agent = Agent(ScriptedModel([]))
    for model, saved in [
        ("http://key@127.0.0.1:1/v1#m", None),
        ("http://127.0.0.1:1/v1?api_key=abc", None),
        ("http://127.0.0.1:1/v1#m", "http://127.0.0.1:1/v1#m"),
        (ScriptedModel([]), None),
    ]:
        kept = agent.with_overrides({"model": model}).saved_overrides
        assert kept is not None
        assert (kept.model, kept.unsaved) == (saved, () if saved else ("model",))


async def test_who_is_handed_back_to_is_the_agent_of_the_run() -> None:
    team: list[Agent[Any, Any]] = []
    model = ScriptedModel([call("transfer_to_invoices"), call("transfer_to_desk"), say("done")])
    desk = Agent(model, name="desk", handoffs=team, instructions="Desk.")
    invoices = Agent(model, name="invoices", handoffs=team, instructions="Invoices.")
    team += [desk, invoices]
    result = await desk.run("?", tools=[add], instructions="Today only.", limits=Limits(requests=3))
    assert (result.agent, result.output) == ("desk", "done")
    assert [get_instructions(model, i) for i in range(3)] == [
        "Desk.\n\nToday only.",
        "Invoices.",
        "Desk.\n\nToday only.",
    ]
    assert [get_tools(model, i) for i in range(2)] == [
        ["add", "transfer_to_invoices"],
        ["transfer_to_desk"],
    ]


async def test_an_agent_that_is_a_tool_has_its_own_configuration() -> None:
    inner = ScriptedModel([say("inner")])
    model = ScriptedModel([call("helper", task="x"), say("done")])
    agent = Agent(model, tools=[Agent(inner, name="helper").as_tool()])
    await agent.run("?", tools=[add], instructions="Outer.")
    assert (get_tools(inner), get_instructions(inner)) == ([], "")


async def test_a_durable_run_records_what_it_was_started_with(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'runs.db'}"
    model = ScriptedModel([call("pay", amount=5), say("done")])
    agent = Agent(model, tools=[pay])
    with durable(agent, url) as runs:
        options: dict[str, Any] = {"limits": Limits(requests=2), "instructions": "In German."}
        paused = await runs.run("?", run_id="a", tools=[add], **options)
        decisions = {paused.pending[0].call.id: True}
    with durable(agent, url) as runs:
        with pytest.raises(UsageError, match="tools="):
            await runs.resume("a", decisions)
        result = await runs.resume("a", decisions, tools=[add])
    assert (result.output, result.notes) == ("done", ())
    assert get_instructions(model) == "In German."
    assert model.requests[-1].body["tool_choice"] == "none"


async def test_a_durable_run_returns_its_output_in_the_type_of_the_run(tmp_path: Path) -> None:
    agent = Agent(ScriptedModel([say('{"name": "Oslo"}')]))
    with durable(agent, f"sqlite:///{tmp_path / 'runs.db'}") as runs:
        assert (await runs.run("?", run_id="a", output_type=City)).output == City(name="Oslo")
        assert (await runs.run(run_id="a", output_type=City)).output == City(name="Oslo")
        with pytest.raises(UsageError, match="tools= of a queued run"):
            await runs.enqueue("?", tools=[add])
        await runs.enqueue("?", run_id="b", limits=Limits(requests=3))
        with pytest.raises(UsageError, match="began with another prompt"):
            await runs.run("another", run_id="b")


async def test_a_model_of_a_run_may_be_a_shorthand() -> None:
    with FakeServer([say("from the server")]) as server:
        agent = Agent(ScriptedModel([]))
        assert (await agent.run("?", model=f"{server.url}#fake-model")).output == "from the server"
