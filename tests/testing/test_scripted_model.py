from __future__ import annotations

import pytest
from asking import heard, question

from agentcall import Agent
from agentcall.errors import BadAnswer, ContextOverflow, ModelRefused, RateLimited, UsageError
from agentcall.testing import (
    RecordedRequest,
    Reply,
    ScriptedModel,
    bad_json,
    call,
    calls,
    cut,
    flat_error,
    forever,
    overflow,
    say,
    sse,
    status,
)


def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


@pytest.fixture(params=[False, True], ids=["plain", "streamed"])
def stream(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


async def test_replies_are_answers_in_order(stream: bool) -> None:
    model = ScriptedModel([say("one", thinking="hm"), call("add", a=1, b=2)])
    first = await heard(model.ask(question(stream)))
    assert (first.text, first.thinking, first.finish) == ("one", "hm", "stop")
    second = await heard(model.ask(question(stream)))
    assert [(one.name, one.arguments) for one in second.calls] == [("add", '{"a": 1, "b": 2}')]
    assert second.finish == "tool_calls"


async def test_a_run_goes_through_a_script(stream: bool) -> None:
    model = ScriptedModel([calls(call("add", a=2, b=3), call("add", a=1, b=1)), say("5 and 2")])
    agent = Agent(model, tools=[add])
    if stream:
        _ = [event async for event in agent.run_stream("2+3, 1+1?")]
    else:
        assert (await agent.run("2+3, 1+1?")).output == "5 and 2"
    results = [m["content"] for m in model.requests[1].messages if m["role"] == "tool"]
    assert results == ["5", "2"]


async def test_a_function_answers_what_it_reads() -> None:
    def script(asked: RecordedRequest) -> Reply:
        last = asked.messages[-1]
        return say(last["content"]) if last["role"] == "tool" else call("add", a=20, b=3)

    assert (await Agent(ScriptedModel(script), tools=[add]).run("?")).output == "23"


async def test_faults_are_raised_as_a_server_would(stream: bool) -> None:
    script = [
        status(429, headers={"Retry-After": "3"}),
        overflow("lmdeploy"),
        status(200, body=flat_error("no")),
        bad_json(),
    ]
    model = ScriptedModel(script)
    with pytest.raises(RateLimited) as caught:
        await heard(model.ask(question(stream)))
    assert caught.value.retry_after == 3.0
    with pytest.raises(ContextOverflow):
        await heard(model.ask(question(stream)))
    for _ in range(2):
        with pytest.raises((BadAnswer, ModelRefused), match=r"no|JSON"):
            await heard(model.ask(question(stream)))


async def test_an_answer_that_is_cut_has_no_end() -> None:
    model = ScriptedModel([cut(call("add", a=1, b=2)), sse(say("hi"), "split", "crlf")])
    assert (await heard(model.ask(question(True)))).finish is None
    assert (await heard(model.ask(question(True)))).text == "hi"


async def test_a_script_that_is_over_says_so() -> None:
    model = ScriptedModel([say("one")])
    await heard(model.ask(question()))
    with pytest.raises(UsageError, match="script is over"):
        await heard(model.ask(question()))


async def test_a_script_may_go_on_for_ever(stream: bool) -> None:
    model = ScriptedModel([forever(say("hi"))])
    for _ in range(5):
        assert (await heard(model.ask(question(stream)))).text == "hi"


def test_what_is_no_script_is_refused() -> None:
    with pytest.raises(UsageError, match="say"):
        ScriptedModel(["hi"])  # type: ignore[list-item]
    with pytest.raises(UsageError, match="one of them"):
        ScriptedModel([say("hi")], brain=lambda messages, tools: say("hi"))


async def test_text_beyond_ascii_stays_as_it_is(stream: bool) -> None:
    answer = await heard(ScriptedModel([call("add", city="北京")]).ask(question(stream)))
    assert answer.calls[0].arguments == '{"city": "北京"}'
