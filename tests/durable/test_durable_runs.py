"""Durable runs on an SQLite journal: what is recorded, gone on with, told, refused."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
from pydantic import BaseModel

from agentcall import Agent, Approved, Denied, Edited, Limits, ModelSettings, RunContext, tool
from agentcall.durable import DurableAgent, durable
from agentcall.durable.durable_agent import cancel_run, record_result
from agentcall.durable.journal import Journal
from agentcall.durable.open import make_opener
from agentcall.durable.worker import DurableWorker, WorkerResult
from agentcall.errors import JournalError, ModelRefused, ModelUnreachable, RunBusy, UsageError
from agentcall.events import ApprovalRequested, RunFinished, RunStarted, ToolCallFinished
from agentcall.messages import Assistant, ToolResult, User
from agentcall.models.fallback import RateLimitedModel
from agentcall.runtime.prompts import UNKNOWN_OUTCOME
from agentcall.testing import ScriptedModel, call, calls, drop, overflow, say, status

DONE: list[str] = []


@pytest.fixture(autouse=True)
def fresh() -> None:
    DONE.clear()


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/runs.db"


@tool
def add(a: int, b: int) -> int:
    """Add."""
    DONE.append(f"{a}+{b}")
    return a + b


@tool
async def pay(context: RunContext, to: str) -> str:
    """Pay."""
    DONE.append(f"{to} {context.idempotency_key}")
    await asyncio.sleep(0 if to != "slow" else 60)
    return f"paid {to}"


def model(*replies: object) -> ScriptedModel:
    return ScriptedModel(replies)  # type: ignore[arg-type]


async def until(true: Callable[[], bool]) -> None:
    """Waits half a minute at most."""
    for _ in range(1500):
        if true():
            return
        await asyncio.sleep(0.02)
    raise AssertionError("it did not come true")


async def cut_off(runs: DurableAgent, prompt: str, run_id: str) -> None:
    """Begins a run, and cuts it off while a tool is at work, as Ctrl-C does."""
    task = asyncio.ensure_future(runs.run(prompt, run_id=run_id))
    await until(lambda: bool(DONE))
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


def kinds(url: str, run_id: str) -> list[str]:
    database = make_opener(url)()
    try:
        return [record.kind for record in Journal(database).read_records(run_id)]
    finally:
        database.close()


# Recorded, and gone on with.


def test_a_finished_run_gives_its_recorded_result(url: str) -> None:
    with durable(Agent(model(call("add", a=1, b=2), say("It is 3.")), tools=[add]), url) as runs:
        first = runs.run_sync("1+2?", run_id="sum")
    with durable(Agent(model(), tools=[add]), url) as runs:
        assert runs.run_sync("1+2?", run_id="sum") == first
        assert runs.run_sync(run_id="sum") == first
    assert (first.output, first.run_id, DONE) == ("It is 3.", "sum", ["1+2"])


def test_each_run_without_an_id_is_a_new_one(url: str) -> None:
    with durable(Agent(model(say("a"), say("b"))), url) as runs:
        first, second = runs.run_sync("hi"), runs.run_sync("hi")
    assert (first.output, second.output) == ("a", "b")
    assert first.run_id != second.run_id


def test_a_recorded_answer_comes_back_with_its_type(url: str) -> None:
    class Place(BaseModel):
        city: str

    agent = Agent(model(say('{"city": "Oslo"}')), output_type=Place)
    with durable(agent, url) as runs:
        assert runs.run_sync("where?", run_id="x").output == Place(city="Oslo")
        assert runs.run_sync(run_id="x").output == Place(city="Oslo")


def test_the_id_of_a_run_with_another_prompt_is_refused(url: str) -> None:
    with durable(Agent(model(say("a"))), url) as runs:
        runs.run_sync("hi", run_id="x")
        with pytest.raises(UsageError, match="began with another prompt"):
            runs.run_sync("hello", run_id="x")
        with pytest.raises(UsageError, match="there is no run y"):
            runs.run_sync(run_id="y")
        with pytest.raises(UsageError, match="is not a run id"):
            runs.run_sync("hi", run_id="a\nb")


async def test_what_was_done_before_the_server_failed_is_not_done_again(url: str) -> None:
    agent = Agent(model(call("add", a=1, b=2), status(401)), tools=[add])
    with durable(agent, url) as runs, pytest.raises(ModelRefused):
        await runs.run("1+2?", run_id="x")
    later = model(say("It is 3."))
    with durable(replace(agent, model=later), url) as runs:
        result = await runs.run(run_id="x")
    assert (result.output, DONE) == ("It is 3.", ["1+2"])
    assert [m["role"] for m in later.requests[0].messages] == ["user", "assistant", "tool"]
    assert (result.usage.requests, result.usage.tool_calls) == (2, 1)


async def test_a_turn_that_is_recorded_is_not_asked_for_again(url: str) -> None:
    turn = calls(call("add", a=1, b=2), call("pay", to="slow"))
    with durable(Agent(model(turn), tools=[add, pay]), url) as runs:
        task = asyncio.ensure_future(runs.run("go", run_id="x"))
        await until(lambda: "end" in kinds(url, "x"))
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    with durable(Agent(model(say("done")), tools=[add, pay]), url) as runs:
        result = await runs.run(run_id="x")
    assert sorted(DONE) == ["1+2", "slow x:1:1"]
    assert [found.text for _, found in result.tool_calls if found] == ["3", UNKNOWN_OUTCOME]


# A call that was cut off.


async def test_a_call_that_was_cut_off_is_told_to_be_unknown_and_not_repeated(url: str) -> None:
    with durable(Agent(model(call("pay", to="slow")), tools=[pay]), url) as runs:
        await cut_off(runs, "pay", "x")
    later = model(say("I do not know."))
    with durable(Agent(later, tools=[pay]), url) as runs:
        result = await runs.run(run_id="x")
    assert DONE == ["slow x:1:0"]
    assert later.requests[0].messages[-1]["content"] == UNKNOWN_OUTCOME
    assert result.notes == (
        'pay({"to": "slow"}) was started and interrupted; its outcome is unknown',
    )


async def test_an_idempotent_call_is_carried_out_again_with_the_same_key(url: str) -> None:
    safe = tool(idempotent=True)(pay.function)
    with durable(Agent(model(call("pay", to="slow")), tools=[safe]), url) as runs:
        await cut_off(runs, "pay", "x")

    @tool(name="pay", idempotent=True)
    async def quick(context: RunContext, to: str) -> str:
        """Pay."""
        DONE.append(f"{to} {context.idempotency_key}")
        return "paid"

    with durable(Agent(model(say("Paid.")), tools=[quick]), url) as runs:
        result = await runs.run(run_id="x")
    assert DONE == ["slow x:1:0", "slow x:1:0"]
    assert (result.output, result.notes) == ("Paid.", ())


asking = tool(after_crash="ask")(pay.function)


async def test_a_person_is_asked_about_a_call_that_was_cut_off_where_the_tool_says_so(
    url: str,
) -> None:
    with durable(Agent(model(call("pay", to="slow")), tools=[asking]), url) as runs:
        await cut_off(runs, "pay", "x")

    @tool(name="pay", after_crash="ask")
    def quick(to: str) -> str:
        """Pay."""
        DONE.append("again")
        return "paid"

    with durable(Agent(model(say("Paid.")), tools=[quick]), url) as runs:
        events = [event async for event in runs.run_stream(run_id="x")]
        assert any(isinstance(event, ApprovalRequested) for event in events)
        result = await runs.run(run_id="x")
        assert (result.stop_reason, len(result.pending), len(DONE)) == ("approval", 1, 1)
        result = await runs.resume(result, {result.pending[0].call.id: Approved()})
    assert (result.output, DONE) == ("Paid.", ["slow x:1:0", "again"])


async def test_who_does_not_want_it_repeated_says_why_and_the_model_reads_it(url: str) -> None:
    with durable(Agent(model(call("pay", to="slow")), tools=[asking]), url) as runs:
        await cut_off(runs, "pay", "x")
    later = model(say("Good."))
    with durable(Agent(later, tools=[asking]), url) as runs:
        result = await runs.run(run_id="x")
        await runs.resume("x", {result.pending[0].call.id: Denied("the bank says it arrived")})
    words = str(later.requests[0].messages[-1]["content"])
    assert "outcome is unknown" in words
    assert "the bank says it arrived" in words
    assert "not carried out; do not claim" not in words
    assert len(DONE) == 1


def test_a_mark_that_means_nothing_is_refused() -> None:
    with pytest.raises(UsageError, match="after_crash='never'"):
        tool(after_crash="never")(lambda x: x)  # type: ignore[call-overload]


# Approvals and limits.

sending = tool(requires_approval=True)(pay.function)


async def test_a_run_waits_for_a_person_in_another_process(url: str) -> None:
    agent = Agent(model(call("pay", to="ann")), tools=[sending])
    with durable(agent, url) as runs:
        first = await runs.run("go", run_id="x")
        assert (first.stop_reason, DONE) == ("approval", [])
    with durable(replace(agent, model=model(say("ok"))), url) as runs:
        assert await runs.run(run_id="x") == first
        result = await runs.resume("x", {first.pending[0].call.id: Edited({"to": "bob"})})
    assert (result.output, DONE) == ("ok", ["bob x:1:0"])
    called = next(m for m in result.messages if isinstance(m, Assistant))
    assert called.calls[0].arguments == '{"to":"bob"}'


async def test_what_was_approved_is_not_asked_again_after_a_crash(url: str) -> None:
    turn = calls(call("pay", to="ann"), call("pay", to="slow"))
    with durable(Agent(model(turn), tools=[sending]), url) as runs:
        first = await runs.run("go", run_id="x")
        yes = {each.call.id: True for each in first.pending}
        task = asyncio.ensure_future(runs.resume("x", yes))
        await until(lambda: "end" in kinds(url, "x") and len(DONE) == 2)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    with durable(Agent(model(say("ok")), tools=[sending]), url) as runs:
        result = await runs.run(run_id="x")
    assert sorted(DONE) == ["ann x:1:0", "slow x:1:1"]
    assert [found.text for _, found in result.tool_calls if found] == ["paid ann", UNKNOWN_OUTCOME]


async def test_deciding_about_a_run_that_does_not_wait_is_refused(url: str) -> None:
    with durable(Agent(model(say("a"))), url) as runs:
        await runs.run("go", run_id="x")
        with pytest.raises(UsageError, match="does not wait"):
            await runs.resume("x", {"call_1": True})
        assert (await runs.run(run_id="x")).output == "a"


async def test_the_settings_of_a_run_are_recorded_and_apply_after_a_crash(url: str) -> None:
    first = model(call("add", a=1, b=1), status(401))
    settings = ModelSettings(temperature=0, seed=1, stop="X", extra_headers={"X-Key": "secret"})
    agent = Agent(first, tools=[add], settings=ModelSettings(top_p=0.5))
    with durable(agent, url) as runs, pytest.raises(ModelRefused):
        await runs.run("go", run_id="x", settings=settings)
    later = model(say("2"))
    with durable(replace(agent, model=later), url) as runs:
        result = await runs.run(run_id="x", settings=ModelSettings(seed=2))
    before, after = first.requests[0], later.requests[0]
    assert before.headers == {"x-key": "secret"}
    assert result.output == "2"
    assert after.headers == {}
    sent = {name: after.body[name] for name in ("temperature", "seed", "stop", "top_p")}
    assert sent == {"temperature": 0, "seed": 2, "stop": ["X"], "top_p": 0.5}
    assert b"secret" not in Path(url.removeprefix("sqlite:///")).read_bytes()


async def test_a_resumed_durable_run_has_the_settings_that_it_was_started_with(url: str) -> None:
    played = model(call("pay", to="ann"), say("ok"))
    settings = ModelSettings(temperature=0, tool_choice="required")
    with durable(Agent(played, tools=[sending]), url) as runs:
        paused = await runs.run("go", run_id="x", settings=settings)
        await runs.resume("x", {paused.pending[0].call.id: True}, settings=ModelSettings(seed=3))
    first, second = (request.body for request in played.requests)
    assert (first["tool_choice"], "tool_choice" in second) == ("required", False)
    assert (second["temperature"], second["seed"]) == (0, 3)


async def test_a_queued_run_has_its_settings(url: str) -> None:
    played = model(say("ok"))
    with durable(Agent(played), url) as runs:
        await runs.enqueue("go", settings=ModelSettings(max_tokens=9))
        with pytest.raises(UsageError, match="extra_headers"):
            await runs.enqueue("go", settings=ModelSettings(extra_headers={"a": "b"}))
        await DurableWorker(runs, lambda _: None).run(until_empty=True)
    assert [request.body["max_tokens"] for request in played.requests] == [9]


async def test_settings_that_do_not_fit_begin_no_run(url: str) -> None:
    with durable(Agent(model(), tools=[add]), url) as runs:
        with pytest.raises(UsageError, match="gone"):
            await runs.run("go", run_id="x", settings=ModelSettings(tool_choice="gone"))
        assert kinds(url, "x") == []


async def test_requests_count_on_over_a_crash(url: str) -> None:
    agent = Agent(model(call("add", a=1, b=1), status(401)), tools=[add], limits=Limits(requests=3))
    with durable(agent, url) as runs, pytest.raises(ModelRefused):
        await runs.run("go", run_id="x")
    later = model(call("add", a=2, b=2), call("add", a=3, b=3), call("add", a=4, b=4))
    with durable(replace(agent, model=later), url) as runs:
        result = await runs.run(run_id="x")
    assert (result.stop_reason, result.usage.requests) == ("max_requests", 3)


async def test_seconds_count_on_over_a_crash(url: str) -> None:
    @tool
    async def wait(n: int) -> str:
        """Wait."""
        await asyncio.sleep(0.6)
        return "waited"

    agent = Agent(model(call("wait", n=1), status(401)), tools=[wait], limits=Limits(seconds=0.9))
    with durable(agent, url) as runs, pytest.raises(ModelRefused):
        await runs.run("go", run_id="x")
    with durable(replace(agent, model=model(call("wait", n=2), say("ok"))), url) as runs:
        result = await runs.run(run_id="x")
    assert result.stop_reason == "timeout"


async def test_a_model_that_goes_in_circles_is_noticed_over_a_crash(url: str) -> None:
    agent = Agent(model(call("add", a=1, b=1), status(401)), tools=[add])
    with durable(agent, url) as runs, pytest.raises(ModelRefused):
        await runs.run("go", run_id="x")
    later = model(call("add", a=1, b=1), say("2"))
    with durable(replace(agent, model=later), url) as runs:
        await runs.run(run_id="x")
    assert "already called add" in str(later.requests[1].messages[-1]["content"])
    assert DONE == ["1+1"]


async def test_a_conversation_that_was_shortened_goes_on_shortened(url: str) -> None:
    @tool
    def book() -> str:
        """Read the book."""
        DONE.append("book")
        return "word " * 2000

    agent = Agent(
        model(call("book"), overflow(), call("add", a=1, b=2), status(401)), tools=[book, add]
    )
    with durable(agent, url) as runs, pytest.raises(ModelRefused):
        await runs.run("read", run_id="x")
    later = model(call("read_result", call_id="call_1_0"), say("read"))
    with durable(replace(agent, model=later), url) as runs:
        result = await runs.run(run_id="x")
    assert result.output == "read"
    assert "[shortened" in str(later.requests[0].messages[2]["content"])
    assert DONE == ["book", "1+2"]
    assert isinstance(result.messages[2], ToolResult)
    assert len(result.messages[2].text) == 10_000


# Agents that are tools.


async def test_an_agent_that_is_a_tool_goes_on_where_it_was_cut_off(url: str) -> None:
    inner = Agent(model(call("add", a=1, b=2), call("pay", to="slow")), tools=[add, pay])
    outer = Agent(model(call("ask", task="1+2?")), tools=[inner.as_tool("ask", "Ask.")])
    with durable(outer, url) as runs:
        task = asyncio.ensure_future(runs.run("go", run_id="x"))
        await until(lambda: kinds(url, "x").count("start") == 2)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    again = model(say("It is 3."))
    tools = [replace(inner, model=again).as_tool("ask", "Ask.")]
    with durable(replace(outer, model=model(say("3, it says.")), tools=tools), url) as runs:
        result = await runs.run(run_id="x")
    assert result.output == "3, it says."
    assert DONE in (["1+2"], ["1+2", "slow x:1:0:2:0"])  # it may have been cut off at its door
    told = [m for m in again.requests[0].messages if m["role"] == "tool"]
    assert [m["content"] for m in told] == ["3", UNKNOWN_OUTCOME]
    assert (result.usage.requests, result.usage.tool_calls) == (5, 3)


async def test_a_decision_goes_down_to_an_agent_in_another_process(url: str) -> None:
    @tool(requires_approval=True)
    def send(to: str) -> str:
        """Send."""
        DONE.append(f"sent to {to}")
        return "sent"

    inner = Agent(model(call("send", to="ann"), call("send", to="bob"), say("told")), tools=[send])
    outer = Agent(model(call("ask", task="tell"), say("ok")), tools=[inner.as_tool("ask", "Ask.")])
    with durable(outer, url) as runs:
        waiting = await runs.run("go", run_id="x")
    assert [each.call.name for each in waiting.pending] == ["send"]
    with durable(outer, url) as runs:
        edited = {waiting.pending[0].call.id: Edited({"to": "eve"})}
        second = await runs.resume("x", edited)
    with durable(outer, url) as runs:
        result = await runs.resume("x", {second.pending[0].call.id: Denied("not bob")})
    assert (result.output, DONE) == ("ok", ["sent to eve"])
    assert (result.usage.requests, result.usage.tool_calls) == (5, 2)


# Code that changed.


async def test_a_tool_that_is_gone_leaves_what_it_did_in_the_conversation(url: str) -> None:
    agent = Agent(model(calls(call("add", a=1, b=2), call("pay", to="slow"))), tools=[add, pay])
    with durable(agent, url) as runs:
        task = asyncio.ensure_future(runs.run("go", run_id="x"))
        await until(lambda: "end" in kinds(url, "x"))
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    later = model(say("3, and I do not know."))
    with durable(Agent(later, instructions="Be brief."), url) as runs:
        result = await runs.run(run_id="x")
    said = [m["content"] for m in later.requests[0].messages if m["role"] == "tool"]
    assert said == ["3", UNKNOWN_OUTCOME]
    assert set(result.notes) == {
        "the instructions have changed",
        "the tool add is gone",
        "the tool pay is gone",
        'pay({"to": "slow"}) was started and interrupted; its outcome is unknown',
    }


async def test_a_tool_that_takes_other_arguments_is_told_to_the_model(url: str) -> None:
    agent = Agent(model(call("pay", to="ann")), tools=[sending])
    with durable(agent, url) as runs:
        first = await runs.run("go", run_id="x")

    @tool(name="pay", requires_approval=True)
    def other(account: int) -> str:
        """Pay."""
        return "paid"

    later = model(say("It takes an account."))
    with durable(Agent(later, tools=[other]), url) as runs:
        result = await runs.resume("x", {first.pending[0].call.id: True})
    assert "account" in str(later.requests[0].messages[-1]["content"])
    assert result.notes == ("the tool pay has changed",)


# One runner a run.


async def test_a_second_runner_is_refused_at_once_in_the_same_process(url: str) -> None:
    agent = Agent(model(call("pay", to="slow")), tools=[pay])
    with durable(agent, url) as runs, durable(agent, url) as others:
        task = asyncio.ensure_future(runs.run("go", run_id="x"))
        await until(lambda: bool(DONE))
        for runner in (runs, others):
            with pytest.raises(RunBusy, match=f"executed by the process {os.getpid()}"):
                await runner.run(run_id="x")
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    assert len(DONE) == 1


HOLDER = """
import asyncio, sys
from agentcall import Agent, tool
from agentcall.durable import durable
from agentcall.testing import ScriptedModel, call

@tool
async def pay(to: str) -> str:
    "Pay."
    print("begun", flush=True)
    await asyncio.sleep(60)
    return "paid"

durable(Agent(ScriptedModel([call("pay", to="a")]), tools=[pay]), sys.argv[1]).run_sync(
    "go", run_id="x")
"""


@pytest.fixture
def holder(url: str) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(HOLDER), url], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "begun\n"
        yield process
        process.kill()


async def test_another_process_that_runs_it_is_named_and_its_death_noticed_at_once(
    url: str, holder: subprocess.Popen[str]
) -> None:
    with durable(Agent(model(say("ok")), tools=[pay]), url) as runs:
        with pytest.raises(RunBusy, match=f"the process {holder.pid} on this machine"):
            await runs.run(run_id="x")
        holder.kill()
        holder.wait()
        assert (await runs.run(run_id="x")).output == "ok"


async def test_cancelling_a_run_of_another_process_stops_it(
    url: str, holder: subprocess.Popen[str]
) -> None:
    database = make_opener(url)()
    assert f"the process {holder.pid}" in cancel_run(Journal(database), "x")
    assert holder.wait(20) == 0
    with pytest.raises(UsageError, match="has ended already: cancelled"):
        cancel_run(Journal(database), "x")
    database.close()
    with durable(Agent(model()), url) as runs:
        result = await runs.run(run_id="x")
    assert result.stop_reason == "cancelled"
    assert [type(m) for m in result.messages] == [User, Assistant, ToolResult]


async def test_a_fork_that_outlives_its_parent_does_not_keep_the_run(url: str) -> None:
    code = HOLDER.replace("    await asyncio.sleep(60)", textwrap.dedent("""
        import os
        if os.fork() == 0:
            os.read(0, 1)
            os._exit(0)
        os.kill(os.getpid(), 9)
    """).replace("\n", "\n    "))  # fmt: skip
    holder = [sys.executable, "-c", code, url]
    with subprocess.Popen(holder, stdin=subprocess.PIPE) as parent:  # the fork lives until its end
        assert parent.wait(60) == -9
        with durable(Agent(model(say("ok")), tools=[pay]), url) as runs:
            assert (await runs.run(run_id="x")).output == "ok"


async def test_cancelling_a_run_that_nobody_runs_ends_it(url: str) -> None:
    with durable(Agent(model(call("pay", to="slow")), tools=[pay]), url) as runs:
        await cut_off(runs, "pay", "x")
    database = make_opener(url)()
    assert cancel_run(Journal(database), "x") == "cancelled the run x"
    database.close()
    with durable(Agent(model()), url) as runs:
        assert (await runs.run(run_id="x")).stop_reason == "cancelled"


async def test_a_cancelled_run_that_waited_does_not_go_on(url: str) -> None:
    with durable(Agent(model(call("pay", to="ann"), say("Done.")), tools=[sending]), url) as runs:
        result = await runs.run("go", run_id="x")
        database = make_opener(url)()
        assert cancel_run(Journal(database), "x") == "cancelled the run x"
        database.close()
        with pytest.raises(UsageError, match="does not wait for a decision"):
            await runs.resume(result, {result.pending[0].call.id: Approved()})
        assert (await runs.run(run_id="x")).stop_reason == "cancelled"
    assert DONE == []


async def test_a_run_that_pauses_is_recorded_whole_or_not_at_all(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    agent = Agent(model(call("pay", to="ann"), say("ok")), tools=[sending])
    result = await agent.run("go")
    database = make_opener(url)()
    journal, transact = Journal(database), database.transact

    def fail(*_: object) -> None:
        raise JournalError("the disk is full")

    for allowed in (0, 1):
        left = iter(range(allowed))
        monkeypatch.setattr(
            database,
            "transact",
            lambda work, left=left: fail() if next(left, None) is None else transact(work),
        )
        with suppress(JournalError):
            record_result(journal, agent, result, {})
        header = journal.find_run(result.run_id)
        assert (header.state if header else None) == ("paused" if allowed else None)
    database.close()


# Events.


async def test_the_end_of_a_stream_is_on_the_disk(url: str) -> None:
    agent = Agent(model(call("add", a=1, b=2), say("3")), tools=[add])
    with durable(agent, url) as runs:
        async for event in runs.run_stream("go", run_id="x"):
            if isinstance(event, RunFinished):
                assert kinds(url, "x")[-1] == "finish"
                break
        again = [event async for event in runs.run_stream("go", run_id="x")]
    assert [type(event) for event in again] == [RunFinished]


async def test_leaving_a_stream_leaves_a_run_that_goes_on(url: str) -> None:
    agent = Agent(model(call("add", a=1, b=2), say("3")), tools=[add])
    with durable(agent, url) as runs:
        stream = runs.run_stream("go", run_id="x")
        async for event in stream:
            if isinstance(event, ToolCallFinished):
                break
        await stream.aclose()
        events = [event async for event in runs.run_stream(run_id="x")]
    assert isinstance(events[0], RunStarted)
    assert isinstance(events[-1], RunFinished)
    assert (events[-1].result.output, DONE) == ("3", ["1+2"])


# Workers, on one machine.


async def test_workers_take_what_was_left_to_them(url: str) -> None:
    told: list[WorkerResult] = []
    agent = Agent(model(*[say("ok")] * 5), name="shop")
    with durable(agent, url) as runs:
        ids = [await runs.enqueue(f"go {n}", run_id=f"r{n}") for n in range(5)]
        await runs.enqueue("go 0", run_id="r0")
        await DurableWorker(runs, told.append, concurrency=2).run(until_empty=True)
        assert (await runs.run(run_id="r3")).output == "ok"
    assert sorted(done.run_id for done in told) == ids


async def test_a_worker_leaves_other_agents_runs_and_those_that_nobody_left_to_it(
    url: str,
) -> None:
    with durable(Agent(model(say("mine")), name="other"), url) as runs:
        await runs.enqueue("go", run_id="x")
    with durable(Agent(model(drop())), url) as runs:
        with pytest.raises(ModelUnreachable):
            await runs.run("go", run_id="y")
        assert await runs.claim_next() is None


async def test_a_run_that_the_server_refuses_has_failed_and_says_why(url: str) -> None:
    from agentcall.testing import status

    told: list[WorkerResult] = []
    with durable(Agent(model(status(401))), url) as runs:
        await runs.enqueue("go", run_id="x")
        await DurableWorker(runs, told.append).run(until_empty=True)
        heads = await runs.query_journal(lambda journal: journal.list_runs())
    assert [(done.run_id, type(done.error).__name__) for done in told] == [("x", "ModelRefused")]
    assert [(head.state, head.outcome) for head in heads] == [("failed", "ModelRefused")]


# The little things.


def test_a_url_that_is_no_journal_is_refused_without_its_password() -> None:
    with pytest.raises(UsageError, match=r"use sqlite:///FILE or postgresql://") as error:
        durable(Agent(model()), "mysql://me:secret@host/x")
    assert "secret" not in str(error.value)


def test_a_missing_extra_names_the_pip_command() -> None:
    code = """
        import sys
        sys.modules["psycopg"] = None
        from agentcall import Agent
        from agentcall.durable import durable
        from agentcall.errors import MissingExtra
        from agentcall.testing import ScriptedModel
        try:
            durable(Agent(ScriptedModel()), "postgresql://host/x").run_sync("hi")
        except MissingExtra as error:
            print(error)
    """
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(code)],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert "a journal in PostgreSQL needs psycopg" in done.stdout
    assert "Install the extra 'durable': pip install" in done.stdout


async def test_a_paced_model_is_asked_no_faster_than_told() -> None:
    agent = Agent(RateLimitedModel(model(*[say("ok")] * 3), per_second=10))
    began = asyncio.get_running_loop().time()
    await asyncio.gather(*(agent.run("hi") for _ in range(3)))
    assert asyncio.get_running_loop().time() - began >= 0.2
    with pytest.raises(UsageError, match="not above 0"):
        RateLimitedModel(model(), per_second=0)


async def test_a_journal_that_cannot_be_made_says_why(tmp_path: Path) -> None:
    with (
        durable(Agent(model(say("hi"))), f"sqlite:///{tmp_path}/no/runs.db") as runs,
        pytest.raises(JournalError, match="cannot be used"),
    ):
        await runs.run("hi")
