"""Hooks around the model and the tools: what they may change, and what they may not."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from agentcall import (
    Agent,
    Blocked,
    Hooks,
    ModelRetry,
    ModelSettings,
    RunContext,
    RunResult,
    tool,
)
from agentcall.dialects.answer_parts import ToolCallPart
from agentcall.durable import durable
from agentcall.errors import UsageError
from agentcall.events import (
    AnswerDiscarded,
    Event,
    RunBlocked,
    RunFinished,
    TextDelta,
    ToolCallFinished,
)
from agentcall.messages import Assistant, ToolCall, ToolResult, User
from agentcall.policy import Deny, ToolCallRequest
from agentcall.result import result_of
from agentcall.runtime.hooks import ModelStep
from agentcall.runtime.turn import ModelTurn
from agentcall.testing import ScriptedModel, call, say


@tool
def add(a: int, b: int) -> int:
    """Add."""
    return a + b


@tool(untrusted=True)
def read_page() -> str:
    """Read."""
    return "a page"


@tool(requires_approval=True)
def pay(amount: int) -> str:
    """Pay."""
    return f"paid {amount}"


def texts(model: ScriptedModel, index: int = -1) -> list[str]:
    return [message["content"] for message in model.requests[index].messages]


async def collect(agent: Agent[Any, Any], prompt: str, **options: Any) -> list[Event]:
    return [event async for event in agent.run_stream(prompt, **options)]


class Change(Hooks[None]):
    """Changes everything, and notes the order."""

    def __init__(self, name: str, order: list[str]) -> None:
        self.name, self.order = name, order

    def before_model(self, context: RunContext[None], step: ModelStep) -> ModelStep:
        self.order.append(f"{self.name} before model")
        settings = replace(step.settings, temperature=0.3)
        messages = (
            (*step.messages[:-1], replace(step.messages[-1], content="sent"))
            if isinstance(step.messages[-1], User)
            else step.messages
        )
        return replace(
            step,
            instructions=f"{step.instructions}{self.name}",
            messages=messages,
            settings=settings,
        )

    async def after_model(self, context: RunContext[None], turn: ModelTurn) -> ModelTurn:
        await asyncio.sleep(0)
        self.order.append(f"{self.name} after model")
        return turn._replace(text=f"{turn.text}{self.name}")

    async def before_tool(self, context: RunContext[None], call: ToolCall) -> ToolCall | None:
        self.order.append(f"{self.name} before {context.tool_name} {call.arguments}")
        return replace(call, arguments='{"a": 10, "b": 20}')

    def after_tool(
        self, context: RunContext[None], call: ToolCall, result: ToolResult
    ) -> ToolResult:
        self.order.append(f"{self.name} after {call.name} {result.text}")
        return replace(result, text=f"{result.text}!", call_id="another", name="other")


async def test_hooks_change_what_is_sent_and_what_comes() -> None:
    order: list[str] = []
    model = ScriptedModel([call("add", a=1, b=2), say("done ")])
    agent = Agent(model, tools=[add], hooks=[Change("A", order), Change("B", order)])
    result = await agent.run("asked", settings=ModelSettings(seed=7))
    assert order == [
        "A before model",
        "B before model",
        "B after model",
        "A after model",
        'A before add {"a": 1, "b": 2}',
        'B before add {"a": 10, "b": 20}',
        "B after add 30",
        "A after add 30!",
        "A before model",
        "B before model",
        "B after model",
        "A after model",
    ]
    assert texts(model, 0)[1:] == ["sent"]
    assert texts(model, 0)[0].startswith("AB")
    assert (model.requests[0].body["temperature"], model.requests[0].body["seed"]) == (0.3, 7)
    assert result.output == "done BA"
    assert [message.text for message in result.messages] == ["asked", "BA", "30!!", "done BA"]
    (made,) = result.tool_calls
    assert made.call.arguments == '{"a": 10, "b": 20}'


async def test_a_stream_shows_what_a_hook_made_of_an_answer() -> None:
    class Shout:
        def after_model(self, context: RunContext[None], turn: ModelTurn) -> ModelTurn:
            return turn._replace(text=turn.text.upper())

    events = await collect(Agent(ScriptedModel([say("hello")]), hooks=[Shout()]), "?")
    end = [event for event in events if isinstance(event, (AnswerDiscarded, TextDelta))][-2:]
    assert end == [AnswerDiscarded("a hook changed the answer"), TextDelta("HELLO")]


async def test_a_changed_call_is_judged_and_shown_as_changed() -> None:
    seen: list[str] = []

    def judge(request: ToolCallRequest) -> Deny | None:
        seen.append(request.call.arguments)
        return None

    class Cap(Hooks[None]):
        def before_tool(self, context: RunContext[None], call: ToolCall) -> ToolCall:
            return replace(call, arguments='{"amount": 5}')

    agent = Agent(
        ScriptedModel([call("pay", amount=500), say("x")]), tools=[pay], policy=judge, hooks=[Cap()]
    )
    paused = await agent.run("?")
    assert seen == ['{"amount": 5}']
    assert paused.pending[0].call.arguments == '{"amount": 5}'
    result = await agent.resume(paused.to_json(), {paused.pending[0].call.id: True})
    assert result.tool_calls[0].result.text == "paid 5"  # type: ignore[union-attr]


@pytest.mark.parametrize("arguments", ['{"a": "x"}', "no JSON", "{}"])
async def test_an_invalid_call_of_a_hook_is_an_error_of_the_program(arguments: str) -> None:
    class Break(Hooks[None]):
        def before_tool(self, context: RunContext[None], call: ToolCall) -> ToolCall:
            return replace(call, arguments=arguments)

    agent = Agent(ScriptedModel([call("add", a=1, b=2), say("x")]), tools=[add], hooks=[Break()])
    with pytest.raises(UsageError, match="before_tool returned an invalid call") as caught:
        await agent.run("?")
    result = result_of(caught.value)
    assert result is not None
    assert (result.stop_reason, len(result.tool_calls)) == ("error", 0)


async def test_provenance_cannot_be_dropped() -> None:
    class Launder(Hooks[None]):
        def before_model(self, context: RunContext[None], step: ModelStep) -> ModelStep:
            messages = [
                replace(m, untrusted=False) if isinstance(m, ToolResult) else m
                for m in step.messages
            ]
            return replace(step, messages=(*messages, User("new")))

        def after_tool(
            self, context: RunContext[None], call: ToolCall, result: ToolResult
        ) -> ToolResult:
            return replace(result, text="harmless", untrusted=False)

    model = ScriptedModel([call("read_page"), call("pay", amount=3), say("x")])
    agent = Agent(model, tools=[read_page, pay], hooks=[Launder()])
    result = await agent.run("?")
    (made, _) = result.tool_calls
    assert made.result is not None
    assert made.result.untrusted
    assert "Untrusted content" in texts(model, 1)[2]
    assert isinstance(result.messages[3], Assistant)
    assert result.messages[3].untrusted


async def test_messages_of_a_hook_have_to_be_a_conversation() -> None:
    class Cut(Hooks[None]):
        def before_model(self, context: RunContext[None], step: ModelStep) -> ModelStep:
            return replace(step, messages=step.messages[:2])

    model = ScriptedModel([call("add", a=1, b=2), say("x")])
    await Agent(model, tools=[add], hooks=[Cut()]).run("?")
    assert [message["role"] for message in model.requests[1].messages][-2:] == ["assistant", "tool"]

    class Wrong(Hooks[None]):
        def before_model(self, context: RunContext[None], step: ModelStep) -> Any:
            return replace(step, messages=("text",))  # type: ignore[arg-type]

    with pytest.raises(UsageError, match="before_model returned the message 'text'"):
        await Agent(ScriptedModel([say("x")]), hooks=[Wrong()]).run("?")


async def test_retries_of_hooks_are_told_to_the_model() -> None:
    class Strict(Hooks[None]):
        def after_model(self, context: RunContext[None], turn: ModelTurn) -> None:
            if "bad" in turn.text:
                raise ModelRetry("Do not say bad.")

        def before_tool(self, context: RunContext[None], call: ToolCall) -> None:
            if '"a": 1' in call.arguments:
                raise ModelRetry("Not with 1.")

        def after_tool(self, context: RunContext[None], call: ToolCall, result: ToolResult) -> None:
            if result.text == "9":
                raise ModelRetry("Not 9.")

    model = ScriptedModel([call("add", a=1, b=2), call("add", a=4, b=5), say("bad"), say("good")])
    result = await Agent(model, tools=[add], hooks=[Strict()]).run("?")
    assert result.output == "good"
    assert [m.text for m in result.messages if isinstance(m, ToolResult)] == [
        "Not with 1.",
        "Not 9.",
    ]
    assert result.usage.tool_calls == 1
    always = ScriptedModel([say("bad")] * 3)
    assert (await Agent(always, hooks=[Strict()]).run("?")).stop_reason == "error"


@pytest.mark.parametrize("where", ["before_model", "after_model", "before_tool", "after_tool"])
async def test_a_hook_can_block_a_run(where: str) -> None:
    class Block:
        pass

    def block(self: object, context: RunContext[None], *_: object) -> None:
        raise Blocked(f"blocked {where}")

    setattr(Block, where, block)
    model = ScriptedModel([call("add", a=1, b=2), say("x")])
    events = await collect(Agent(model, tools=[add], hooks=[Block()]), "?")
    assert RunBlocked(f"blocked {where}") in events
    finished = events[-1]
    assert isinstance(finished, RunFinished)
    result: RunResult[Any] = finished.result
    assert result.stop_reason == "blocked"
    assert "3" not in [message.text for message in result.messages]
    assert all(made.result is not None for made in result.tool_calls)


@pytest.mark.parametrize("where", ["before_model", "after_model", "before_tool", "after_tool"])
async def test_an_error_of_a_hook_ends_the_runs_and_is_not_told_to_a_model(where: str) -> None:
    class Fail:
        pass

    async def fail(self: object, context: RunContext[None], *_: object) -> None:
        raise LookupError("a mistake")

    setattr(Fail, where, fail)
    model = ScriptedModel([call("add", a=1, b=2), say("x")])
    inner = Agent(model, tools=[add], hooks=[Fail()], name="inner")
    with pytest.raises(LookupError) as caught:
        await inner.run("?")
    result = result_of(caught.value)
    assert result is not None
    assert result.stop_reason == "error"
    model = ScriptedModel([call("add", a=1, b=2), say("x")])
    inner = replace(inner, model=model)
    outer = ScriptedModel([call("inner", task="x"), say("never")])
    with pytest.raises(LookupError):
        await Agent(outer, tools=[inner.as_tool()]).run("?")
    assert len(outer.requests) == 1


class NoMethods:
    pass


class Misspelt(Hooks[None]):
    def before_tools(self) -> None: ...


@pytest.mark.parametrize("hooks", [[NoMethods()], [Misspelt()], [Change], Change("A", []), [5]])
def test_what_is_no_hook_is_refused_where_it_is_made(hooks: Any) -> None:
    with pytest.raises(UsageError, match="hooks"):
        Agent(ScriptedModel([say("x")]), hooks=hooks)


@pytest.mark.parametrize(
    ("where", "value"), [("before_model", 5), ("after_model", "text"), ("before_tool", True)]
)
async def test_a_value_of_another_type_is_refused(where: str, value: object) -> None:
    class Wrong:
        pass

    setattr(Wrong, where, lambda self, context, *_: value)
    model = ScriptedModel([call("add", a=1, b=2), say("x")])
    with pytest.raises(UsageError, match=f"returned {value!r}; return a"):
        await Agent(model, tools=[add], hooks=[Wrong()]).run("?")


async def test_a_part_that_is_no_text_is_refused() -> None:
    class Wrong(Hooks[None]):
        def before_tool(self, context: RunContext[None], call: ToolCall) -> ToolCall:
            return replace(call, arguments={"a": 1})  # type: ignore[arg-type]

    model = ScriptedModel([call("add", a=1, b=2), say("x")])
    with pytest.raises(UsageError, match="the JSON of a call's arguments has to be a text"):
        await Agent(model, tools=[add], hooks=[Wrong()]).run("?")


async def test_a_durable_run_records_what_hooks_made(tmp_path: Path) -> None:
    order: list[str] = []
    url = f"sqlite:///{tmp_path / 'runs.db'}"
    model = ScriptedModel([call("add", a=1, b=2), call("pay", amount=3), say("done ")])

    class Shout(Hooks[None]):
        def before_model(self, context: RunContext[None], step: ModelStep) -> ModelStep:
            order.append("request")
            return replace(step, instructions="Shout.")

        def after_tool(
            self, context: RunContext[None], call: ToolCall, result: ToolResult
        ) -> ToolResult:
            order.append(call.name)
            return replace(result, text=f"{result.text}!")

        def after_model(self, context: RunContext[None], turn: ModelTurn) -> ModelTurn:
            calls = [
                replace(each, arguments=each.arguments.replace("3", "4")) for each in turn.calls
            ]
            return turn._replace(text=turn.text.upper(), calls=tuple(calls))

    agent = Agent(model, tools=[add, pay], hooks=[Shout()])
    with durable(agent, url) as runs:
        paused = await runs.run("?", run_id="a")
    with durable(agent, url) as runs:
        result = await runs.resume("a", {paused.pending[0].call.id: True})
        again = await runs.run(run_id="a")
    assert (result.output, again.output) == ("DONE ", "DONE ")
    assert order == ["request", "add", "request", "pay", "request"]
    assert [m.text for m in result.messages if isinstance(m, ToolResult)] == ["3!", "paid 4!"]
    assert texts(model, 2)[0].startswith("Shout.")


async def test_an_agent_that_takes_over_has_its_own_hooks() -> None:
    order: list[str] = []
    model = ScriptedModel([call("transfer_to_other"), say("x ")])
    other = Agent(model, name="other", hooks=[Change("B", order)])

    class Note(Hooks[None]):
        def before_tool(self, context: RunContext[None], call: ToolCall) -> None:
            order.append(call.name)

    result = await Agent(model, handoffs=[other], hooks=[Note()]).run("?")
    assert result.output == "x B"
    assert order == ["transfer_to_other", "B before model", "B after model"]


def test_a_call_that_a_hook_adds_is_a_call_of_the_model() -> None:
    class Add(Hooks[None]):
        def after_model(self, context: RunContext[None], turn: ModelTurn) -> ModelTurn | None:
            if context.usage.requests > 1:
                return None
            return turn._replace(calls=(ToolCallPart("ADD", '{"a": "1", "b": 2,}'),))

    result = Agent(ScriptedModel([say(""), say("x")]), tools=[add], hooks=[Add()]).run_sync("?")
    assert [made.result.text for made in result.tool_calls if made.result] == ["3"]


async def test_events_have_the_changed_result() -> None:
    agent = Agent(
        ScriptedModel([call("add", a=1, b=2), say("x")]), tools=[add], hooks=[Change("A", [])]
    )
    events = await collect(agent, "?")
    assert [e.result.text for e in events if isinstance(e, ToolCallFinished)] == ["30!"]
