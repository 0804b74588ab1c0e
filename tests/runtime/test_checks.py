"""Checks of the user's message and of the output."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from agentcall import Agent, Blocked, Image, ModelRetry, RunContext, RunResult, SQLiteSession, tool
from agentcall.durable import durable
from agentcall.errors import UsageError
from agentcall.events import AnswerDiscarded, Event, RunBlocked, RunFinished, TextDelta
from agentcall.messages import Text, User
from agentcall.result import NoOutput
from agentcall.testing import ScriptedModel, call, say


class City(BaseModel):
    name: str


@tool(requires_approval=True)
def pay(amount: int) -> str:
    """Pay."""
    return f"paid {amount}"


def no_secrets(text: str) -> None:
    if "secret" in text:
        raise Blocked("it has a secret")


async def redact(context: RunContext[Any], text: str) -> str | None:
    await asyncio.sleep(0)
    return text.replace("4711", "****") if "4711" in text else None


async def collect(agent: Agent[Any, Any], prompt: str, **options: Any) -> list[Event]:
    return [event async for event in agent.run_stream(prompt, **options)]


async def test_a_blocked_input_asks_no_model() -> None:
    model = ScriptedModel([say("never")])
    agent = Agent(model, check_input=no_secrets)
    events = await collect(agent, "my secret")
    finished = events[-1]
    assert isinstance(finished, RunFinished)
    result: RunResult[str] = finished.result
    assert RunBlocked("it has a secret") in events
    assert (result.stop_reason, result.messages, model.requests) == ("blocked", (), [])
    with pytest.raises(NoOutput, match="it has a secret"):
        _ = result.output
    assert agent.run_sync("a secret").stop_reason == "blocked"
    assert RunResult[str].from_json(result.to_json()).stop_reason == "blocked"


async def test_a_check_may_change_the_input() -> None:
    model = ScriptedModel([say("a")] * 2)
    agent = Agent(model, check_input=[redact, no_secrets])
    result = await agent.run(
        "PIN 4711",
        messages=[
            {"role": "user", "content": "4711 before"},
            {"role": "assistant", "content": "hm"},
        ],
    )
    assert [m["content"] for m in model.requests[0].messages] == ["4711 before", "hm", "PIN ****"]
    assert result.new_messages[0] == User("PIN ****")
    await agent.run(messages=[{"role": "user", "content": "4711"}])
    assert model.requests[1].messages[0]["content"] == "****"


async def test_a_check_gets_the_parts_of_a_prompt_with_images() -> None:
    seen: list[object] = []
    picture = Image.from_bytes(b"\x89PNG\r\n\x1a\n" + b"0" * 30)

    def check(value: object) -> list[Text]:
        seen.append(value)
        return [Text("no image")]

    result = await Agent(ScriptedModel([say("a")]), check_input=check).run(["look", picture])
    assert seen == [(Text("look"), picture)]
    assert result.messages[0] == User((Text("no image"),))


async def test_a_session_does_not_keep_what_was_blocked(tmp_path: Path) -> None:
    model = ScriptedModel([say("fine"), say("a secret"), say("good")])
    session = SQLiteSession("a", path=tmp_path / "s.db")
    agent = Agent(model, check_input=no_secrets, check_output=no_secrets)
    await agent.run("one", session=session)
    assert (await agent.run("the secret", session=session)).stop_reason == "blocked"
    blocked = await agent.run("two", session=session)
    assert (blocked.stop_reason, blocked.text, str(blocked)) == ("blocked", "", "")
    await agent.run("three", session=session)
    sent = str(model.requests[-1].messages)
    assert "secret" not in sent
    assert "two" in sent


async def test_a_blocked_output_is_discarded_in_a_stream() -> None:
    events = await collect(Agent(ScriptedModel([say("a secret")]), check_output=no_secrets), "?")
    names = [type(event).__name__ for event in events]
    assert names.index("TextDelta") < names.index("AnswerDiscarded") < names.index("RunBlocked")
    assert "a secret" not in str(events[-1]).replace("has a secret", "")


async def test_a_changed_output_is_what_is_kept() -> None:
    agent = Agent(ScriptedModel([say("PIN 4711")]), check_output=[redact])
    events = await collect(agent, "?")
    finished = events[-1]
    assert isinstance(finished, RunFinished)
    assert (finished.result.output, finished.result.text) == ("PIN ****", "PIN ****")
    assert [e for e in events if isinstance(e, (AnswerDiscarded, TextDelta))][-2:] == [
        AnswerDiscarded("a check changed the output"),
        TextDelta("PIN ****"),
    ]


async def test_a_check_of_the_output_may_ask_again() -> None:
    def in_norway(context: RunContext[None], city: City) -> None:
        if city.name != "Oslo":
            raise ModelRetry(f"{city.name} is not in Norway.")

    model = ScriptedModel([say('{"name": "Rome"}'), say('{"name": "Oslo"}')])
    result = await Agent(model, output_type=City, check_output=in_norway).run("?")
    assert result.output == City(name="Oslo")
    assert model.requests[1].messages[-1]["content"] == "Rome is not in Norway."
    stubborn = ScriptedModel([say('{"name": "Rome"}')] * 3)
    failed = await Agent(stubborn, output_type=City, check_output=in_norway).run("?")
    assert failed.stop_reason == "error"
    with pytest.raises(NoOutput, match="Rome is not in Norway"):
        _ = failed.output


@pytest.mark.parametrize(
    ("output_type", "answer", "returned"),
    [(str, "x", True), (str, "x", False), (City, '{"name": "Oslo"}', "Rome"), (int, "3", "many")],
)
async def test_a_value_that_is_no_output_is_refused(
    output_type: Any, answer: str, returned: object
) -> None:
    agent = Agent(
        ScriptedModel([say(answer)]), output_type=output_type, check_output=lambda value: returned
    )
    with pytest.raises(UsageError, match="return None to let it pass"):
        await agent.run("?")
    with pytest.raises(UsageError, match="return None to let it pass"):
        await Agent(ScriptedModel([]), check_input=lambda value: True).run("?")


@pytest.mark.parametrize("check", [5, [None], lambda: None, lambda a, b, c: None, str])
def test_what_is_no_check_is_refused_where_it_is_made(check: Any) -> None:
    for name in ("check_input", "check_output"):
        with pytest.raises(UsageError, match=name):
            Agent(ScriptedModel([]), **{name: check})


async def test_an_error_of_a_check_ends_the_run() -> None:
    def fail(value: object) -> None:
        raise LookupError("a mistake")

    with pytest.raises(LookupError):
        await Agent(ScriptedModel([say("x")]), check_output=fail).run("?")
    with pytest.raises(LookupError):
        await Agent(ScriptedModel([say("x")]), check_input=fail).run("?")


async def test_answers_that_were_cut_are_checked_too() -> None:
    model = ScriptedModel(
        [
            replace(say("a secret"), finish_reason="length"),
            replace(say("4711"), finish_reason="length"),
        ]
    )
    agent = Agent(model, check_output=[redact, no_secrets])
    assert (await agent.run("?")).stop_reason == "blocked"
    assert (await agent.run("?")).output == "****"


async def test_the_answer_of_a_final_tool_is_checked() -> None:
    @tool(final=True)
    def answer(text: str) -> str:
        """Answer."""
        return text

    model = ScriptedModel([call("answer", text="4711"), call("answer", text="a secret")])
    agent = Agent(model, tools=[answer], check_output=[redact, no_secrets])
    assert (await agent.run("?")).output == "****"
    assert (await agent.run("?")).stop_reason == "blocked"


async def test_an_agent_that_is_a_tool_checks_for_itself() -> None:
    inner = Agent(ScriptedModel([say("a secret")]), name="inner", check_output=no_secrets)
    model = ScriptedModel([call("inner", task="x"), say("done")])
    result = await Agent(model, tools=[inner.as_tool()]).run("?")
    (made,) = result.tool_calls
    assert made.result is not None
    assert made.result.is_error
    assert "it has a secret" in made.result.text
    assert "a secret" not in made.result.text.replace("it has a secret", "")


async def test_who_takes_over_checks_the_output() -> None:
    model = ScriptedModel([call("transfer_to_other"), say("4711")])
    other = Agent(model, name="other", check_output=redact)
    assert (await Agent(model, handoffs=[other], check_output=no_secrets).run("?")).output == "****"


async def test_a_durable_run_keeps_the_checked_messages(tmp_path: Path) -> None:
    checked: list[str] = []

    def check(text: str) -> str:
        checked.append(text)
        return f"{text}{len(checked)}"

    model = ScriptedModel([call("pay", amount=3), say("done")])
    agent = Agent(model, tools=[pay], check_input=check)
    url = f"sqlite:///{tmp_path / 'runs.db'}"
    with durable(agent, url) as runs:
        paused = await runs.run("?", run_id="a")
    with durable(agent, url) as runs:
        result = await runs.resume("a", {paused.pending[0].call.id: True})
        blocked = await durable(Agent(ScriptedModel([]), check_input=no_secrets), url).run(
            "secret", run_id="b"
        )
        assert (await runs.run(run_id="b")).stop_reason == blocked.stop_reason == "blocked"
    assert checked == ["?"]
    assert result.messages[0].text == "?1"
