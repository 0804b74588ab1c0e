from __future__ import annotations

import json
import subprocess
import sys
import textwrap
from dataclasses import replace
from pathlib import Path

import pytest

from agentcall import Agent, Approved, Denied, Edited, Limits, RunResult, tool
from agentcall.decisions import resumed
from agentcall.errors import UsageError
from agentcall.events import ApprovalRequested, RunFinished, ToolCallStarted
from agentcall.messages import User
from agentcall.origin import Origin
from agentcall.run import Run
from agentcall.testing import ScriptedModel, call, calls, say

SENT: list[str] = []


@tool(requires_approval=True)
def send(to: str, amount: int = 1) -> str:
    """Send."""
    SENT.append(f"{amount} to {to}")
    return "sent"


@tool
def look() -> str:
    """Look."""
    return "a view"


@pytest.fixture(autouse=True)
def fresh() -> None:
    SENT.clear()


def made(*script: object) -> tuple[Agent, ScriptedModel]:
    model = ScriptedModel(script)  # type: ignore[arg-type]
    return Agent(model, tools=[send, look]), model


async def waiting(*rest: object) -> tuple[Agent, ScriptedModel, RunResult[str]]:
    agent, model = made(calls(call("send", to="a"), call("look"), call("send", to="b")), *rest)
    return agent, model, await agent.run("go")


async def test_a_run_stops_where_a_person_has_to_decide() -> None:
    _, model, result = await waiting()
    assert result.stop_reason == "approval"
    assert [one.arguments for one in result.pending] == ['{"to": "a"}', '{"to": "b"}']
    assert [found and found.text for _, found in result.tool_calls] == [None, "a view", None]
    assert SENT == []
    assert len(model.requests) == 1


@pytest.mark.parametrize("yes", [True, Approved()])
@pytest.mark.parametrize("no", [False, Denied("too much")])
async def test_a_run_goes_on_with_what_was_decided(yes: bool | Approved, no: bool | Denied) -> None:
    agent, model, result = await waiting(say("done"))
    one, two = result.pending
    last = await agent.resume(result, {one.id: yes, two.id: no})
    assert (last.output, last.stop_reason, SENT) == ("done", "final", ["1 to a"])
    assert last.run_id == result.run_id
    assert last.usage.requests == 2
    assert last.usage.tool_calls == 2
    refused = last.tool_calls[2][1]
    assert refused is not None
    assert "A person refused this call" in refused.text
    assert ("too much" in refused.text) == isinstance(no, Denied)
    sent = model.requests[1].messages
    assert [m["role"] for m in sent] == ["user", "assistant", "tool", "tool", "tool"]


@pytest.mark.parametrize(
    "edit", [Edited('{"to": "上海", "amount": 2}'), Edited({"to": "上海", "amount": 2})]
)
async def test_edited_arguments_run_and_take_the_place_of_the_models_own(edit: Edited) -> None:
    agent, model, result = await waiting(say("done"))
    one, two = result.pending
    events = [event async for event in agent.resume_stream(result, {one.id: edit, two.id: False})]
    assert SENT == ["2 to 上海"]
    started = [event.call for event in events if isinstance(event, ToolCallStarted)]
    assert json.loads(started[0].arguments) == {"to": "上海", "amount": 2}
    recorded = model.requests[1].messages[1]["tool_calls"][0]["function"]["arguments"]
    assert json.loads(recorded) == {"to": "上海", "amount": 2}


@pytest.mark.parametrize("arguments", ["{", '{"amount": 1}', '{"to": "a", "amount": "many"}'])
async def test_edited_arguments_that_do_not_fit_are_refused_before_anything_runs(
    arguments: str,
) -> None:
    agent, _, result = await waiting()
    one, two = result.pending
    with pytest.raises(UsageError, match=f"edited arguments of '{two.id}' do not fit"):
        await agent.resume(result, {one.id: True, two.id: Edited(arguments)})
    assert SENT == []


async def test_a_call_without_a_decision_waits_on() -> None:
    agent, model, result = await waiting(say("done"))
    one, two = result.pending
    half = await agent.resume(result, {two.id: True})
    assert (half.stop_reason, half.pending, SENT) == ("approval", (one,), ["1 to b"])
    assert len(model.requests) == 1
    last = await agent.resume(half, {one.id: True})
    assert (last.output, SENT) == ("done", ["1 to b", "1 to a"])
    assert last.usage.tool_calls == 3


async def test_a_call_that_does_not_wait_is_refused_by_its_id() -> None:
    agent, _, result = await waiting(say("done"))
    with pytest.raises(UsageError, match=r"'nope' does not wait.*waiting: call_1_0, call_1_2"):
        await agent.resume(result, {"nope": True})
    over = await agent.resume(result, {one.id: False for one in result.pending})
    with pytest.raises(UsageError, match="none waits"):
        await agent.resume(over, {})


async def test_what_is_shown_is_what_runs() -> None:
    agent, _ = made(calls(call("Send", To="a", amount="3")), say("done"))
    events = [event async for event in agent.run_stream("go")]
    (shown,) = [event.call for event in events if isinstance(event, ApprovalRequested)]
    finished = events[-1]
    assert isinstance(finished, RunFinished)
    assert finished.result.pending == (shown,)
    await agent.resume(finished.result, {shown.id: True})
    assert json.loads(shown.arguments)["amount"] in (3, "3")
    assert SENT == ["3 to a"]


async def test_keys_stay_unique_over_a_resume() -> None:
    keys: list[str] = []

    class Keeping:
        async def model(self, key: str, ask: object) -> object:
            keys.append(key)
            return await ask()  # type: ignore[operator]

        async def tool(self, key: str, call: object) -> object:
            keys.append(key)
            return await call()  # type: ignore[operator]

    agent, _ = made(calls(call("look"), call("send", to="a")), call("send", to="b"), say("ok"))
    plan = replace(agent._plan, steps=Keeping())  # type: ignore[arg-type]
    result = await Run(plan, Origin("r", (User("go"),), 0)).result()
    while result.pending:
        origin = resumed(result, {result.pending[0].id: True}, plan)
        result = await Run(plan, origin).result()
    assert keys == ["r:1", "r:1:0", "r:1:1", "r:2", "r:2:0", "r:3"]


async def test_limits_count_on_over_a_resume() -> None:
    agent, _ = made(call("send", to="a"), call("send", to="b"), call("send", to="c"))
    agent = Agent(agent.model, tools=[send], limits=Limits(requests=2))
    result = await agent.run("go")
    while result.pending:
        result = await agent.resume(result, {result.pending[0].id: True})
    assert (result.stop_reason, result.usage.requests) == ("max_requests", 2)


def test_a_result_goes_through_json_to_another_process(tmp_path: Path) -> None:
    agent, _ = made(calls(call("send", to="上海"), call("look")))
    kept = tmp_path / "result.json"
    kept.write_text(agent.run_sync("go").to_json(), encoding="utf-8")
    code = f"""
        from pathlib import Path
        from agentcall import Agent, RunResult, tool
        from agentcall.testing import ScriptedModel, say

        @tool(requires_approval=True)
        def send(to: str, amount: int = 1) -> str:
            "Send."
            return f"sent to {{to}}"

        result = RunResult.from_json(Path({str(kept)!r}).read_text(encoding="utf-8"))
        agent = Agent(ScriptedModel([say("done")]), tools=[send])
        last = agent.resume_sync(result, {{result.pending[0].id: True}})
        print(ascii([found.text for _, found in last.tool_calls]), last.output, last.run_id)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=True
    )
    run_id = json.loads(kept.read_text(encoding="utf-8"))["run_id"]
    assert done.stdout == f"{['sent to 上海', 'a view']!a} done {run_id}\n"


async def test_a_result_that_waits_may_be_passed_on_as_a_history() -> None:
    agent, model, result = await waiting(say("never mind"))
    await agent.run("forget it", messages=result.messages)
    roles = [m["role"] for m in model.requests[1].messages]
    assert roles == ["user", "assistant", "tool", "tool", "tool", "user"]
