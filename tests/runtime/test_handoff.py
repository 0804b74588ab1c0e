from __future__ import annotations

import json
from typing import Any

import pytest
from pydantic import BaseModel

from agentcall import Agent, Limits, RunResult, ToolRegistry, tool
from agentcall.errors import DuplicateTool, UsageError
from agentcall.events import HandedOver, RunFinished
from agentcall.runtime.handoff import normalize_tool_name
from agentcall.testing import ScriptedCall, ScriptedModel, call, calls, say

SENT: list[str] = []


@tool
def refund(order: int) -> str:
    """Refund."""
    return f"refunded {order}"


@tool(requires_approval=True)
def send(to: str) -> str:
    """Send."""
    SENT.append(to)
    return f"sent to {to}"


@tool
def look() -> str:
    """Look."""
    return "a view"


@pytest.fixture(autouse=True)
def fresh() -> None:
    SENT.clear()


def scripted(*script: object) -> ScriptedModel:
    return ScriptedModel(script)  # type: ignore[arg-type]


def agent(name: str, *script: object, **more: Any) -> Agent[Any]:
    return Agent(scripted(*script), name=name, instructions=f"You are {name}.", **more)


def requests(one: Agent[Any]) -> list[Any]:
    return one.model.requests  # type: ignore[union-attr, return-value]


async def test_the_other_agent_goes_on_with_its_model_instructions_and_tools() -> None:
    billing = agent("billing", call("refund", order=7), say("Refunded."), tools=[refund])
    triage = agent("triage", call("transfer_to_billing"), tools=[look], handoffs=[billing])
    result = await triage.run("I want my money back.")
    assert (result.output, result.agent, result.stop_reason) == ("Refunded.", "billing", "final")
    assert result.usage.requests == 3
    first = requests(billing)[0]
    assert first.messages[0] == {"role": "system", "content": "You are billing."}
    assert first.messages[1]["content"] == "I want my money back."
    assert [t["function"]["name"] for t in first.body["tools"]] == ["refund"]
    offered = [t["function"]["name"] for t in requests(triage)[0].body["tools"]]
    assert offered == ["look", "transfer_to_billing"]
    assert [call.name for call, _ in result.tool_calls] == ["transfer_to_billing", "refund"]


async def test_the_tool_says_what_the_other_agent_is_told() -> None:
    other = Agent(scripted(), name="billing", instructions="You know invoices.\nBe brief.")
    (made,) = agent("triage", handoffs=[other]).spec.registry
    assert "The instructions of billing: You know invoices." in made.description
    assert "Be brief" not in made.description


async def test_it_is_told_who_went_on() -> None:
    billing = agent("billing", say("Yes."))
    events = [e async for e in agent("triage", call("transfer_to_billing"), handoffs=[billing])
              .run_stream("go")]  # fmt: skip
    assert [event for event in events if isinstance(event, HandedOver)] == [
        HandedOver("triage", "billing")
    ]
    last = events[-1]
    assert isinstance(last, RunFinished)
    assert last.result.agent == "billing"


async def test_without_a_handoff_the_first_agent_answers() -> None:
    result = await agent("triage", say("Hello."), handoffs=[agent("billing")]).run("hi")
    assert result.agent == "triage"


async def test_the_output_is_of_the_type_of_the_agent_that_answers() -> None:
    class Refund(BaseModel):
        order: int

    billing = agent("billing", say('{"order": 7}'), output_type=Refund)
    result = await agent("triage", call("transfer_to_billing"), handoffs=[billing]).run("go")
    assert result.output == Refund(order=7)


async def test_limits_and_usage_go_on() -> None:
    billing = Agent(
        ScriptedModel(lambda request: call("refund", order=len(request.messages))),
        name="billing", tools=[refund], limits=Limits(requests=50),
    )  # fmt: skip
    triage = agent(
        "triage", call("transfer_to_billing"), handoffs=[billing], limits=Limits(requests=4)
    )
    result = await triage.run("go")
    assert (result.stop_reason, result.usage.requests) == ("max_requests", 4)
    assert result.agent == "billing"


async def test_a_team_may_hand_over_to_and_fro() -> None:
    team: list[Agent[Any]] = []
    triage = agent("triage", call("transfer_to_billing"), say("All done."), handoffs=team)
    billing = agent("billing", call("transfer_to_triage"), handoffs=team)
    team += [triage, billing]
    result = await triage.run("go")
    assert (result.output, result.agent) == ("All done.", "triage")


async def test_a_circle_of_handoffs_is_stopped_with_a_reason() -> None:
    team: list[Agent[Any]] = []
    one = Agent(ScriptedModel(lambda _: call("transfer_to_two")), name="one", handoffs=team)
    two = Agent(ScriptedModel(lambda _: call("transfer_to_one")), name="two", handoffs=team)
    team += [one, two]
    result = await one.run("go")
    assert result.stop_reason == "loop"
    assert result.usage.requests < 10


async def test_one_agent_takes_over_in_a_turn() -> None:
    billing, sales = agent("billing", say("Billing here.")), agent("sales", say("Sales here."))
    both = calls(call("transfer_to_billing"), call("transfer_to_sales"), call("look"))
    result = await agent("triage", both, tools=[look], handoffs=[billing, sales]).run("go")
    assert result.agent == "billing"
    texts = [found.text for _, found in result.tool_calls if found]
    assert "one agent at a time" in texts[1]
    assert texts[2] == "a view"


async def test_a_call_that_waits_beside_a_handoff_is_decided_before_it() -> None:
    billing = agent("billing", say("Done."), tools=[refund])
    both = calls(call("transfer_to_billing"), call("send", to="ann"))
    triage = agent("triage", both, tools=[send], handoffs=[billing])
    result = await triage.run("go")
    assert (result.agent, len(result.pending)) == ("triage", 1)
    done = await triage.resume(result, {result.pending[0].call.id: True})
    assert (done.agent, done.output, SENT) == ("billing", "Done.", ["ann"])


async def test_a_run_that_waits_in_the_other_agent_is_resumed_through_the_first() -> None:
    mail = agent("mail", call("send", to="ann"), say("Sent."), tools=[send])
    billing = agent("billing", call("transfer_to_mail"), handoffs=[mail])
    triage = agent("triage", call("transfer_to_billing"), handoffs=[billing])
    result = RunResult.from_json((await triage.run("go")).to_json())
    assert (result.agent, result.pending[0].call.name) == ("mail", "send")
    done = await triage.resume(result, {result.pending[0].call.id: True})
    assert (done.output, done.agent, SENT) == ("Sent.", "mail", ["ann"])
    with pytest.raises(UsageError, match="agent 'mail', which is not among: other"):
        await agent("other").resume(result, {result.pending[0].call.id: True})


async def test_a_tool_of_the_first_agent_is_none_of_the_second() -> None:
    billing = agent("billing", call("look"), say("No view."), tools=[refund])
    triage = agent("triage", call("transfer_to_billing"), tools=[look], handoffs=[billing])
    result = await triage.run("go")
    found = result.tool_calls[1][1]
    assert found is not None
    assert found.is_error
    assert "refund" in found.text


async def test_an_agent_that_hands_over_may_be_a_tool() -> None:
    billing = agent("billing", call("send", to="ann"), say("Refunded."), tools=[send])
    triage = agent("triage", call("transfer_to_billing"), handoffs=[billing])
    desk = Agent(
        scripted(calls(ScriptedCall("help", {"task": "go"}, id="c")), say("ok")),
        tools=[triage.as_tool("help", "Help.")],
    )
    result = await desk.run("go")
    (waits,) = (each.call for each in result.pending)
    assert result.paused[0].result.agent == "billing"
    done = await desk.resume(result, {waits.id: True})
    assert (done.output, done.agent, SENT) == ("ok", "agent", ["ann"])


def test_agents_need_names_of_their_own() -> None:
    with pytest.raises(UsageError, match="two agents that may answer are called 'a'"):
        agent("front", handoffs=[agent("a"), agent("a")])
    with pytest.raises(UsageError, match="are called 'front'"):
        agent("front", handoffs=[agent("a", handoffs=[agent("front")])])


def test_a_tool_of_the_name_of_a_handoff_is_refused() -> None:
    registry = ToolRegistry()

    @registry.tool
    def transfer_to_billing() -> str:
        """Transfer."""
        return ""

    with pytest.raises(DuplicateTool, match="transfer_to_billing"):
        agent("front", tools=registry, handoffs=[agent("billing")])


@pytest.mark.parametrize(
    ("name", "made"),
    [("billing", "billing"), ("The Mail-Man!", "The_Mail-Man"), ("客服", "客服"), ("!", "agent")],
)
def test_a_name_becomes_that_of_a_tool(name: str, made: str) -> None:
    assert normalize_tool_name(name) == made


def test_a_result_says_in_json_who_answered() -> None:
    result = agent("triage", say("Hello.")).run_sync("hi")
    assert json.loads(result.to_json())["agent"] == "triage"
