from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import textwrap
from dataclasses import replace
from pathlib import Path

import pytest

from agentcall import Agent, Approved, Denied, Edited, Limits, RunContext, RunResult, tool
from agentcall.approvals import ApprovalRule
from agentcall.errors import UsageError
from agentcall.events import ApprovalRequested, RunFinished, ToolCallStarted
from agentcall.messages import Assistant, ToolResult, User
from agentcall.runtime.checkpoint import InProcessExecutor
from agentcall.runtime.planned_call import PlannedCall
from agentcall.runtime.resume import prepare_resume
from agentcall.runtime.run import AgentRun
from agentcall.runtime.state import RunInput
from agentcall.runtime.turn import ModelTurn
from agentcall.testing import ScriptedCall, ScriptedModel, call, calls, say

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
    assert [each.call.arguments for each in result.pending] == ['{"to": "a"}', '{"to": "b"}']
    assert [found and found.text for _, found in result.tool_calls] == [None, "a view", None]
    assert SENT == []
    assert len(model.requests) == 1


@pytest.mark.parametrize("yes", [True, Approved()])
@pytest.mark.parametrize("no", [False, Denied("too much")])
async def test_a_run_goes_on_with_what_was_decided(yes: bool | Approved, no: bool | Denied) -> None:
    agent, model, result = await waiting(say("done"))
    one, two = (each.call for each in result.pending)
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
    one, two = (each.call for each in result.pending)
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
    one, two = (each.call for each in result.pending)
    with pytest.raises(UsageError, match=f"edited arguments of '{two.id}' do not fit"):
        await agent.resume(result, {one.id: True, two.id: Edited(arguments)})
    assert SENT == []


async def test_a_call_without_a_decision_waits_on() -> None:
    agent, model, result = await waiting(say("done"))
    first, two = result.pending[0], result.pending[1].call
    one = first.call
    half = await agent.resume(result, {two.id: True})
    assert (half.stop_reason, half.pending, SENT) == ("approval", (first,), ["1 to b"])
    assert len(model.requests) == 1
    last = await agent.resume(half, {one.id: True})
    assert (last.output, SENT) == ("done", ["1 to b", "1 to a"])
    assert last.usage.tool_calls == 3


async def test_a_call_that_does_not_wait_is_refused_by_its_id() -> None:
    agent, _, result = await waiting(say("done"))
    with pytest.raises(UsageError, match=r"'nope' does not wait.*these do: call_1_0, call_1_2"):
        await agent.resume(result, {"nope": True})
    over = await agent.resume(result, {each.call.id: False for each in result.pending})
    with pytest.raises(UsageError, match="does not wait for approval"):
        await agent.resume(over, {})


async def test_what_is_shown_is_what_runs() -> None:
    agent, _ = made(calls(call("Send", To="a", amount="3")), say("done"))
    events = [event async for event in agent.run_stream("go")]
    (shown,) = [event.call for event in events if isinstance(event, ApprovalRequested)]
    finished = events[-1]
    assert isinstance(finished, RunFinished)
    assert [each.call for each in finished.result.pending] == [shown]
    await agent.resume(finished.result, {shown.id: True})
    assert json.loads(shown.arguments)["amount"] in (3, "3")
    assert SENT == ["3 to a"]


async def test_keys_stay_unique_over_a_resume() -> None:
    keys: list[str] = []

    class Keeping(InProcessExecutor):
        async def call_model(self, key: str, ask: object, point: object) -> ModelTurn:
            keys.append(key)
            return await super().call_model(key, ask, point)  # type: ignore[arg-type]

        async def call_tool(self, step: PlannedCall, call: object) -> ToolResult:
            keys.append(step.key)
            return await super().call_tool(step, call)  # type: ignore[arg-type]

    agent, _ = made(calls(call("look"), call("send", to="a")), call("send", to="b"), say("ok"))
    plan = replace(agent.spec, steps=Keeping())
    result = await AgentRun(plan, RunInput("r", (User("go"),), 0)).execute()
    while result.pending:
        origin = prepare_resume(result, {result.pending[0].call.id: True}, plan)
        result = await AgentRun(plan, origin).execute()
    assert keys == ["r:1", "r:1:0", "r:1:1", "r:2", "r:2:0", "r:3"]


async def test_limits_count_on_over_a_resume() -> None:
    agent, _ = made(call("send", to="a"), call("send", to="b"), call("send", to="c"))
    agent = Agent(agent.model, tools=[send], limits=Limits(requests=2))
    result = await agent.run("go")
    while result.pending:
        result = await agent.resume(result, {result.pending[0].call.id: True})
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
        last = agent.resume_sync(result, {{result.pending[0].call.id: True}})
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


# Once and for all.


def sends(*to: str) -> list[object]:
    return [call("send", to=one) for one in to]


async def test_approved_once_is_asked_again() -> None:
    agent, _ = made(call("send", to="a"), call("look"), call("send", to="a"), say("done"))
    result = await agent.run("go")
    again = await agent.resume(result, {result.pending[0].call.id: Approved()})
    assert (again.stop_reason, SENT) == ("approval", ["1 to a"])


async def test_a_tool_that_is_approved_always_is_not_asked_about_again() -> None:
    agent, _ = made(*sends("a", "b", "c"), say("done"))
    result = await agent.run("go")
    last = await agent.resume(result, {result.pending[0].call.id: Approved(always="tool")})
    assert (last.output, SENT) == ("done", ["1 to a", "1 to b", "1 to c"])
    assert last.approval_rules == (ApprovalRule("agent", "send"),)


async def test_a_call_that_is_approved_always_is_that_call_to_the_letter() -> None:
    script = [call("send", to="a"), call("look"), call("send", to="a"), call("send", to="b")]
    agent, _ = made(*script, say("done"))
    result = await agent.run("go")
    last = await agent.resume(result, {result.pending[0].call.id: Approved(always="call")})
    assert (last.stop_reason, SENT) == ("approval", ["1 to a", "1 to a"])
    assert last.pending[0].call.arguments == '{"to": "b"}'


@pytest.mark.parametrize(
    "other", ['{"to":"a"}', '{"to": "a", "amount": 1}', '{"to": "a "}', '{"to": "A"}']
)
async def test_other_bytes_are_another_call(other: str) -> None:
    agent, _ = made(call("send", to="a"), call("look"), calls(ScriptedCall("send", other)))
    result = await agent.run("go")
    last = await agent.resume(result, {result.pending[0].call.id: Approved(always="call")})
    assert (last.pending[0].call.arguments, SENT) == (other, ["1 to a"])


async def test_always_is_kept_in_the_state_and_goes_through_json() -> None:
    @tool(requires_approval=True)
    def drop() -> str:
        """Drop."""
        return "dropped"

    script = [call("send", to="a"), call("drop"), call("send", to="b"), say("done")]
    agent = Agent(ScriptedModel(script), tools=[send, drop])
    result = await agent.run("go")
    half = await agent.resume(result, {result.pending[0].call.id: Approved(always="tool")})
    assert half.pending[0].call.name == "drop"
    last = await agent.resume(half.to_json(), {half.pending[0].call.id: True})
    assert (last.output, SENT) == ("done", ["1 to a", "1 to b"])


async def test_always_approves_what_waits_beside_it_but_no_denial() -> None:
    script = calls(*(call("send", to=one) for one in "abc"))
    agent, _ = made(script, say("done"))
    result = await agent.run("go")
    one, two, _ = (each.call for each in result.pending)
    decisions = {one.id: Approved(always="tool"), two.id: Denied("not b")}
    last = await agent.resume(result, decisions)
    assert (last.output, sorted(SENT)) == ("done", ["1 to a", "1 to c"])  # side by side


def test_always_is_for_a_tool_or_a_call() -> None:
    with pytest.raises(UsageError, match="use 'tool', 'call' or None"):
        Approved(always="everything")  # type: ignore[arg-type]


@pytest.mark.parametrize("word", ["no", "deny", None, 0, {"approve": True}])
async def test_what_is_no_decision_approves_nothing(word: object) -> None:
    agent, _, result = await waiting()
    with pytest.raises(UsageError, match="use Approved"):
        await agent.resume(result, {result.pending[0].call.id: word})  # type: ignore[dict-item]
    assert SENT == []


# What is shown is what runs.

RAN: list[str] = []


@tool(requires_approval=True)
def pay(context: RunContext[object], to: str, amount: float, tags: list[str] | None = None) -> str:
    """Pay."""
    told = next(
        call.arguments
        for message in reversed(context.messages)
        if isinstance(message, Assistant)
        for call in message.calls
        if call.id == context.tool_call_id
    )
    RAN.append(digest(told))
    return json.dumps([to, amount, tags])


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


WRITTEN = [
    ScriptedCall("pay", '{"to": "ann", "amount": 3}'),
    ScriptedCall("Pay", '{"to": "ann", "amount": "3,5"}'),
    ScriptedCall("pay", '```json\n{"to": "ann", "amount": 3}\n```'),
    ScriptedCall("pay", "{'to': 'ann', 'amount': 3, 'tags': None}"),
    ScriptedCall("pay", '{"to": "ann", "amount": 3, "tags": "a"}'),
    ScriptedCall("pay", '{"To": "ann ", "Amount": 3.0, "tags": "[\\"a\\"]"}'),
    ScriptedCall("pay", '{"to": "ann", "to": "bob", "amount": 3}'),
    ScriptedCall("pay", '{"arguments": {"to": "ann\u202e", "amount": 1e2}}'),
]


@pytest.mark.parametrize("written", WRITTEN, ids=lambda one: str(one.arguments))
@pytest.mark.parametrize("way", ["in memory", "through json", "edited"])
async def test_what_was_shown_is_what_runs_byte_for_byte(written: ScriptedCall, way: str) -> None:
    RAN.clear()
    agent = Agent(ScriptedModel([calls(written), say("done")]), tools=[pay])
    events = [event async for event in agent.run_stream("go")]
    shown = [event.call for event in events if isinstance(event, ApprovalRequested)]
    finished = events[-1]
    assert isinstance(finished, RunFinished)
    result = finished.result
    if not shown:  # it could not be read for certain: the model was told, and nothing waits
        assert result.pending == ()
        return
    (asked,) = shown
    assert [each.call for each in result.pending] == [asked]
    if way == "edited":
        text = '{"to": "eve",  "amount": 1}'
        last = await agent.resume(result, {asked.id: Edited(text)})
        assert [digest(text)] == RAN
    else:
        state = RunResult.from_json(result.to_json()) if way == "through json" else result
        last = await agent.resume(state, {asked.id: True})
        assert [digest(asked.arguments)] == RAN
    sent = [one for one, _ in last.tool_calls if one.id == asked.id]
    assert [digest(one.arguments) for one in sent] == RAN
    found = last.tool_calls[0][1]
    assert found is not None
    values = pay.parse(sent[0].arguments)
    assert json.loads(found.text) == [values["to"], values["amount"], values.get("tags")]


@pytest.mark.parametrize("empty", ["", "null", " ", {}])
async def test_edited_to_nothing_is_an_empty_object(empty: str) -> None:
    @tool(requires_approval=True)
    def drop(what: str = "all") -> str:
        """Drop."""
        return f"dropped {what}"

    agent = Agent(ScriptedModel([call("drop", what="a"), say("done")]), tools=[drop])
    result = await agent.run("go")
    last = await agent.resume(result, {result.pending[0].call.id: Edited(empty)})
    one, found = last.tool_calls[0]
    assert (one.arguments, found and found.text) == ("{}", "dropped all")


async def test_edited_arguments_that_are_no_json_are_refused() -> None:
    agent, _, result = await waiting()
    with pytest.raises(UsageError, match="not JSON"):
        await agent.resume(result, {result.pending[0].call.id: Edited({"to": object()})})  # type: ignore[dict-item]


@pytest.mark.parametrize("how", ["gone", "another name", "another type"])
async def test_a_tool_that_has_changed_since_runs_nothing_that_was_not_approved(how: str) -> None:
    _, model, result = await waiting(say("a pity"))

    @tool(name="send" if how == "another type" else "Send", requires_approval=True)
    def other(to: list[str]) -> str:
        """Send."""
        SENT.append("other")
        return "sent"

    now = Agent(model, tools=[look] if how == "gone" else [other, look])
    last = await now.resume(result, {each.call.id: True for each in result.pending})
    assert SENT == []
    assert last.output == "a pity"
    found = last.tool_calls[0][1]
    assert found is not None
    assert found.is_error


async def test_a_state_is_plain_json_and_any_other_text_is_refused() -> None:
    agent, _, result = await waiting(say("done"))
    state = json.loads(result.to_json())
    assert [one["call"]["function"]["name"] for one in state["pending"]] == ["send", "send"]
    last = await agent.resume(result.to_json(), {each.call.id: False for each in result.pending})
    assert last.output == "done"
    for text in ("", "{", "[]", "{}", '{"pending": []}'):
        with pytest.raises(UsageError, match="not the result of a run"):
            await agent.resume(text, {"x": True})


async def test_a_resumed_run_streams_and_runs_from_sync_code() -> None:
    agent, _, result = await waiting(say("done"))
    decisions = {each.call.id: True for each in result.pending}
    events = [event async for event in agent.resume_stream(result.to_json(), decisions)]
    assert "ToolCallFinished" in [type(event).__name__ for event in events]
    assert isinstance(events[-1], RunFinished)
    assert events[-1].result.output == "done"


@pytest.mark.processes
def test_a_run_goes_on_in_another_process_that_approves_always(tmp_path: Path) -> None:
    """Paused in one process, on disk, and resumed in another one, twice."""
    program = """
        import sys
        from pathlib import Path
        from agentcall import Agent, Approved, RunResult, tool
        from agentcall.testing import ScriptedModel, call, say

        @tool(requires_approval=True)
        def send(to: str) -> str:
            "Send."
            with open("sent", "a") as log:
                log.write(to + " ")
            return "sent"

        state, script, always = Path("state.json"), sys.argv[1].split(), sys.argv[2]
        model = ScriptedModel([call("send", to=to) for to in script] + [say("done")])
        agent = Agent(model, tools=[send])
        if state.exists():
            waits = RunResult.from_json(state.read_text()).pending[0].call
            decision = Approved(always=always) if always else Approved()
            result = agent.resume_sync(state.read_text(), {waits.id: decision})
        else:
            result = agent.run_sync("go")
        state.write_text(result.to_json())
        print(result.stop_reason, [each.call.arguments for each in result.pending])
    """
    said = [
        subprocess.run(
            [sys.executable, "-c", textwrap.dedent(program), *arguments],
            cwd=tmp_path, capture_output=True, text=True, check=True,
        ).stdout.strip()
        for arguments in (["a", ""], ["b", ""], ["c d", "tool"])
    ]  # fmt: skip
    assert said == [
        """approval ['{"to": "a"}']""", """approval ['{"to": "b"}']""", "final []"
    ]  # fmt: skip
    assert (tmp_path / "sent").read_text() == "a b c d "
