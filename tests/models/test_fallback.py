from __future__ import annotations

import pytest
from asking import heard, question

from agentcall import Agent
from agentcall.errors import ContextOverflow, ModelError, ServerFailed, UnknownModel, UsageError
from agentcall.models.fallback import Fallback
from agentcall.models.http import HTTPEndpoint
from agentcall.models.http_chat import HTTPChat
from agentcall.testing import (
    FakeServer,
    ScriptedModel,
    error_in_stream,
    forever,
    overflow,
    say,
    status,
)


def model(server: FakeServer) -> HTTPChat:
    return HTTPChat(HTTPEndpoint(server.url, tries=1), "m", dialect="native")


@pytest.mark.parametrize("stream", [False, True])
async def test_the_next_model_answers_where_one_fails(stream: bool) -> None:
    with FakeServer([forever(status(503))]) as broken, FakeServer([forever(say("hi"))]) as sound:
        answer = await heard(Fallback(model(broken), model(sound)).ask(question(stream)))
        assert (len(broken.requests), len(sound.requests)) == (1, 1)
    assert answer.text == "hi"


async def test_the_first_model_is_enough_where_it_answers() -> None:
    other = ScriptedModel([say("no")])
    with FakeServer([say("hi")]) as sound:
        assert (await heard(Fallback(model(sound), other).ask(question()))).text == "hi"
    assert other.requests == []


async def test_the_last_error_is_raised_where_none_answers() -> None:
    with FakeServer([status(500)]) as one, FakeServer([status(503)]) as two:
        both = Fallback(model(one), model(two))
        with pytest.raises(ServerFailed) as caught:
            await heard(both.ask(question()))
    assert caught.value.status == 503


async def test_what_was_said_cannot_be_unsay() -> None:
    other = ScriptedModel([say("no")])
    with FakeServer([error_in_stream(say("one two three four"), after=0.6)]) as broken:
        both = Fallback(model(broken), other)
        with pytest.raises(ModelError):
            await heard(both.ask(question(True)))
    assert other.requests == []


async def test_a_conversation_too_long_for_one_goes_to_the_next() -> None:
    with FakeServer([overflow("vllm"), overflow("vllm")]) as small:
        other = ScriptedModel([say("hi")])
        assert (await heard(Fallback(model(small), other).ask(question()))).text == "hi"
        with pytest.raises(ContextOverflow):
            await heard(Fallback(model(small)).ask(question()))


async def test_shorthands_are_models() -> None:
    with FakeServer([forever(status(503))]) as broken, FakeServer([forever(say("hi"))]) as sound:
        first = HTTPChat(HTTPEndpoint(broken.url, tries=1), "m", dialect="native")
        assert (await Agent(Fallback(first, sound.url)).run("hi")).output == "hi"


def test_a_shorthand_that_means_nothing_is_refused_at_once() -> None:
    with pytest.raises(UnknownModel):
        Fallback("gpt-12")


def test_no_models_are_refused() -> None:
    with pytest.raises(UsageError, match="at least one"):
        Fallback()
