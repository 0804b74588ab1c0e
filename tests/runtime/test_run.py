from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import Callable
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, Literal, Optional, Union

import pytest
from pydantic import BaseModel
from rows import each_row

from agentcall import Agent, Limits, ModelRetry, RunContext, RunResult, tool
from agentcall.errors import BadAnswer, ContextOverflow, CutAnswer, ServerFailed
from agentcall.events import (
    AnswerDiscarded,
    ContextTrimmed,
    Event,
    LoopDetected,
    Nested,
    RunFinished,
    RunStarted,
    ToolCallFinished,
    ToolCallRefused,
    ToolCallRepaired,
    ToolCallStarted,
)
from agentcall.messages import NO_RESULT, Assistant, ToolCall, ToolResult, User
from agentcall.result import MissingOutput, NoOutput
from agentcall.runtime.run import AgentRun
from agentcall.runtime.state import RunInput
from agentcall.testing import (
    FakeServer,
    RecordedRequest,
    ScriptedCall,
    ScriptedModel,
    call,
    calls,
    cut,
    forever,
    no_choices,
    overflow,
    say,
    status,
    times,
)


@tool
def add(a: int, b: int) -> int:
    """Add."""
    return a + b


@tool
def fail(a: int = 0) -> int:
    """Fail."""
    raise ValueError("no network")


class City(BaseModel):
    name: str
    people: int


@dataclass
class Point:
    x: int


def agent(*script: Any, **fields: Any) -> tuple[Agent[Any, Any], ScriptedModel]:
    model = ScriptedModel(list(script))
    return Agent(model, **{"tools": [add, fail], **fields}), model


def assert_whole(result: RunResult[Any]) -> None:
    """Every call that does not wait has one result, so that the messages may be passed back."""
    waiting = {each.call.id for each in result.pending}
    for one, found in result.tool_calls:
        assert (found is None) == (one.id in waiting)
    ids = [one.id for one, _ in result.tool_calls]
    assert len(set(ids)) == len(ids)
    assert "" not in ids


async def events_of(agent: Agent[Any, Any], prompt: str = "go") -> list[Event]:
    return [event async for event in agent.run_stream(prompt)]


def result_in(events: list[Event]) -> RunResult[Any]:
    finished = events[-1]
    assert isinstance(finished, RunFinished)
    return finished.result


# --- answers ---


async def test_a_question_is_answered_over_tools() -> None:
    asked, model = agent(call("add", a=2, b=3), call("add", a=5, b=1), say("6"))
    result = await asked.run("2+3+1?")
    assert (result.output, result.stop_reason) == ("6", "final")
    assert [found.text for _, found in result.tool_calls if found] == ["5", "6"]
    assert (result.usage.requests, result.usage.tool_calls, result.turns) == (3, 2, 3)
    assert result.usage.input_tokens > 0
    assert result.usage.output_tokens > 0
    assert_whole(result)
    assert len(model.requests) == 3


async def test_an_empty_answer_is_asked_for_again_and_then_with_a_word() -> None:
    asked, model = agent(say(""), say("  "), say("done"))
    result = await asked.run("go")
    assert (result.output, result.usage.requests) == ("done", 3)
    assert model.requests[0].messages == model.requests[1].messages
    assert "empty" in model.requests[2].messages[-1]["content"]


async def test_answers_that_stay_empty_raise_with_what_there_was() -> None:
    asked, _ = agent(call("add", a=2, b=3), forever(say("")))
    with pytest.raises(BadAnswer, match="empty answer 3 times") as caught:
        await asked.run("go")
    result = caught.value.result
    assert isinstance(result, RunResult)
    assert result.stop_reason == "error"
    assert result.tool_calls[0][1] == ToolResult("call_1_0", "add", "5")
    assert_whole(result)


@pytest.mark.parametrize("streamed", [False, True])
async def test_an_answer_that_was_cut_runs_no_call_and_is_asked_for_again(streamed: bool) -> None:
    ran: list[int] = []

    @tool
    def once(a: int) -> int:
        """Once."""
        ran.append(a)
        return a

    whole = call("once", a=1)
    script = [cut(whole, after=0.9), whole, say("done")] if streamed else [
        no_choices(), whole, say("done")]  # fmt: skip
    asked, _ = agent(*script, tools=[once])
    events = await events_of(asked) if streamed else []
    result = result_in(events) if streamed else await asked.run("go")
    assert (result.output, ran, result.usage.requests) == ("done", [1], 3)
    assert streamed == any(isinstance(event, AnswerDiscarded) for event in events)


async def test_answers_that_stay_cut_raise_with_the_conversation() -> None:
    asked, _ = agent(forever(cut(say("half an answer"), after=0.5)))
    with pytest.raises(CutAnswer) as caught:
        await events_of(asked)
    result: Any = caught.value.result
    assert result.messages == (User("go"),)
    assert result.usage.requests == 3


async def test_a_call_in_an_answer_that_reached_its_length_is_never_run() -> None:
    long = call("add", a=2, b=3).replace(finish_reason="length")
    asked, model = agent(long, call("add", a=2, b=3), say("5"))
    result = await asked.run("go")
    assert (result.output, len(result.tool_calls)) == ("5", 1)
    assert "length limit" in model.requests[1].messages[-1]["content"]


async def test_text_that_reached_its_length_is_kept() -> None:
    asked, _ = agent(say("a long answ").replace(finish_reason="length"))
    result = await asked.run("go")
    assert (result.output, result.stop_reason) == ("a long answ", "max_tokens")
    asked, _ = agent(say("").replace(finish_reason="length"))
    result = await asked.run("go")
    assert result.answer == MissingOutput("the answer reached the length limit")


async def test_a_server_that_fails_raises_with_the_conversation() -> None:
    asked, _ = agent(call("add", a=2, b=3), status(500))
    with pytest.raises(ServerFailed) as caught:
        await asked.run("go")
    result: Any = caught.value.result
    assert (result.stop_reason, len(result.messages)) == ("error", 3)
    assert result.usage.tool_calls == 1
    again, _ = agent(say("5"))
    assert (await again.run("and?", messages=result.messages)).output == "5"


# --- calls that are wrong ---


@each_row(
    ("wrong", "words"),
    [
        (call("div", a=1), "The tools are: add, fail"),
        (call("add", a=1), "b"),
        (call("add", a="many", b=2), "many"),
        (calls(ScriptedCall("add", '{"a": 1, "b": ')), "add"),
        (say('<tool_call>\n{"name": "add", "arguments": {"a": 1, \n</tool_call>'), "add"),
    ],
)
async def test_a_wrong_call_is_told_and_never_run(wrong: Any, words: str) -> None:
    asked, model = agent(wrong, call("add", a=2, b=3), say("5"))
    result = await asked.run("go")
    assert result.output == "5"
    assert result.usage.tool_calls == 1
    assert words in model.requests[1].messages[-1]["content"]
    assert_whole(result)


async def test_a_repaired_call_is_shown_run_and_recorded_as_it_was_repaired() -> None:
    asked, model = agent(calls(ScriptedCall("functions.Add", "{'a': 2, 'b': 3,}")), say("5"))
    events = await events_of(asked)
    repaired = [event for event in events if isinstance(event, ToolCallRepaired)]
    assert repaired
    assert {event.call.name for event in repaired} == {"add"}
    (sent,) = model.requests[1].messages[-2]["tool_calls"]
    assert json.loads(sent["function"]["arguments"]) == {"a": 2, "b": 3}


@pytest.mark.parametrize("identity", ["", "same"])
async def test_ids_that_are_missing_or_double_are_made_anew(identity: str) -> None:
    both = calls(
        ScriptedCall("add", {"a": 1, "b": 1}, identity),
        ScriptedCall("add", {"a": 2, "b": 2}, identity),
    )
    asked, _ = agent(both, calls(ScriptedCall("add", {"a": 3, "b": 3}, identity)), say("done"))
    result = await asked.run("go")
    assert [found.text for _, found in result.tool_calls if found] == ["2", "4", "6"]
    assert_whole(result)


async def test_ids_of_the_history_are_not_used_again() -> None:
    asked, _ = agent(call("add", a=1, b=1), say("2"),
                     calls(ScriptedCall("add", {"a": 2, "b": 2}, "")),
                     say("4"))  # fmt: skip
    first = await asked.run("go")
    second = await asked.run("and?", messages=first.messages)
    everything = [c.id for m in second.messages if isinstance(m, Assistant) for c in m.calls]
    assert len(set(everything)) == 2


async def test_a_tool_that_fails_is_told_and_may_be_called_again() -> None:
    tries = itertools.count()

    @tool
    def flaky(a: int) -> str:
        """Flaky."""
        if next(tries) == 0:
            raise ConnectionError("no network")
        return "fine"

    asked, model = agent(call("flaky", a=1), call("flaky", a=2), say("ok"), tools=[flaky])
    assert (await asked.run("go")).output == "ok"
    assert model.requests[1].messages[-1]["content"] == "ConnectionError: no network"


async def test_a_tool_knows_how_often_it_has_failed() -> None:
    seen: list[tuple[int, str]] = []

    @tool(retries=2)
    def picky(ctx: RunContext[None], a: int) -> str:
        """Picky."""
        seen.append((ctx.retry, ctx.idempotency_key))
        raise ModelRetry(f"not {a}")

    asked, model = agent(*(call("picky", a=n) for n in range(3)), say("ok"), tools=[picky])
    result = await asked.run("go")
    assert [retry for retry, _ in seen] == [0, 1, 2]
    assert [key for _, key in seen] == [f"{result.run_id}:{n}:0" for n in (1, 2, 3)]
    assert model.requests[1].messages[-1]["content"].endswith("Please try again.")
    assert "Do not call picky again" in model.requests[3].messages[-1]["content"]


# --- limits ---


async def test_the_last_request_is_asked_for_an_answer_without_tools() -> None:
    def brain(request: RecordedRequest) -> Any:
        closed = request.body.get("tool_choice") == "none"
        return say("the best I have") if closed else call("add", a=request.number, b=1)

    asked = Agent(ScriptedModel(brain), tools=[add], limits=Limits(requests=3))
    result = await asked.run("go")
    assert (result.output, result.stop_reason) == ("the best I have", "max_requests")
    assert (result.usage.requests, result.usage.tool_calls) == (3, 2)


async def test_the_result_of_a_tool_is_no_output_of_the_model() -> None:
    asked, _ = agent(*(call("add", a=n, b=n) for n in range(9)), limits=Limits(requests=3))
    result = await asked.run("go")
    assert (result.last_tool_result, result.stop_reason) == ("2", "max_requests")
    assert isinstance(result.answer, MissingOutput)
    with pytest.raises(NoOutput, match=r"result\.last_tool_result"):
        _ = result.output
    assert_whole(result)


async def test_tool_calls_are_limited() -> None:
    asked, model = agent(
        calls(call("add", a=1, b=1), call("add", a=2, b=2), call("add", a=3, b=3)), say("6"),
        limits=Limits(tool_calls=2),
    )  # fmt: skip
    result = await asked.run("go")
    assert (result.output, result.stop_reason) == ("6", "max_tool_calls")
    assert result.usage.tool_calls == 2
    assert [found.is_error for _, found in result.tool_calls if found] == [False, False, True]
    assert model.requests[1].body["tool_choice"] == "none"


async def test_tokens_are_limited() -> None:
    asked, _ = agent(forever(call("add", a=1, b=1)), limits=Limits(tokens=10))
    result = await asked.run("go")
    assert (result.stop_reason, result.usage.requests) == ("max_tokens", 1)
    assert_whole(result)


async def test_the_time_may_be_up_while_the_model_speaks() -> None:
    asked, _ = agent(call("add", a=1, b=1), say("late").replace(latency=60.0),
                     limits=Limits(seconds=0.2))  # fmt: skip
    result = await asked.run("go")
    assert result.stop_reason == "timeout"
    assert result.answer == MissingOutput("it took longer than 0.2 seconds")
    assert_whole(result)


async def test_the_time_may_be_up_while_tools_work_and_what_was_done_is_kept() -> None:
    ended: list[str] = []

    @tool
    async def slow(a: int) -> str:
        """Slow."""
        try:
            await asyncio.sleep(a)
        finally:
            ended.append(f"slow {a}")
        return "slept"

    asked, _ = agent(calls(call("slow", a=0), call("slow", a=10)), tools=[slow],
                     limits=Limits(seconds=0.2))  # fmt: skip
    result = await asked.run("go")
    assert result.stop_reason == "timeout"
    assert [found.text for _, found in result.tool_calls if found] == ["slept", NO_RESULT]
    assert ended == ["slow 0", "slow 10"]
    assert_whole(result)
    again, model = agent(say("ok"))
    await again.run("go on", messages=result.messages)
    assert [m["role"] for m in model.requests[0].messages] == [
        "user", "assistant", "tool", "tool", "user"]  # fmt: skip


async def test_a_run_without_limits_goes_on_for_long() -> None:
    unlimited = Limits(None, None, None, None, None, None)
    asked, _ = agent(*(call("add", a=n, b=1) for n in range(60)), say("done"), limits=unlimited)
    result = await asked.run("go")
    assert (result.output, result.usage.tool_calls) == ("done", 60)


async def test_a_run_with_one_request_may_still_call() -> None:
    asked, model = agent(call("add", a=1, b=1), limits=Limits(requests=1))
    result = await asked.run("go")
    assert result.stop_reason == "max_requests"
    assert result.usage.tool_calls == 1
    assert "tool_choice" not in model.requests[0].body


# --- circles ---


@pytest.mark.parametrize(
    "spelling",
    [
        ['{"a": 2, "b": 3}'],
        ['{"a":2,"b":3}', '{"b": 3, "a": 2}', '{ "a" : 2.0, "b": 3 }', '{"a": "2", "b": 3}'],
    ],
)
async def test_an_identical_call_is_carried_out_once_and_ends_soon(spelling: list[str]) -> None:
    ran: list[int] = []

    @tool
    def plus(a: int, b: int) -> int:
        """Add."""
        ran.append(a)
        return a + b

    script = [
        calls(ScriptedCall("plus", text)) for text in itertools.islice(itertools.cycle(spelling), 9)
    ]
    asked, model = agent(*script, tools=[plus])
    events = await events_of(asked)
    result = result_in(events)
    assert (ran, result.stop_reason, result.last_tool_result) == ([2], "loop", "5")
    assert isinstance(result.answer, MissingOutput)
    assert len(model.requests) <= 5
    assert any(isinstance(event, LoopDetected) for event in events)
    assert "It gave:\n5" in model.requests[2].messages[-1]["content"]
    assert_whole(result)


async def test_a_model_that_is_asked_for_its_answer_may_still_give_it() -> None:
    asked, _ = agent(times(call("add", a=2, b=3), 3), say("It is 5."))
    result = await asked.run("go")
    assert (result.output, result.stop_reason) == ("It is 5.", "loop")


async def test_the_same_call_twice_in_one_turn_is_carried_out_once_and_answered_twice() -> None:
    ran: list[int] = []

    @tool
    def plus(a: int) -> int:
        """Plus."""
        ran.append(a)
        return a + 1

    asked, _ = agent(calls(call("plus", a=1), call("plus", a=1), call("plus", a=2)), say("ok"),
                     tools=[plus])  # fmt: skip
    result = await asked.run("go")
    texts = [found.text for _, found in result.tool_calls if found]
    assert sorted(ran) == [1, 2]
    assert texts[0] == "2"
    assert texts[1].endswith("2")
    assert "twice" in texts[1]
    assert texts[2] == "3"
    assert_whole(result)


async def test_reading_again_after_acting_is_no_circle() -> None:
    state = {"light": "off"}

    @tool
    def look() -> str:
        """Look."""
        return state["light"]

    @tool
    def switch(to: str) -> str:
        """Switch."""
        state["light"] = to
        return "done"

    asked, _ = agent(call("look"), call("switch", to="on"), call("look"), call("switch", to="off"),
                     call("look"), say("ok"), tools=[look, switch])  # fmt: skip
    result = await asked.run("go")
    assert [found.text for _, found in result.tool_calls if found] == [
        "off", "done", "on", "done", "off"]  # fmt: skip
    assert result.stop_reason == "final"


async def test_a_circle_of_two_calls_is_left() -> None:
    asked, model = agent(*[call("add", a=1, b=1), call("add", a=2, b=2)] * 9)
    result = await asked.run("go")
    assert result.stop_reason == "loop"
    assert result.usage.tool_calls == 4
    assert len(model.requests) <= 7


async def test_a_polling_tool_may_be_called_again_and_again() -> None:
    left = itertools.count(3, -1)

    @tool(polling=True)
    def poll() -> int:
        """Poll."""
        return next(left)

    asked, _ = agent(*[call("poll")] * 4, say("ready"), tools=[poll])
    result = await asked.run("go")
    assert (result.stop_reason, result.usage.tool_calls) == ("final", 4)


@pytest.mark.parametrize(
    "wrong", [lambda n: call("fail", a=n), lambda n: call("div"), lambda n: call("add", a="x")]
)
async def test_the_same_error_again_and_again_ends_soon(wrong: Callable[[int], Any]) -> None:
    asked, model = agent(*(wrong(n) for n in range(20)))
    result = await asked.run("go")
    assert result.stop_reason == "loop"
    assert len(model.requests) <= 5
    assert isinstance(result.answer, MissingOutput)
    assert_whole(result)


async def test_one_error_of_many_calls_of_a_turn_counts_once() -> None:
    asked, _ = agent(calls(*(call("fail", a=n) for n in range(5))), call("add", a=1, b=1), say("2"))
    result = await asked.run("go")
    assert (result.output, result.stop_reason) == ("2", "final")


# --- typed output ---


@each_row(
    ("kind", "text", "value"),
    [
        (City, '{"name": "上海", "people": 24}', City(name="上海", people=24)),
        (City, 'Sure:\n```json\n{"name": "x", "people": 1}\n```', City(name="x", people=1)),
        (Point, '{"x": 3}', Point(3)),
        (Union[City, Point], '{"x": 3}', Point(3)),  # noqa: UP007
        (list[int], "[1, 2]", [1, 2]),
        (int, "42", 42),
        (bool, "true", True),
        (Literal["red", "blue"], "red", "red"),
        (Optional[int], "null", None),  # noqa: UP045
    ],
)
async def test_an_output_has_its_type(kind: Any, text: str, value: object) -> None:
    asked, model = agent(call("add", a=1, b=1), say(text), output_type=kind)
    result = await asked.run("go")
    assert (result.output, result.stop_reason) == (value, "final")
    assert "JSON" in model.requests[0].messages[0]["content"]


async def test_an_output_that_does_not_fit_is_asked_for_again_with_what_was_wrong() -> None:
    asked, model = agent(say('{"name": "x", "people": "many"}'), say('{"name":"x","people":2}'),
                         output_type=City)  # fmt: skip
    events = await events_of(asked)
    assert result_in(events).output == City(name="x", people=2)
    assert "people" in model.requests[1].messages[-1]["content"]
    assert any(isinstance(event, AnswerDiscarded) for event in events)


async def test_an_output_that_never_fits_is_missing_with_the_reason() -> None:
    asked, model = agent(forever(say("I do not know.")), output_type=City)
    result = await asked.run("go")
    assert result.stop_reason == "error"
    assert len(model.requests) == 3
    assert result.text == "I do not know."
    with pytest.raises(NoOutput, match="did not fit the output type"):
        result.output


async def test_a_typed_output_that_is_whole_at_its_length_is_kept() -> None:
    asked, _ = agent(say("[1, 2]").replace(finish_reason="length"), output_type=list[int])
    assert (await asked.run("go")).output == [1, 2]


# --- one run beside another, and after another ---


async def test_two_runs_of_one_agent_do_not_mix() -> None:
    def brain(request: RecordedRequest) -> Any:
        said = request.messages
        number = int(said[0]["content"])
        return say(said[-1]["content"]) if len(said) > 1 else call("add", a=number, b=number)

    asked = Agent(ScriptedModel(brain), tools=[add])
    results = await asyncio.gather(*(asked.run(str(n)) for n in range(20)))
    assert [result.output for result in results] == [str(2 * n) for n in range(20)]
    assert len({result.run_id for result in results}) == 20


async def test_the_messages_of_one_run_begin_the_next() -> None:
    asked, model = agent(call("add", a=1, b=1), say("2"), say("as I said"))
    first = await asked.run("1+1?")
    second = await asked.run("sure?", messages=first.messages)
    assert second.messages[: len(first.messages)] == first.messages
    assert second.new_messages == (User("sure?"), Assistant("as I said"))
    assert second.tool_calls == ()
    assert [m["role"] for m in model.requests[2].messages] == [
        "user", "assistant", "tool", "assistant", "user"]  # fmt: skip


async def test_a_request_begins_with_the_bytes_of_the_one_before() -> None:
    asked, model = agent(
        call("add", a=1, b=1), call("fail"), say(""), say(""), say("2"), instructions="Be brief."
    )
    await asked.run("你好")
    sent = [request.raw.removesuffix(b"]}") for request in model.requests]
    assert len(sent) == 5
    assert all(later.startswith(earlier) for earlier, later in itertools.pairwise(sent))
    assert "你好".encode() in sent[0]


async def test_a_lone_surrogate_in_the_prompt_is_no_reason_to_fail() -> None:
    asked, model = agent(say("ok"))
    assert (await asked.run("bad \ud800 text")).output == "ok"
    assert model.requests[0].messages[0]["content"] == "bad ? text"


async def test_a_cancelled_run_says_so_to_those_who_watch() -> None:
    asked, _ = agent(say("late").replace(latency=10.0))
    seen: list[Event] = []
    run = AgentRun(asked.spec, RunInput("r", (User("go"),), 0), seen.append)
    task = asyncio.ensure_future(run.execute())
    await asyncio.sleep(0.05)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert isinstance(seen[-1], RunFinished)
    assert seen[-1].result.stop_reason == "cancelled"


async def test_text_that_came_with_a_call_is_kept_but_is_no_answer() -> None:
    both = calls(call("add", a=1, b=1), text="Let me see.")
    asked, _ = agent(both, limits=Limits(requests=1))
    result = await asked.run("go")
    assert result.messages[1] == Assistant(
        "Let me see.", (ToolCall("call_1_0", "add", '{"a": 1, "b": 1}'),)
    )
    assert isinstance(result.answer, MissingOutput)


# --- a conversation that is too long ---


@each_row("like", ["lmdeploy", "lmdeploy-0.5", "vllm", "llama.cpp", "openai"])
async def test_large_results_are_shortened_where_the_window_is_too_small(like: Any) -> None:
    text = "".join(f"line {n}\n" for n in range(4000))

    @tool
    def long() -> str:
        """Long."""
        return text

    def brain(request: RecordedRequest) -> Any:
        if len(request.messages) == 1:
            return call("long")
        if request.prompt_tokens > 2000:
            return overflow(like, context=2000)
        if not any(m.get("name") == "read_result" for m in request.messages):
            identity = request.messages[2]["tool_call_id"]
            return call("read_result", call_id=identity, page=2)
        return say("done")

    asked = Agent(ScriptedModel(brain), tools=[long])
    events = await events_of(asked)
    result = result_in(events)
    assert (result.output, result.stop_reason) == ("done", "final")
    assert any(isinstance(event, ContextTrimmed) for event in events)
    (_, first), (_, page) = result.tool_calls
    assert first is not None
    assert first.text == text
    assert page is not None
    assert page.text.startswith("[page 2 of ")
    assert_whole(result)


async def test_a_conversation_that_cannot_be_shortened_raises() -> None:
    asked, _ = agent(call("add", a=1, b=1), forever(overflow("vllm", context=10)))
    with pytest.raises(ContextOverflow) as caught:
        await asked.run("go")
    assert isinstance(caught.value.result, RunResult)


async def test_a_call_that_is_refused_is_told_where_it_happens() -> None:
    agent = Agent(ScriptedModel([call("nope", a=1), say("Well.")]), tools=[add])
    events = [event async for event in agent.run_stream("Go")]
    (refused,) = [event for event in events if isinstance(event, ToolCallRefused)]
    assert refused.call.name == "nope"
    assert refused.result.is_error
    assert "add" in refused.result.text


@pytest.mark.parametrize("is_cut", [True, False])
async def test_a_server_that_cuts_the_conversation_without_a_word_is_noticed(is_cut: bool) -> None:
    @tool
    def long() -> str:
        """Long."""
        return "some words " * 1000

    def brain(request: RecordedRequest) -> Any:
        if len(request.messages) == 1:
            return call("long").replace(usage={"prompt_tokens": 1800, "completion_tokens": 9})
        seen = min(2000, request.prompt_tokens) if is_cut else request.prompt_tokens + 1800
        return say("done").replace(usage={"prompt_tokens": seen, "completion_tokens": 1})

    events = await events_of(Agent(ScriptedModel(brain), tools=[long]))
    result = result_in(events)
    assert result.output == "done"
    assert any(isinstance(event, ContextTrimmed) for event in events) == is_cut
    assert any(isinstance(event, AnswerDiscarded) for event in events) == is_cut
    assert_whole(result)


@pytest.mark.parametrize("kind", [ToolCallFinished, ToolCallStarted, RunStarted])
async def test_nothing_is_asked_when_the_reader_has_left(kind: type[Event]) -> None:
    with FakeServer([call("add", a=1, b=1), forever(say("2"))]) as server:
        events = Agent(server.url, tools=[add]).run_stream("go")
        async with aclosing(events):
            async for event in events:
                if isinstance(event, kind):
                    for _ in range(20):
                        await asyncio.sleep(0.005)
                    break
        asked = [request for request in server.requests if not request.is_probe]
    assert len(asked) == (0 if kind is RunStarted else 1)


async def test_the_agents_below_ask_nothing_either_when_the_reader_has_left() -> None:
    inner = ScriptedModel([call("add", a=1, b=1), forever(say("2"))])
    helper = Agent(inner, tools=[add], name="helper")
    outer = ScriptedModel([call("helper", task="1+1?"), forever(say("2"))])
    events = Agent(outer, tools=[helper.as_tool()]).run_stream("go")
    async with aclosing(events):
        async for event in events:
            if isinstance(event, Nested) and isinstance(event.event, ToolCallFinished):
                for _ in range(20):
                    await asyncio.sleep(0.005)
                break
    assert (len(outer.requests), len(inner.requests)) == (1, 1)
