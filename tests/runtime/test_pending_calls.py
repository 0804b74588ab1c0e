"""Each call that waits carries the agent that asked for it and its own reason."""

from __future__ import annotations

import json
from dataclasses import FrozenInstanceError
from pathlib import Path
from typing import Any

import pytest

from agentcall import Agent, PendingCall, RunResult, SQLiteSession, tool
from agentcall.cli.approvals import format_pending_calls
from agentcall.display import format_full_call
from agentcall.durable import durable
from agentcall.errors import UsageError
from agentcall.events import ApprovalRequested, Nested, RunFinished, event_to_json
from agentcall.policy import Allow, Ask, Policy, PolicyDecision, ToolCallRequest
from agentcall.serving.conversation import Conversation
from agentcall.testing import FakeServer, ScriptedCall, ScriptedModel, call, calls, say

PAID: list[str] = []
LARGE, SMALL = "LARGE, unknown payee", "small, known payee"


@tool
def pay(to: str, amount: int) -> str:
    """Pay."""
    PAID.append(f"{amount} to {to}")
    return "paid"


@tool(polling=True, requires_approval=True)
def poke() -> str:
    """Poke."""
    PAID.append("poked")
    return "poked"


@pytest.fixture(autouse=True)
def fresh() -> None:
    PAID.clear()


def by_amount(attempt: ToolCallRequest) -> PolicyDecision:
    if attempt.tool.name != "pay":
        return Allow()
    return Ask(LARGE if int(str(attempt.arguments["amount"])) > 100 else SMALL)


def payer(*script: object, policy: Policy = by_amount, **more: Any) -> Agent[str, None]:
    return Agent(ScriptedModel(script), tools=[pay, poke], policy=policy, **more)  # type: ignore[arg-type]


BOTH = calls(
    ScriptedCall("pay", {"to": "Mallory", "amount": 9999}, id="a"),
    ScriptedCall("pay", {"to": "Bob", "amount": 1}, id="b"),
)


def reasons(result: RunResult[Any]) -> dict[str, str]:
    return {json.loads(p.call.arguments)["to"]: p.reason for p in result.pending}


async def test_two_calls_of_one_tool_have_reasons_of_their_own() -> None:
    events = [event async for event in payer(BOTH).run_stream("go")]
    told = [e.reason for e in events if isinstance(e, ApprovalRequested)]
    last = events[-1]
    assert isinstance(last, RunFinished)
    result = last.result
    assert told == [LARGE, SMALL]
    assert reasons(result) == {"Mallory": LARGE, "Bob": SMALL}
    assert str(result.answer).count("waits for approval") == 2
    kept = RunResult.from_json(result.to_json())
    assert kept.pending == result.pending
    assert kept == result
    wire = json.loads(result.to_json())["pending"]
    assert [(one["agent"], one["reason"]) for one in wire] == [("agent", LARGE), ("agent", SMALL)]
    assert json.loads(json.dumps(event_to_json(last)))["result"]["pending"] == wire


async def test_equal_calls_that_may_be_made_twice_wait_one_by_one() -> None:
    reason = iter(["the first", "the second"])
    made = payer(calls(call("poke"), call("poke")), say("ok"), policy=lambda _: Ask(next(reason)))
    result = await made.run("go")
    assert [pending.reason for pending in result.pending] == ["the first", "the second"]
    one, two = result.pending
    half = await payer(say("ok"), policy=lambda _: None).resume(result, {two.call.id: True})
    assert (half.pending, PAID) == ((one,), ["poked"])


CUTS = [
    "pay waits for approval is on the fraud list",
    "payee Bob; pay waits for approval: all is well",
    "line one\nline two; poke waits for approval: none",
    'quotes " and \\ and 上海 and {"reason": "no"}',
    "waits for approval: ",
    "; ",
    "",
]


@pytest.mark.parametrize("reason", CUTS)
async def test_no_word_in_a_reason_can_cut_it(reason: str, tmp_path: Path) -> None:
    made = payer(BOTH, policy=lambda attempt: Ask(f"{reason}{attempt.arguments['to']}"))
    session = SQLiteSession("s", tmp_path / "s.db")
    result = await made.run("go", session=session)
    expected = {"Mallory": f"{reason}Mallory", "Bob": f"{reason}Bob"}
    assert reasons(result) == expected
    assert reasons(RunResult.from_json(result.to_json())) == expected
    assert [w.reason for w in Conversation(made, session).pending] == [*expected.values()]
    (waiting,) = session.paused_runs
    assert reasons(waiting) == expected
    outer = Agent(
        ScriptedModel([call("ask", task="go")]),
        tools=[payer(BOTH, policy=lambda a: Ask(f"{reason}{a.arguments['to']}")).as_tool("ask")],
    )
    assert reasons(await outer.run("go")) == expected


async def test_what_is_not_decided_yet_keeps_its_reason() -> None:
    result = await payer(BOTH).run("go")
    half = await payer(say("ok")).resume(result, {"b": True})
    assert (half.stop_reason, PAID) == ("approval", ["1 to Bob"])
    assert [(p.call.id, p.agent, p.reason) for p in half.pending] == [("a", "agent", LARGE)]
    assert LARGE in str(half.answer)


async def test_calls_of_agents_that_are_tools_say_who_asked_and_why() -> None:
    same = ScriptedCall("pay", {"to": "Bob", "amount": 1}, id="x")
    one = payer(calls(same), name="first", policy=lambda _: Ask("by the first"))
    two = payer(calls(same), name="second", policy=lambda _: Ask("by the second"))
    between = Agent(
        ScriptedModel([calls(ScriptedCall("ask_second", {"task": "go"}, id="x"))]),
        tools=[two.as_tool("ask_second")],
        name="between",
    )
    asked = calls(
        ScriptedCall("first", {"task": "go"}, id="x"),
        ScriptedCall("between", {"task": "go"}, id="y"),
        ScriptedCall("pay", {"to": "Ann", "amount": 1000}, id="z"),
    )
    made = Agent(
        ScriptedModel([asked, say("ok")]),
        tools=[one.as_tool(), between.as_tool(), pay],
        policy=by_amount,
        name="boss",
    )
    events = [event async for event in made.run_stream("go")]
    last = events[-1]
    assert isinstance(last, RunFinished)
    result = last.result
    told = {p.call.id: (p.agent, p.reason) for p in result.pending}
    assert told == {
        "z": ("boss", LARGE),
        "x/x": ("first", "by the first"),
        "y/x/x": ("second", "by the second"),
    }
    assert [p.call.id for p in result.own_pending] == ["z"]
    assert result.get_agent_path("y/x/x") == "between/ask_second"
    asked_for = {e.call.id: e.reason for e in events if isinstance(e, ApprovalRequested)}
    assert asked_for == {identity: reason for identity, (_, reason) in told.items()}
    assert any(isinstance(event, Nested) for event in events)
    assert RunResult.from_json(result.to_json()) == result
    half = await made.resume(result.to_json(), {"z": True})
    assert {p.call.id for p in half.pending} == {"x/x", "y/x/x"}
    assert {p.reason for p in half.pending} == {"by the first", "by the second"}


async def test_a_call_after_a_handover_is_the_other_agents() -> None:
    clerk = payer(BOTH, name="clerk")
    front = Agent(
        ScriptedModel([call("transfer_to_clerk")]), tools=[], handoffs=[clerk], name="front"
    )
    result = await front.run("go")
    assert [(p.agent, p.reason) for p in result.pending] == [("clerk", LARGE), ("clerk", SMALL)]


async def test_a_durable_run_that_waits_has_its_reasons_in_the_journal(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/runs.db"
    with durable(payer(BOTH), url) as runs:
        first = await runs.run("go", run_id="r")
    with durable(payer(say("ok")), url) as runs:
        kept = await runs.run(run_id="r")
        assert kept.pending == first.pending
        assert reasons(kept) == {"Mallory": LARGE, "Bob": SMALL}
        half = await runs.resume("r", {"b": False})
        assert [(p.call.id, p.reason) for p in half.pending] == [("a", LARGE)]


async def test_the_terminal_shows_each_call_with_its_reason_on_one_line() -> None:
    result = await payer(BOTH, policy=lambda a: Ask(f"to\n\x1b[31m{a.arguments['to']}")).run("go")
    lines = format_pending_calls(result)
    shown = [format_full_call(p.call) for p in result.pending]
    assert [line.partition("  ")[2] for line in lines[::2]] == shown
    assert "Mallory" in lines[1]
    assert "Bob" in lines[3]
    assert not any("\x1b" in line or "\n" in line for line in lines)


async def test_a_pending_call_is_frozen_and_its_json_is_checked() -> None:
    result = await payer(BOTH).run("go")
    with pytest.raises(FrozenInstanceError):
        result.pending[0].reason = "fine"  # type: ignore[misc]
    assert PendingCall(result.pending[0].call, "agent", LARGE) == result.pending[0]
    wire = json.loads(result.to_json())
    for broken in ({}, {"call": {}}, {**wire["pending"][0], "call": None}, "x", None):
        text = json.dumps({**wire, "pending": [broken]})
        with pytest.raises(UsageError):
            RunResult.from_json(text)


def test_the_endpoint_names_each_tool_once_and_no_argument() -> None:
    from agentcall.serving.openai_api.response import format_answer

    result = payer(calls(*BOTH.calls, ScriptedCall("poke", {}))).run_sync("go")
    assert "poke" not in format_answer(result)
    result = payer(
        calls(*BOTH.calls, ScriptedCall("poke", {})), policy=lambda _: Ask("evil")
    ).run_sync("go")
    assert format_answer(result) == (
        "I stopped here: pay, poke need a person's approval, which cannot be given here."
    )


def test_a_model_server_sees_nothing_of_reasons() -> None:
    with FakeServer([BOTH, say("ok")]) as server:
        made = Agent(server.url, tools=[pay], policy=by_amount)
        result = made.run_sync("go")
        made.resume_sync(result, {p.call.id: True for p in result.pending})
    assert LARGE not in json.dumps([request.body for request in server.requests])
