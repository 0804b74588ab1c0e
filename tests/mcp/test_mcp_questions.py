"""What MCP servers ask during a call: the user ("elicitation") and a model ("sampling")."""

from __future__ import annotations

import asyncio
import logging
import sys
from dataclasses import replace
from pathlib import Path

import mcp_library
import pytest

from agentcall import Agent, Approved, Denied, Edited, Limits, RunResult, SQLiteSession
from agentcall.cli.approvals import ask_for_decision, format_pending_calls
from agentcall.cli.load import build_agent
from agentcall.cli.options import AgentOptions
from agentcall.durable import durable
from agentcall.errors import UsageError
from agentcall.events import ApprovalRequested, RunFinished
from agentcall.mcp import MCPQuestion, MCPTools, SamplingRequest
from agentcall.messages import User
from agentcall.testing import ScriptedModel, call, say

pytestmark = pytest.mark.mcp

LIBRARY = f"{sys.executable} {mcp_library.__file__} stdio"
AISLE = Edited({"place": "aisle"})
BOOKED = "accept: 2 at the aisle, 0 meals"


def told(result: RunResult[str]) -> list[str]:
    return [answer.text for _, answer in result.tool_calls if answer]


def answer_question(question: MCPQuestion) -> dict[str, str] | bool | None:
    assert question.tool in ("book", "greet", "ask_forever")
    if question.schema is None:
        return True
    return {"place": "aisle"} if "place" in str(question.schema) else {"name": "Ann"}


def test_a_function_answers_the_questions_of_a_server() -> None:
    script = [call("book", seats=2), call("greet", greeting="Hello"), call("ask_forever")]
    with MCPTools(LIBRARY, on_elicit=answer_question, read_only=True, timeout=20) as tools:
        results = told(Agent(ScriptedModel([*script, say("ok")]), tools=[tools]).run_sync("?"))
    assert results[:2] == [BOOKED, "Hello Ann"]
    assert "asked over 10 questions during a call, which was given up" in results[2]


async def test_an_async_function_may_decline_and_what_it_answers_is_checked() -> None:
    answers: list[dict[str, object] | None] = [None, {"place": 5}]

    async def answer(question: MCPQuestion) -> dict[str, object] | None:
        assert question.context is not None
        assert question.context.deps == "Ann"
        return answers.pop(0)

    model = ScriptedModel([call("book", seats=2), call("book", seats=3), say("ok")])
    async with MCPTools(LIBRARY, on_elicit=answer, read_only=True) as tools:  # type: ignore[arg-type]
        agent: Agent[str, str] = Agent(model, tools=[tools], deps_type=str)
        declined, wrong = told(await agent.run("?", deps="Ann"))
    assert declined == "nothing is booked: decline"
    assert "on_elicit cannot answer a question" in wrong
    assert "place" in wrong


def test_without_a_function_questions_are_declined_with_a_warning(
    caplog: pytest.LogCaptureFixture,
) -> None:
    model = ScriptedModel([call("greet", greeting="Hello"), call("book", seats=1), say("ok")])
    with caplog.at_level(logging.WARNING), MCPTools(LIBRARY, read_only=True) as tools:
        greeted, booked = told(Agent(model, tools=[tools]).run_sync("?"))
    assert "Who are you?" in caplog.text
    assert "MCPTools has no on_elicit=" in caplog.text
    assert "decline" in greeted.lower()
    # In the newest protocol, a server cannot send requests of its own.
    assert "MCPTools(on_elicit=) allows" in booked


@pytest.fixture
def asking() -> MCPTools:
    return MCPTools(LIBRARY, on_elicit="approval", read_only=True, timeout=20)


def test_a_question_makes_the_run_wait_and_the_answer_continues_it(asking: MCPTools) -> None:
    with asking:
        agent = Agent(ScriptedModel([call("book", seats=2), say("done")]), tools=[asking])
        result = agent.run_sync("Book")
        assert result.stop_reason == "approval"
        (pending,) = result.pending
        assert pending.question is not None
        assert pending.question.text == "Window or aisle?"
        assert str(pending) == "book waits for an answer: Window or aisle?"
        with pytest.raises(UsageError, match="does not fit"):
            agent.resume_sync(result, {pending.call.id: True})
        with pytest.raises(UsageError, match="does not fit"):
            agent.resume_sync(result, {pending.call.id: Edited({"place": 1})})
        second = agent.resume_sync(result.to_json(), {pending.call.id: AISLE})
        (pending,) = second.pending
        assert pending.question is not None
        assert pending.question.text == "Book 2 at the aisle?"
        assert pending.call.arguments == '{"seats": 2}'
        final = agent.resume_sync(second.to_json(), {pending.call.id: Approved()})
    assert told(final) == [BOOKED]
    assert final.output == "done"


def test_an_answer_is_only_for_the_question_that_was_shown(asking: MCPTools) -> None:
    with asking:
        script = [call("ask_forever"), call("pay"), say("done")]
        agent = Agent(ScriptedModel(script), tools=[asking])
        result = agent.run_sync("Ask")
        (pending,) = result.pending
        assert pending.question is not None
        assert pending.question.text == "Question 1?"
        result = agent.resume_sync(result, {pending.call.id: True})
        (pending,) = result.pending
        assert pending.question is not None
        assert pending.question.text == "Question 2?"
        result = agent.resume_sync(result, {pending.call.id: Denied("enough")})
        assert "did not answer it: enough" in told(result)[0]
        (pending,) = result.pending
        assert pending.question is not None
        assert pending.question.url == "https://pay.example/1"
        result = agent.resume_sync(result, {pending.call.id: True})
    assert told(result)[1] == "accept"


async def test_questions_are_asked_in_streams_after_handoffs_and_in_nested_agents(
    asking: MCPTools,
) -> None:
    async with asking:
        inner = Agent(
            ScriptedModel([call("greet", greeting="Hi"), say("greeted")]),
            tools=[asking],
            name="inner",
        )
        outer = Agent(
            ScriptedModel([call("inner", task="greet"), say("ok")]), tools=[inner.as_tool()]
        )
        events = [event async for event in outer.run_stream("Greet")]
        assert any(isinstance(event, ApprovalRequested) for event in events)
        assert isinstance(events[-1], RunFinished)
        paused = events[-1].result
        (pending,) = paused.pending
        assert "/" in pending.call.id
        name = Edited({"name": "Ann"})
        result = await outer.resume(paused.to_json(), {pending.call.id: name})
        assert told(result) == ["greeted"]

        inner = Agent(
            ScriptedModel([call("greet", greeting="Hi"), say("greeted")]),
            tools=[asking],
            name="inner",
        )
        first = Agent(ScriptedModel([call("transfer_to_inner")]), handoffs=[inner], name="first")
        paused = await first.run("Greet")
        (pending,) = paused.pending
        result = await first.resume(paused, {pending.call.id: name})
        assert told(result)[-1] == "Hi Ann"


def test_a_durable_run_waits_for_an_answer_in_another_process(
    asking: MCPTools, tmp_path: Path
) -> None:
    journal = f"sqlite:///{tmp_path / 'runs.db'}"
    with asking:
        with durable(
            Agent(ScriptedModel([call("book", seats=2)]), tools=[asking]), journal
        ) as agent:
            result = agent.run_sync("Book", run_id="r1")
            (pending,) = result.pending
        with durable(Agent(ScriptedModel([]), tools=[asking]), journal) as agent:
            second = agent.resume_sync("r1", {pending.call.id: AISLE})
            (pending,) = second.pending
            assert pending.question is not None
            assert pending.question.text == "Book 2 at the aisle?"
        model = ScriptedModel([say("done")])
        with durable(Agent(model, tools=[asking]), journal) as agent:
            final = agent.resume_sync("r1", {pending.call.id: True})
            assert told(final) == [BOOKED]
            assert final.output == "done"
        with durable(Agent(ScriptedModel([]), tools=[asking]), journal) as agent:
            assert agent.run_sync(run_id="r1").output == "done"  # recorded
            assert final.messages[1].calls[0].arguments == '{"seats": 2}'  # type: ignore[union-attr]


def test_sampling_is_refused_unless_it_is_allowed() -> None:
    model = ScriptedModel([call("think", about="boats"), say("ok")])
    with MCPTools(LIBRARY, read_only=True, on_elicit="approval") as tools:
        (answer,) = told(Agent(model, tools=[tools]).run_sync("?"))
    assert "Sampling not supported" in answer
    for wrong in (5, None):
        with pytest.raises(UsageError, match="sampling="):
            MCPTools(LIBRARY, sampling=wrong)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="on_elicit="):
        MCPTools(LIBRARY, on_elicit="always")  # type: ignore[arg-type]


def test_the_model_of_the_run_answers_without_tools_within_its_limits() -> None:
    model = ScriptedModel([call("think", about="boats"), say("They float."), say("ok")])
    with MCPTools(LIBRARY, read_only=True, sampling=True) as tools:
        agent = Agent(model, tools=[tools], instructions="You are a captain.")
        result = agent.run_sync("Secret question")
    assert told(result) == ["the model says: They float."]
    assert result.usage.requests == 3
    asked = model.requests[1]
    assert not asked.tools
    assert "About boats?" in str(asked.messages)
    assert "Be brief." in str(asked.messages)
    assert "captain" not in str(asked.messages)
    assert "Secret" not in str(asked.messages)

    model = ScriptedModel([call("think_forever"), *[say("More.")] * 30])
    with MCPTools(LIBRARY, read_only=True, sampling=True) as tools:
        agent = Agent(model, tools=[tools], limits=Limits(requests=4))
        result = agent.run_sync("?")
    assert result.usage.requests <= 4
    assert "the model did not answer" in told(result)[0]


async def test_a_function_or_another_model_answers_and_a_loop_is_ended() -> None:
    seen: list[SamplingRequest] = []

    def answer(request: SamplingRequest) -> str:
        seen.append(request)
        return "They float."

    model = ScriptedModel([call("think", about="boats"), call("think_forever"), say("ok")])
    async with MCPTools(LIBRARY, read_only=True, sampling=answer) as tools:
        first, second = told(await Agent(model, tools=[tools]).run("?"))
    assert first == "the model says: They float."
    assert (seen[0].tool, seen[0].instructions, seen[0].settings.max_tokens) == (
        "think",
        "Be brief.",
        50,
    )
    assert isinstance(seen[0].messages[0], User)
    assert "made over 10 requests to a model during a call, which was given up" in second
    other = ScriptedModel([say("From another.")])
    model = ScriptedModel([call("think", about="boats"), say("ok")])
    async with MCPTools(LIBRARY, read_only=True, sampling=other) as tools:
        result = await Agent(model, tools=[tools]).run("?")
    assert told(result) == ["the model says: From another."]
    assert result.usage.requests == 3


class Typist:
    """A person who types these lines."""

    is_available = True

    def __init__(self, *lines: str) -> None:
        self.lines = list(lines)
        self.questions: list[str] = []

    def ask(self, question: str, default: str = "") -> str | None:
        self.questions.append(question)
        return self.lines.pop(0) if self.lines else None


def test_the_command_line_asks_for_each_field_of_an_answer(
    asking: MCPTools, capsys: pytest.CaptureFixture[str]
) -> None:
    with asking:
        agent = Agent(ScriptedModel([call("book", seats=2), say("done")]), tools=[asking])
        result = agent.run_sync("Book")
        (pending,) = result.pending

        def validate(edited: Edited) -> None:
            agent.check_decisions(result, {pending.call.id: edited})

        typist = Typist("aisle", "many", "aisle", "2")
        decision = ask_for_decision(pending, "book(...)", typist, validate)
        assert decision == Edited({"place": "aisle", "meals": 2})
        assert typist.questions[0] == "  place (string; empty: no answer): "
        assert typist.questions[1] == "  meals (integer; empty: 0): "
        assert "does not fit" in capsys.readouterr().err
        assert isinstance(ask_for_decision(pending, "book(...)", Typist(""), validate), Denied)
        assert "place (string" in "".join(format_pending_calls(result))


def test_the_tools_of_a_server_on_the_command_line_may_ask_and_change(tmp_path: Path) -> None:
    options = AgentOptions(tools=[f"mcp:{LIBRARY}"])
    agent = build_agent(options)
    model = ScriptedModel([call("greet", greeting="Hi"), say("done")])
    result = replace(agent, model=model).run_sync("Greet")
    assert [pending.question is not None for pending in result.pending] == [True]


async def test_what_is_done_for_a_server_ends_with_the_call() -> None:
    ended: list[str] = []

    async def answer(request: SamplingRequest) -> str:
        try:
            await asyncio.sleep(60)
        finally:
            ended.append(request.tool)
        return "late"

    # The server, which may ask on, is started again: that takes longer than a call may.
    adding = [call("add", a=n, b=1) for n in range(6)]
    model = ScriptedModel([call("think", about="boats"), *adding, say("ok")])
    async with MCPTools(LIBRARY, read_only=True, sampling=answer, timeout=2) as tools:
        first, *_, last = told(await Agent(model, tools=[tools]).run("?"))
        for _ in range(100):
            if ended:
                break
            await asyncio.sleep(0.05)
    assert "did not end within 2 seconds" in first
    assert last == "6"
    assert ended == ["think"]


def test_a_session_keeps_a_question(asking: MCPTools, tmp_path: Path) -> None:
    with asking:
        model = ScriptedModel([call("greet", greeting="Hi"), say("greeted"), say("next")])
        agent = Agent(model, tools=[asking])
        session = SQLiteSession("s1", path=tmp_path / "sessions.db")
        result = agent.run_sync("Greet", session=session)
        (pending,) = result.pending
        answer = {pending.call.id: Edited({"name": "Ann"})}
        assert told(agent.resume_sync(result.to_json(), answer, session=session)) == ["Hi Ann"]
        assert agent.run_sync("And now?", session=session).output == "next"
