from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from dataclasses import replace
from typing import Any

import pytest
from rows import each_row

from agentcall import Agent, Image, Limits, RunContext, ToolRegistry, tool
from agentcall.errors import SchemaError, ServerFailed, UnknownModel, UsageError
from agentcall.events import (
    DialectChosen,
    Event,
    ModelAnswered,
    RunFinished,
    RunStarted,
    TextDelta,
    ThinkingDelta,
    ToolCallFinished,
    ToolCallStarted,
)
from agentcall.messages import Assistant, System, Text, Usage, User
from agentcall.models.http_chat import HTTPChat
from agentcall.testing import FakeServer, ScriptedModel, call, calls, hang, say, status

pytest_plugins = ["agentcall.testing.plugin"]
Serve = Callable[..., FakeServer]


@tool
def add(a: int, b: int) -> int:
    """Add."""
    return a + b


def model_at(server: FakeServer) -> HTTPChat:
    return HTTPChat(server.url, "fake-model", dialect="native")


async def settled() -> None:
    """Until nothing runs any more but this."""
    for _ in range(100):
        if asyncio.all_tasks() == {asyncio.current_task()}:
            return
        gc.collect()
        await asyncio.sleep(0.01)
    raise AssertionError(asyncio.all_tasks())


async def test_an_agent_answers_over_http(fake_server: Serve) -> None:
    server = fake_server([call("add", a=2, b=3), say("It is 5.")])
    result = await Agent(model_at(server), tools=[add]).run("2+3?")
    assert (result.output, result.stop_reason) == ("It is 5.", "final")
    assert server.requests[1].messages[-1]["content"] == "5"


async def test_events_come_in_the_order_of_what_happens(fake_server: Serve) -> None:
    server = fake_server([call("add", a=2, b=3), say("It is 5.", thinking="easy")])
    agent = Agent(model_at(server), tools=[add])
    events = [event async for event in agent.run_stream("2+3?")]
    kinds = [kind for kind, last in zip(map(type, events), [None, *map(type, events)], strict=False)
             if kind is not last]  # fmt: skip
    assert kinds == [RunStarted, DialectChosen, ModelAnswered, ToolCallStarted, ToolCallFinished,
                     ThinkingDelta, TextDelta, ModelAnswered, RunFinished]  # fmt: skip
    assert "".join(event.text for event in events if isinstance(event, TextDelta)) == "It is 5."
    answered = [event for event in events if isinstance(event, ModelAnswered)]
    assert all(event.seconds >= event.writing >= 0 for event in answered)
    assert isinstance(events[-1], RunFinished)
    used = answered[0].usage + answered[1].usage + Usage(tool_calls=1)
    assert used == events[-1].result.usage


async def test_text_arrives_while_the_answer_is_being_written(fake_server: Serve) -> None:
    server = fake_server([hang(say("one two three four five six"), after=0.8)])

    async def read() -> str:
        text = ""
        async with aclosing(Agent(model_at(server)).run_stream("go")) as events:
            async for event in events:
                text += event.text if isinstance(event, TextDelta) else ""
                if text.count(" ") == 2:
                    break
        return text

    assert await asyncio.wait_for(read(), 30) == "one two "  # the rest never comes


async def test_a_stream_ends_with_the_result_that_run_gives() -> None:
    script = [call("add", a=2, b=3), say("It is 5.")]
    events = [e async for e in Agent(ScriptedModel(script), tools=[add]).run_stream("2+3?")]
    streamed = events[-1]
    assert isinstance(streamed, RunFinished)
    plain = await Agent(ScriptedModel(script), tools=[add]).run("2+3?")
    assert replace(streamed.result, run_id="", usage=plain.usage) == replace(plain, run_id="")


async def test_leaving_a_stream_early_cancels_the_request(fake_server: Serve) -> None:
    server = fake_server([say("x" * 400).replace(delay=0.02)])
    async for event in Agent(model_at(server)).run_stream("go"):
        if isinstance(event, TextDelta):
            break
    await settled()
    for _ in range(100):
        if server.abandoned_count:
            break
        await asyncio.sleep(0.01)
    assert server.abandoned_count == 1


async def test_leaving_a_stream_early_cancels_the_tools() -> None:
    ended: list[str] = []

    @tool
    async def slow() -> None:
        """Slow."""
        try:
            await asyncio.sleep(60)
        finally:
            ended.append("cancelled")

    agent = Agent(ScriptedModel([call("slow")]), tools=[slow])
    async with aclosing(agent.run_stream("go")) as events:
        async for event in events:
            if isinstance(event, ToolCallStarted):
                await asyncio.sleep(0)
                break
    assert ended == ["cancelled"]
    await settled()


async def test_cancelling_a_run_cancels_the_request_and_the_tools(fake_server: Serve) -> None:
    ended: list[str] = []

    @tool
    async def slow() -> None:
        """Slow."""
        try:
            await asyncio.sleep(60)
        finally:
            ended.append("cancelled")

    server = fake_server([say("late").replace(latency=30.0)])
    for agent in (Agent(ScriptedModel([call("slow")]), tools=[slow]), Agent(model_at(server))):
        task = asyncio.ensure_future(agent.run("go"))
        await asyncio.sleep(0.1)
        task.cancel()
        await asyncio.wait({task}, timeout=20)  # the tool and the server would take longer
        assert task.cancelled()
    assert ended == ["cancelled"]
    await settled()


async def test_a_stream_that_fails_raises_after_its_events() -> None:
    seen: list[Event] = []

    async def watch() -> None:
        async for event in Agent(ScriptedModel([status(500)])).run_stream("go"):
            seen.append(event)  # noqa: PERF401 - what came before the error is kept

    with pytest.raises(ServerFailed):
        await watch()
    assert isinstance(seen[-1], RunFinished)
    assert seen[-1].result.stop_reason == "error"


async def test_deps_reach_the_tools_and_no_schema() -> None:
    @tool
    def who(ctx: RunContext[str], word: str) -> str:
        """Who."""
        assert isinstance(ctx.messages[0], User)
        assert ctx.tool_name == "who"
        assert ctx.tool_call_id == "call_1_0"
        assert ctx.usage.requests == 1
        return f"{word} {ctx.deps}"

    model = ScriptedModel([call("who", word="hello"), say("ok")])
    agent: Agent[str, str] = Agent(model, tools=[who], deps_type=str)
    result = await agent.run("go", deps="me")
    assert result.tool_calls[0][1] is not None
    assert result.tool_calls[0][1].text == "hello me"
    assert "ctx" not in str(model.requests[0].tools)


async def test_a_prompt_may_hold_images() -> None:
    model = ScriptedModel([say("a cat")])
    picture = Image("data:image/png;base64,AAAA")
    result = await Agent(model).run(["What is this?", picture])
    assert result.messages[0] == User((Text("What is this?"), picture))
    assert model.requests[0].messages[0]["content"][1]["image_url"]["url"] == picture.url


async def test_a_history_may_come_in_the_form_of_openai_and_end_with_the_prompt() -> None:
    model = ScriptedModel([say("blue")])
    history = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Colour?"}]
    result = await Agent(model).run(messages=history)
    assert result.messages == (System("Be brief."), User("Colour?"), Assistant("blue"))
    assert result.new_messages == (Assistant("blue"),)


async def test_a_run_without_words_is_refused_at_once() -> None:
    agent = Agent(ScriptedModel([say("x")]))
    with pytest.raises(UsageError, match="needs a prompt"):
        await agent.run()
    with pytest.raises(UsageError, match="needs a prompt"):
        agent.run_stream()


async def test_instructions_come_before_everything_else() -> None:
    model = ScriptedModel([say("x")])
    await Agent(model, instructions="Sprich Deutsch. 请说中文。").run("hi")
    assert model.requests[0].messages[0] == {
        "role": "system", "content": "Sprich Deutsch. 请说中文。"}  # fmt: skip


async def test_an_agent_without_tools_offers_none() -> None:
    model = ScriptedModel([say("x")])
    await Agent(model).run("hi")
    assert "tools" not in model.requests[0].body


@each_row("tools", [add, [add], (add.function,), ToolRegistry(add), {"x": add}, iter([add])])
async def test_tools_may_come_in_many_shapes(tools: Any) -> None:
    agent = Agent(ScriptedModel([call("add", a=1, b=1), say("2")]), tools=tools)
    assert (await agent.run("go")).usage.tool_calls == 1


async def test_what_is_added_to_a_registry_later_is_offered_later() -> None:
    registry = ToolRegistry(add)
    model = ScriptedModel([say("x"), say("y")])
    agent = Agent(model, tools=registry)
    await agent.run("go")

    @registry.tool
    def sub(a: int, b: int) -> int:
        """Subtract."""
        return a - b

    await agent.run("go")
    assert [len(request.tools) for request in model.requests] == [1, 2]


def test_what_cannot_be_offered_is_refused_when_the_agent_is_made() -> None:
    def bad(a: object, *, lock: threading.Thread) -> None: ...

    with pytest.raises(SchemaError):
        Agent(ScriptedModel(), tools=[bad])
    with pytest.raises(SchemaError):
        Agent(ScriptedModel(), output_type=threading.Thread)
    with pytest.raises(UnknownModel):
        Agent("no-such-thing")


def test_an_agent_is_a_value_that_may_be_copied_and_kept_in_a_set() -> None:
    agent = Agent(ScriptedModel(), tools=[add], name="one")
    other = replace(agent, name="two", limits=Limits(requests=3))
    assert (other.registry.names, other.name) == (("add",), "two")
    assert len({agent, other, agent}) == 2
    with pytest.raises(AttributeError):
        agent.name = "three"  # type: ignore[misc]


async def test_one_tool_serves_many_agents_and_threads_at_once() -> None:
    def once(number: int) -> str:
        model = ScriptedModel([call("add", a=number, b=1), say("ok")])
        found = Agent(model, tools=[add]).run_sync("go").tool_calls[0][1]
        return found.text if found else ""

    found = await asyncio.gather(*(asyncio.to_thread(once, n) for n in range(20)))
    assert found == [str(n + 1) for n in range(20)]


async def test_an_agent_may_be_a_tool_of_another() -> None:
    expert = Agent(ScriptedModel([say("42")]))

    @tool
    async def ask(question: str) -> str:
        """Ask the expert."""
        return (await expert.run(question)).output

    boss = Agent(
        ScriptedModel([call("ask", question="?"), say("The expert says 42.")]), tools=[ask]
    )
    result = await boss.run("go")
    assert result.tool_calls[0][1] is not None
    assert result.tool_calls[0][1].text == "42"


async def test_parallel_calls_of_a_turn_run_at_the_same_time(fake_server: Serve) -> None:
    @tool
    def nap(n: int) -> int:
        """Nap."""
        everybody.wait(30)  # for the other calls
        return n

    everybody = threading.Barrier(5)
    server = fake_server([calls(*(call("nap", n=n) for n in range(5))), say("ok")])
    agent = Agent(model_at(server), tools=[nap])
    result = await agent.run("go")
    assert [found.text for _, found in result.tool_calls if found] == list("01234")


async def test_a_model_of_ones_own_is_any_object_that_answers() -> None:
    from agentcall.dialects.answer_parts import TextPart
    from agentcall.messages import Usage
    from agentcall.models.model import ModelRequest, ResponseEnd, ResponseEvent

    class Echo:
        async def ask(self, request: ModelRequest) -> AsyncIterator[ResponseEvent]:
            (message,) = request.transcript
            yield TextPart(f"you said {message.text}")
            yield ResponseEnd("stop", Usage(1))

    assert (await Agent(Echo()).run("hi")).output == "you said hi"


async def test_instructions_may_be_a_function_of_the_run() -> None:
    def instruct(context: RunContext[str]) -> str:
        return f"The user is {context.deps}."

    model = ScriptedModel([say("Hi Ann."), say("Hi Bob.")])
    agent = Agent(model, instructions=instruct, deps_type=str)
    await agent.run("Hi", deps="Ann")
    await agent.run("Hi", deps="Bob")
    systems = [request.messages[0]["content"] for request in model.requests]
    assert systems == ["The user is Ann.", "The user is Bob."]
    other = Agent(ScriptedModel([say("x")]), instructions=lambda context: 5)  # type: ignore[arg-type, return-value]
    with pytest.raises(UsageError, match="returned 5, not a text"):
        await other.run("Hi")


def test_instructions_that_cannot_be_called_are_refused_where_they_are_made() -> None:
    for wrong in (lambda: "", 5, str):
        with pytest.raises(UsageError, match="instructions="):
            Agent(ScriptedModel([say("x")]), instructions=wrong)  # type: ignore[arg-type]  # wrong
