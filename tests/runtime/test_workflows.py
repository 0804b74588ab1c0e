"""Runs that end with a call, and rules for tools: how often, when, and after which others."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest
from pydantic import BaseModel

from agentcall import Agent, Limits, ModelRetry, RunContext, RunResult, tool
from agentcall.errors import SchemaError, UsageError
from agentcall.events import AnswerDiscarded, RunFinished, ToolCallRefused
from agentcall.messages import ToolResult, User
from agentcall.result import NoOutput
from agentcall.serving.openai_api import OpenAIEndpoint
from agentcall.testing import Completion, ScriptedModel, call, calls, forever, say


class Report(BaseModel):
    title: str
    total: float


class Plan(BaseModel):
    steps: list[str]


DONE: list[str] = []


@pytest.fixture(autouse=True)
def _forget() -> None:
    DONE.clear()


@tool
def look_up(item: str) -> str:
    """Look an item up."""
    if item == "gold":
        raise ValueError("there is no gold")
    return f"{item}: 4 euros"


@tool
def verify(item: str) -> str:
    """Verify an item."""
    DONE.append(f"verified {item}")
    return "verified"


@tool(after=[look_up])
def reserve(item: str) -> str:
    """Reserve an item."""
    DONE.append(f"reserved {item}")
    return "reserved"


@tool(final=True)
def submit(report: Report) -> None:
    """Hand the report in."""
    DONE.append(report.title)


@tool(final=True)
def finish(text: str) -> str:
    """Give the result."""
    if text == "bad":
        raise ModelRetry("be polite")
    DONE.append(text)
    return f"<{text}>"


def refusals(result: RunResult[Any]) -> list[str]:
    return [m.text for m in result.messages if isinstance(m, ToolResult) and m.not_called]


# Runs that end with a call.


async def test_the_call_of_a_final_tool_ends_the_run_with_its_result() -> None:
    model = ScriptedModel([call("look_up", item="tea"), call("finish", text="4 euros")])
    result = await Agent(model, tools=[look_up, finish]).run("What does tea cost?")
    assert (result.output, result.stop_reason) == ("<4 euros>", "final")
    assert (result.usage.requests, result.usage.tool_calls) == (2, 2)
    assert "finish" in model.requests[0].messages[0]["content"]


async def test_a_final_tool_that_returns_nothing_gives_its_argument() -> None:
    model = ScriptedModel([call("submit", report={"title": "Tea", "total": "4"})])
    result = await Agent(model, tools=[submit], output_type=Report).run("Report.")
    assert result.output == Report(title="Tea", total=4)
    assert DONE == ["Tea"]


async def test_all_arguments_are_the_output_if_no_single_one_is() -> None:
    @tool(final=True)
    def write(title: str, total: float) -> None:
        """Write."""

    model = ScriptedModel([call("write", title="Tea", total=4)] * 2)
    typed = await Agent(model, tools=[write], output_type=Report).run("Report.")
    assert typed.output == Report(title="Tea", total=4)
    plain = await Agent(model, tools=[write]).run("Report.")
    assert json.loads(plain.output) == {"title": "Tea", "total": 4}


async def test_an_argument_that_is_left_out_is_its_default() -> None:
    @tool(final=True)
    def rate(stars: int = 5) -> None:
        """Rate."""

    @tool(final=True)
    def untyped(stars=5):  # type: ignore[no-untyped-def]
        """Rate."""

    for each in (rate, untyped):
        agent = Agent(ScriptedModel([call(each.name)]), tools=[each], output_type=int)
        assert (await agent.run("Rate.")).output == 5


async def test_a_result_that_is_not_of_the_output_type_is_no_output() -> None:
    @tool(final=True)
    def make() -> dict[str, object]:
        """Make a report."""
        return {"title": "Tea"}

    agent = Agent(ScriptedModel([call("make")]), tools=[make], output_type=Report)
    result = await agent.run("Report.")
    assert result.stop_reason == "error"
    with pytest.raises(NoOutput, match="total"):
        _ = result.output


async def test_a_final_call_that_fails_is_told_and_the_run_goes_on() -> None:
    script = [call("finish"), call("finish", text="bad"), call("finish", text="good")]
    result = await Agent(ScriptedModel(script), tools=[finish]).run("Go.")
    assert (result.output, DONE) == ("<good>", ["good"])


async def test_calls_before_a_final_call_run_first_and_those_after_it_do_not() -> None:
    turn = calls(call("verify", item="tea"), call("finish", text="x"), call("verify", item="b"))
    result = await Agent(ScriptedModel([turn]), tools=[verify, finish]).run("Go.")
    assert DONE == ["verified tea", "x"]
    assert result.output == "<x>"
    assert len(refusals(result)) == 1
    assert result.usage.tool_calls == 2


@pytest.mark.parametrize("before", [call("look_up", item="gold"), call("look_up", thing=1)])
async def test_a_final_call_beside_one_that_failed_is_not_made(before: Completion) -> None:
    script = [calls(before, call("finish", text="x")), call("finish", text="y")]
    agent = Agent(ScriptedModel(script), tools=[look_up, finish])
    result = await agent.run("Go.")
    assert (result.output, DONE) == ("<y>", ["y"])
    assert "look_up" in refusals(result)[-1]


async def test_words_instead_of_a_call_are_answered_in_words_that_get_plainer() -> None:
    model = ScriptedModel([say("I am done."), say("Really!"), call("finish", text="x")])
    result = await Agent(model, tools=[look_up, finish]).run("Go.")
    notes = [m.text for m in result.messages if isinstance(m, User)][1:]
    assert result.output == "<x>"
    assert all("finish" in note for note in notes)
    assert '{"name": "finish", "arguments": {"text": "..."}}' not in notes[0]
    assert '{"name": "finish", "arguments": {"text": "..."}}' in notes[1]
    assert [r.body.get("tool_choice") for r in model.requests] == [None, "required", "required"]


async def test_a_model_that_insists_on_words_ends_the_run_without_an_output() -> None:
    agent = Agent(ScriptedModel([forever(say("I am done."))]), tools=[look_up, finish])
    events = [event async for event in agent.run_stream("Go.")]
    last = events[-1]
    assert isinstance(last, RunFinished)
    assert (last.result.stop_reason, last.result.text) == ("error", "I am done.")
    assert last.result.usage.requests == 3
    assert sum(isinstance(event, AnswerDiscarded) for event in events) == 2
    with pytest.raises(NoOutput, match="finish"):
        _ = last.result.output


async def test_at_a_limit_only_the_final_tool_stays_offered() -> None:
    script = [call("look_up", item="a"), call("look_up", item="b"), call("finish", text="x")]
    model = ScriptedModel(script)
    agent = Agent(model, tools=[look_up, finish], limits=Limits(requests=3))
    result = await agent.run("Go.")
    assert (result.output, result.stop_reason) == ("<x>", "max_requests")
    last = model.requests[-1]
    assert [t["function"]["name"] for t in last.tools] == ["finish"]
    assert last.body["tool_choice"] == {"type": "function", "function": {"name": "finish"}}


async def test_a_limit_of_tool_calls_leaves_the_final_call() -> None:
    script = [call("look_up", item="a"), call("look_up", item="b"), call("finish", text="x")]
    agent = Agent(ScriptedModel(script), tools=[look_up, finish], limits=Limits(tool_calls=1))
    result = await agent.run("Go.")
    assert (result.output, result.stop_reason) == ("<x>", "max_tool_calls")


async def test_a_closed_run_whose_final_call_fails_ends_all_the_same() -> None:
    script = [call("look_up", item="a")] * 3 + [forever(call("finish", text="bad"))]
    agent = Agent(ScriptedModel(script), tools=[look_up, finish], limits=Limits(requests=None))
    result = await agent.run("Go.")
    assert result.stop_reason == "loop"
    assert result.usage.requests < 10


async def test_required_tools_precede_the_final_call() -> None:
    script = [call("finish", text="x"), call("verify", item="tea"), call("finish", text="y")]
    agent = Agent(ScriptedModel(script), tools=[verify, finish], required_tools=[verify])
    result = await agent.run("Go.")
    assert DONE == ["verified tea", "y"]
    assert result.output == "<y>"
    assert "verify" in refusals(result)[0]
    assert result.tool_errors == ()


async def test_a_required_tool_that_is_missing_is_not_waived_at_a_limit() -> None:
    model = ScriptedModel([call("look_up", item="a"), say("I could not.")])
    tools = [look_up, verify, finish]
    agent = Agent(model, tools=tools, required_tools=[verify], limits=Limits(requests=2))
    result = await agent.run("Go.")
    assert (result.stop_reason, result.text, DONE) == ("max_requests", "I could not.", [])
    assert model.requests[-1].body["tool_choice"] == "none"


async def test_a_final_call_that_waits_for_a_person_ends_the_run_when_it_is_resumed() -> None:
    @tool(final=True, requires_approval=lambda _, arguments: arguments["amount"] > 10)
    def pay(amount: int) -> int:
        """Pay."""
        return amount

    agent = Agent(ScriptedModel([call("pay", amount=20)] * 2), tools=[pay], output_type=int)
    paused = await agent.run("Pay.")
    assert paused.stop_reason == "approval"
    result = await agent.resume(paused.to_json(), {paused.pending[0].call.id: True})
    assert (result.output, result.stop_reason) == (20, "final")
    last = [event async for event in agent.run_stream("Pay.")][-1]
    assert isinstance(last, RunFinished)
    decisions = {last.result.pending[0].call.id: True}
    last = [event async for event in agent.resume_stream(last.result, decisions)][-1]
    assert isinstance(last, RunFinished)
    assert last.result.output == 20


async def test_an_agent_that_ends_with_a_call_is_a_tool_and_takes_over() -> None:
    worker = Agent(
        ScriptedModel([forever(call("finish", text="done"))]), tools=[finish], name="worker"
    )
    boss = Agent(ScriptedModel([call("worker", task="x"), say("ok")]), tools=[worker.as_tool()])
    result = await boss.run("Go.")
    assert result.tool_calls[0][1] is not None
    assert result.tool_calls[0][1].text == "<done>"
    front = Agent(ScriptedModel([call("transfer_to_worker")]), handoffs=[worker], name="front")
    handed = await front.run("Go.")
    assert (handed.output, handed.agent) == ("<done>", "worker")


# When a tool may be called.


async def test_a_tool_after_another_is_refused_until_that_one_succeeded() -> None:
    script = [
        call("reserve", item="a"),
        call("look_up", item="gold"),
        call("reserve", item="a"),
        call("look_up", item="a"),
        call("reserve", item="a"),
        say("Done."),
    ]
    agent = Agent(ScriptedModel(script), tools=[look_up, reserve])
    result = await agent.run("Go.")
    assert DONE == ["reserved a"]
    assert len(refusals(result)) == 2
    assert "look_up" in refusals(result)[0]
    assert result.usage.tool_calls == 3


@pytest.mark.parametrize(("item", "done"), [("a", ["reserved a"]), ("gold", [])])
async def test_in_one_turn_a_tool_waits_for_the_one_before_it(item: str, done: list[str]) -> None:
    turn = calls(call("look_up", item=item), call("reserve", item=item))
    agent = Agent(ScriptedModel([turn, say("Done.")]), tools=[look_up, reserve])
    events = [event async for event in agent.run_stream("Go.")]
    assert done == DONE
    assert sum(isinstance(event, ToolCallRefused) for event in events) == 1 - len(done)


async def test_all_that_is_missing_is_told_in_order() -> None:
    @tool(after=[reserve])
    def pay() -> str:
        """Pay."""
        return "paid"

    agent = Agent(ScriptedModel([call("pay"), say("No.")]), tools=[pay, reserve, look_up])
    result = await agent.run("Go.")
    assert "look_up and then reserve" in refusals(result)[0]


async def test_most_calls_counts_what_was_executed_and_stays_in_the_offer() -> None:
    @tool(most_calls=2)
    def search(query: str) -> str:
        """Search."""
        DONE.append(query)
        return query

    turn = calls(call("search", query="b"), call("search", query="c"))
    script = [call("search", many=1), call("search", query="a"), turn, say("Done.")]
    model = ScriptedModel(script)
    result = await Agent(model, tools=[search, look_up]).run("Go.")
    assert DONE == ["a", "b"]
    assert "2 times" in refusals(result)[-1]
    assert len(model.requests[-1].tools) == 2


async def test_a_tool_that_is_not_offered_cannot_be_seen_or_called() -> None:
    @tool(offered=lambda context: context.deps == "admin")
    def wipe() -> str:
        """Wipe everything."""
        DONE.append("wiped")
        return "wiped"

    @tool(offered=lambda context: context.usage.requests > 0)
    def late() -> str:
        """Come late."""
        return "late"

    model = ScriptedModel([call("wipe"), say("No."), call("wipe"), say("Yes.")])
    agent = Agent(model, tools=[wipe, late], deps_type=str)
    result = await agent.run("Go.", deps="guest")
    assert DONE == []
    assert "no tool" in refusals(result)[0]
    offers = [[t["function"]["name"] for t in r.tools] for r in model.requests]
    assert offers == [[], ["late"]]
    await agent.run("Go.", deps="admin")
    assert DONE == ["wiped"]


async def test_what_is_not_offered_is_not_found_by_the_search() -> None:
    def make(number: int) -> object:
        @tool(name=f"invoice_{number}", offered=lambda context: context.deps == "admin")
        def each() -> str:
            """Find an invoice."""
            return ""

        return each

    script = [call("find_tools", query="invoice"), say("Done.")]
    agent = Agent(ScriptedModel(script * 2), tools=[make(i) for i in range(9)], max_tools=2)
    for deps, is_found in (("guest", False), ("admin", True)):
        result = await agent.run("Go.", deps=deps)
        found = result.tool_calls[0][1]
        assert found is not None
        assert ("invoice_1" in found.text) == is_found


async def test_an_offer_that_is_neither_true_nor_false_is_the_programs_fault() -> None:
    @tool(offered=lambda context: context.deps)
    def each() -> str:
        """Return nothing."""
        return ""

    with pytest.raises(UsageError, match="offered= of each"):
        await Agent(ScriptedModel([say("x")]), tools=[each]).run("Go.", deps="yes")


# The first tool.


async def test_the_first_turn_calls_the_first_tool_and_then_the_model_is_free() -> None:
    model = ScriptedModel([call("look_up", item="tea"), say("4 euros.")])
    result = await Agent(model, tools=[verify, look_up], first_tool=look_up).run("Tea?")
    choices = [request.body.get("tool_choice") for request in model.requests]
    assert choices == [{"type": "function", "function": {"name": "look_up"}}, None]
    assert result.output == "4 euros."


async def test_a_server_that_ignores_the_choice_is_told_once() -> None:
    script = [call("verify", item="a"), call("look_up", item="a"), call("verify", item="a")]
    agent = Agent(ScriptedModel([*script, say("x")]), tools=[verify, look_up], first_tool="look_up")
    result = await agent.run("Go.")
    assert DONE == ["verified a"]
    assert refusals(result) == ["Not called: first call look_up."]
    stubborn = ScriptedModel([call("verify", item="a"), call("verify", item="b"), say("x")])
    await Agent(stubborn, tools=[verify, look_up], first_tool="look_up").run("Go.")
    assert DONE == ["verified a", "verified b"]


# What is refused where it is made.


def test_rules_that_no_run_could_keep_are_refused() -> None:
    @tool(after=["b"])
    def a() -> str:
        """A."""
        return ""

    @tool(after=[a])
    def b() -> str:
        """B."""
        return ""

    @tool(after=[finish])
    def late() -> str:
        """Come late."""
        return ""

    @tool(final=True, after=["end"])
    def end() -> str:
        """End."""
        return ""

    for tools, options, reason in (
        ([reserve], {}, "look_up"),
        ([a, b], {}, "a after b after a"),
        ([late, finish], {}, "ends the run"),
        ([end], {}, "ends the run"),
        ([submit], {"output_type": Plan}, "steps"),
        ([submit], {"output_type": int}, "integer"),
        ([finish], {"output_type": int}, "returns str"),
        ([finish, submit], {"required_tools": ["finish"]}, "submit"),
        ([look_up], {"first_tool": "look"}, "first_tool"),
        ([look_up, reserve], {"first_tool": "reserve"}, "after"),
    ):
        with pytest.raises(UsageError, match=reason):
            Agent(ScriptedModel([]), tools=tools, **options)  # type: ignore[arg-type]  # wrong on purpose


@pytest.mark.parametrize(
    "options",
    [
        {"most_calls": 0},
        {"most_calls": True},
        {"after": "look_up"},
        {"offered": True},
        {"final": "yes"},
        {"attempts": 0},
    ],
)
def test_wrong_values_of_options_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(SchemaError):
        tool(**options)(lambda: None)


def test_a_prefix_is_put_before_the_names_of_after_too() -> None:
    from agentcall import ToolRegistry

    prefixed = ToolRegistry(look_up, reserve).prefix("shop_")
    assert prefixed["shop_reserve"].options.after == ("shop_look_up",)
    Agent(ScriptedModel([]), tools=prefixed)


def test_a_context_is_what_offered_takes() -> None:
    seen: list[RunContext[Any]] = []

    def remember(context: RunContext[Any]) -> bool:
        seen.append(context)
        return True

    @tool(offered=remember)
    def each() -> str:
        """Return nothing."""
        return ""

    model = ScriptedModel([call("each"), say("x")])
    Agent(model, tools=[each]).run_sync("Go.", deps=7)
    assert [(c.deps, c.usage.requests, len(c.messages)) for c in seen] == [(7, 0, 1), (7, 1, 3)]


# In every kind of run.


async def test_the_text_of_a_run_ends_with_the_output_of_its_final_call() -> None:
    script = [call("look_up", item="tea").replace(text="I look."), call("finish", text="x")]
    agent = Agent(ScriptedModel(script * 2), tools=[look_up, finish])
    stream = agent.stream_text("Go.")
    assert "".join([text async for text in stream]) == "I look.\n\n<x>"
    assert stream.result.ended_by_call
    assert (await agent.run("Go.")).ended_by_call


@pytest.mark.parametrize("stream", [False, True])
async def test_the_endpoint_answers_with_the_output_of_the_final_call(stream: bool) -> None:
    model = ScriptedModel([call("submit", report={"title": "Tea", "total": 4})])
    endpoint = OpenAIEndpoint(Agent(model, tools=[submit], output_type=Report), name="a")
    transport = httpx.ASGITransport(app=endpoint)
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8001") as client:
        question = {"role": "user", "content": "Report."}
        body = {"model": "a", "messages": [question], "stream": stream}
        answer = await client.post("/v1/chat/completions", json=body)
    assert answer.status_code == 200
    assert '{\\"title\\":\\"Tea\\",\\"total\\":4.0}' in answer.text


async def test_a_history_that_ends_with_a_final_call_goes_on() -> None:
    agent = Agent(ScriptedModel([forever(call("finish", text="x"))]), tools=[finish])
    first = await agent.run("Go.")
    second = await agent.run("Again.", messages=first.messages)
    assert (second.output, len(second.messages)) == ("<x>", 6)
    loaded = RunResult[Any].from_json(second.to_json())
    assert (loaded.output, loaded.messages) == (second.output, second.messages)


async def test_a_model_that_repeats_itself_is_left_what_is_missing_and_the_end() -> None:
    verified = [call("verify", item="tea")] * 3
    script = [*verified, call("look_up", item="tea"), call("finish", text="x")]
    model = ScriptedModel(script)
    tools = [verify, look_up, finish]
    result = await Agent(model, tools=tools, required_tools=[look_up]).run("Go.")
    assert (result.output, result.stop_reason, DONE) == ("<x>", "loop", ["verified tea", "x"])
    assert "call look_up, and end with a call of finish" in refusals(result)[0]
    offers = [[t["function"]["name"] for t in request.tools] for request in model.requests]
    assert offers[-2:] == [["look_up"], ["finish"]]
