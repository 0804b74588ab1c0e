"""Refusals over HTTP: learned once, shared, repeated, forgotten; over both clients."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
from openai import AsyncOpenAI, DefaultAsyncHttpxClient
from rows import each_row

from agentcall import Agent, tool
from agentcall.errors import ModelRefused, ModelUnreachable
from agentcall.events import Event, RunFinished, ServerAdapted
from agentcall.messages import Image, Text, User
from agentcall.models import HTTPChat, LoadBalancer, Model
from agentcall.models.adaptations import forget_server
from agentcall.models.capabilities import clear_dialect_cache
from agentcall.models.http import HTTPEndpoint
from agentcall.models.openai_client import OpenAIChat
from agentcall.testing import (
    FakeServer,
    RecordedRequest,
    Reply,
    call,
    error_in_stream,
    openai_error,
    say,
    status,
)
from agentcall.testing.chat_rules import GEMMA, MISTRAL

Make = Callable[[FakeServer], Model]


def make_http(server: FakeServer) -> Model:
    return HTTPChat(server.url, "fake-model", api_key="k")


@pytest.fixture
async def make_openai() -> AsyncIterator[Make]:
    clients: list[AsyncOpenAI] = []

    def make(server: FakeServer) -> Model:
        quick = DefaultAsyncHttpxClient(verify=False)  # reading certificates takes most of a test
        clients.append(
            AsyncOpenAI(base_url=server.url, api_key="k", max_retries=0, http_client=quick)
        )
        return OpenAIChat(clients[-1], "fake-model")

    yield make
    for client in clients:
        await client.close()


@pytest.fixture(params=["http", "openai"])
def make(request: pytest.FixtureRequest, make_openai: Make) -> Iterator[Make]:
    clear_dialect_cache()
    yield make_http if request.param == "http" else make_openai
    clear_dialect_cache()


@tool(read_only=True)
def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


def refuse(words: str, code: int = 400) -> Reply:
    return status(code, body=openai_error(words, status=code))


async def collect(agent: Agent[Any, Any], prompt: Any, **options: Any) -> list[Event]:
    return [event async for event in agent.run_stream(prompt, **options)]


def adapted(events: list[Event]) -> list[str]:
    return [event.name for event in events if isinstance(event, ServerAdapted)]


def output(events: list[Event]) -> object:
    last = events[-1]
    assert isinstance(last, RunFinished)
    return last.result.output


def strict(*checks: tuple[Callable[[RecordedRequest], bool], str]) -> Callable[..., Reply]:
    """A server with a refusal for each check; it calls `add` once, then answers."""

    def answer(request: RecordedRequest) -> Reply:
        for check, words in checks:
            if check(request):
                return refuse(words)
        if "5" in str(request.messages[-1].get("content")):
            return say("It is 5.")
        return call("add", a=2, b=3)

    return answer


async def test_several_refusals_of_one_request_are_learned_one_by_one(make: Make) -> None:
    script = strict(
        (lambda r: r.messages[0]["role"] == "system", "System role not supported"),
        (lambda r: "stream_options" in r.body, "Unknown parameter: stream_options"),
        (lambda r: any("name" in m for m in r.messages), 'messages[2]: "name" is not supported'),
    )
    with FakeServer(script) as server:
        agent = Agent(make(server), instructions="Add.", tools=[add])
        events = await collect(agent, "2 + 3?")
        assert output(events) == "It is 5."
        assert set(adapted(events)) == {
            *("no system role", "no stream_options", "no name on tool messages")
        }
        assert len(server.requests) == 5
        assert all(request.tools for request in server.requests)
        assert len(await collect(agent, "2 + 3?")) == len(events)
        assert len(server.requests) == 7


async def test_every_run_says_how_it_is_adapted_and_the_log_when_it_is_learned(
    make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    with FakeServer(lambda _: say("Hi"), rules=GEMMA) as server:
        agent = Agent(make(server), instructions="Be kind.")
        with caplog.at_level(logging.INFO, "agentcall.models"):
            events = [await collect(agent, "Hi") for _ in range(2)]
        assert [adapted(each) for each in events] == [["no system role"], ["no system role"]]
        assert sum("System role not supported" in record.message for record in caplog.records) == 1


async def test_what_one_client_learns_the_others_know(make_openai: Make) -> None:
    clear_dialect_cache()
    with FakeServer(lambda _: say("Hi"), rules=GEMMA) as server:
        for model in (make_http(server), make_openai(server), make_http(server)):
            assert (await Agent(model, instructions="Be kind.").run("Hi")).output == "Hi"
        assert len(server.requests) == 4
        other = HTTPChat(server.url, "other-model", api_key="k", dialect="native")
        await Agent(other, instructions="Be kind.").run("Hi")
        assert len(server.requests) == 6
        forget_server(server.url)
        await Agent(make_http(server), instructions="Be kind.").run("Hi")
        assert len(server.requests) == 8


async def test_a_plain_answer_is_asked_for_as_a_stream_where_there_are_only_streams(
    make: Make,
) -> None:
    script = strict((lambda r: not r.stream, "This model only support stream mode"))
    with FakeServer(script) as server:
        agent = Agent(make(server), tools=[add])
        assert (await agent.run("2 + 3?")).output == "It is 5."
        assert [request.stream for request in server.requests] == [False, True, True]
        assert all(request.tools for request in server.requests)


async def test_a_stream_is_asked_for_in_one_piece_where_there_are_none(make: Make) -> None:
    script = strict((lambda r: r.stream, "Streaming is not supported"))
    with FakeServer(script) as server:
        events = await collect(Agent(make(server), tools=[add]), "2 + 3?")
        assert output(events) == "It is 5."
        assert [request.stream for request in server.requests] == [True, False, False]
        assert all(request.tools for request in server.requests)


async def test_a_refusal_of_an_id_does_not_turn_tools_off(make: Make) -> None:
    def is_odd(request: RecordedRequest) -> bool:
        ids = [m["tool_call_id"] for m in request.messages if m["role"] == "tool"]
        return any(len(each) != 9 for each in ids)

    script = strict((is_odd, "tool_calls[0].id: string too short"))
    with FakeServer(script) as server:
        events = await collect(Agent(make(server), tools=[add]), "2 + 3?")
        assert output(events) == "It is 5."
        assert adapted(events) == ["call ids of nine letters and digits"]
        assert all(request.tools for request in server.requests)


async def test_a_refusal_of_unknown_words_keeps_the_tools_that_worked(make: Make) -> None:
    script = strict((lambda r: len(r.messages) > 2, "the tool said something bad"))
    with FakeServer(script) as server:
        model = make(server)
        with pytest.raises(ModelRefused, match="something bad"):
            await Agent(model, tools=[add]).run("2 + 3?")
        assert isinstance(model, (HTTPChat, OpenAIChat))
        assert (await model.resolve_dialect()).dialect.name == "native"
        assert len(server.requests) == 2


async def test_the_plain_text_dialect_is_the_last_resort(make: Make) -> None:
    def answer(request: RecordedRequest) -> Reply:
        if request.tools:
            return refuse("No endpoints found that support tool use.", 404)
        if "response_format" in request.body:
            return refuse("response_format is not supported")
        if "5" in request.messages[-1]["content"]:
            return say('{"answer": "It is 5."}')
        return say('{"name": "add", "arguments": {"a": 2, "b": 3}}')

    with FakeServer(answer) as server:
        result = await Agent(make(server), tools=[add]).run("2 + 3?")
        assert result.output == "It is 5."
        assert result.usage.tool_calls == 1


@each_row("form", ["openai", "flat", "text", "event"])
@each_row("code", [200, 400, 422, 500])
@each_row("stream", [False, True])
async def test_a_refusal_is_recognized_in_every_form(
    make: Make, form: Any, code: int, *, stream: bool
) -> None:
    rules = replace(MISTRAL, status=code, form=form)
    with FakeServer(lambda _: say("Hi"), rules=rules) as server:
        agent = Agent(make(server), instructions="Be kind.")
        history = (User("Hello"),)
        if stream:
            assert output(await collect(agent, "Hi", messages=history)) == "Hi"
        else:
            assert (await agent.run("Hi", messages=history)).output == "Hi"
        assert len(server.requests) == 2


@each_row(
    "refusal",
    [
        {"code": 20015, "message": "System role not supported"},
        {"detail": "System role not supported"},
        {"success": False, "errorMessage": "System role not supported"},
        {"choices": None, "base_resp": {"status_msg": "System role not supported"}},
        {"choices": [{"index": 0, "error": {"message": "System role not supported"}}]},
    ],
)
@each_row("stream", [False, True])
async def test_a_refusal_under_200_without_an_error_is_recognized(
    make: Make, refusal: Any, *, stream: bool
) -> None:
    def answer(request: RecordedRequest) -> Reply:
        if request.messages[0]["role"] == "system":
            return status(200, body=refusal)
        return say("Hi")

    with FakeServer(answer) as server:
        agent = Agent(make(server), instructions="Be kind.")
        if stream:
            assert output(await collect(agent, "Hi")) == "Hi"
        else:
            assert (await agent.run("Hi")).output == "Hi"


async def test_a_refusal_as_text_of_a_stream_is_recognized(make: Make) -> None:
    event = status(200, body=b"data: Error: System role not supported\n\n")
    with FakeServer([event, say("Hi")]) as server:
        assert output(await collect(Agent(make(server), instructions="Be kind."), "Hi")) == "Hi"


async def test_a_request_is_not_repeated_once_a_part_of_its_answer_has_arrived() -> None:
    words = "Conversation roles must alternate user/assistant/user/assistant/..."
    reply = error_in_stream(say("a long answer " * 20), after=0.5, error=words)
    with FakeServer([reply]) as server:
        agent = Agent(HTTPChat(server.url, "fake-model", dialect="native"))
        with pytest.raises(ModelRefused, match="must alternate"):
            await collect(agent, "Hi", messages=(User("Hello"),))
        assert len(server.requests) == 1


async def test_a_refusal_that_does_not_go_away_is_raised_and_teaches_nothing(make: Make) -> None:
    with FakeServer(lambda _: refuse("System role not supported")) as server:
        agent = Agent(make(server), instructions="Be kind.")
        for count in (2, 4):
            with pytest.raises(ModelRefused, match="System role not supported"):
                await agent.run("Hi")
            assert len(server.requests) == count


async def test_a_model_that_is_gone_is_looked_up_again() -> None:
    clear_dialect_cache()
    served = ["old"]

    class Listing:
        def answer(self, request: RecordedRequest) -> Any:
            return status(200, body={"data": [{"id": served[0]}]}).answer(request)

    def answer(request: RecordedRequest) -> Reply:
        name = request.body["model"]
        if name != served[0]:
            return refuse(f"The model `{name}` does not exist.", 404)
        return say(f"I am {name}")

    with FakeServer(answer, pages={"/v1/models": Listing()}) as server:
        agent = Agent(HTTPChat(server.url))
        assert (await agent.run("Hi")).output == "I am old"
        served[0] = "new"
        assert (await agent.run("Hi")).output == "I am new"
        assert output(await collect(agent, "Hi")) == "I am new"
        assert len(server.requests) == 4


async def test_a_model_that_was_named_and_is_gone_is_an_error() -> None:
    clear_dialect_cache()
    words = "The model `fake-model` does not exist."
    with FakeServer(lambda _: refuse(words, 404)) as server:
        with pytest.raises(ModelRefused, match="does not exist"):
            await Agent(HTTPChat(server.url, "fake-model")).run("Hi")
        assert len(server.requests) == 1


async def test_a_node_of_a_load_balancer_is_adapted_and_not_left() -> None:
    rules = replace(GEMMA, status=500)
    with FakeServer(lambda _: say("Hi"), rules=rules) as server:
        model = LoadBalancer(HTTPChat(server.url, "fake-model", dialect="native"))
        assert (await Agent(model, instructions="Be kind.").run("Hi")).output == "Hi"
        assert len(server.requests) == 2


async def test_an_image_of_an_earlier_question_is_left_out_and_said(make: Make) -> None:
    def answer(request: RecordedRequest) -> Reply:
        if "image_url" in str(request.messages):
            return refuse("At most 0 image(s) may be provided in one request.")
        return say("Hi")

    photo = User((Text("What is this?"), Image("data:image/png;base64,AA==")))
    with FakeServer(answer) as server:
        events = await collect(Agent(make(server)), "And now?", messages=(photo,))
        assert output(events) == "Hi"
        assert adapted(events) == ["no images"]
        assert "What is this?" in str(server.requests[-1].messages)


async def test_a_server_that_was_restarted_is_asked_anew() -> None:
    clear_dialect_cache()
    with FakeServer(lambda _: say("Hi"), rules=GEMMA) as server:
        endpoint = HTTPEndpoint(server.url, tries=1)
        agent = Agent(HTTPChat(endpoint, "m", dialect="native"), instructions="Be kind.")
        await agent.run("Hi")
        server.stop()
        with pytest.raises(ModelUnreachable):
            await agent.run("Hi")
        server.start()
        await agent.run("Hi")
        roles = [request.messages[0]["role"] for request in server.requests]
        assert roles == ["system", "user", "system", "user"]


THOUGHT = call("add", a=2, b=3).replace(thinking="I add 2 and 3.")


async def test_the_thinking_of_a_call_is_sent_back_with_it(make: Make) -> None:
    with FakeServer([THOUGHT, say("It is 5.").replace(thinking="5."), say("Bye")]) as server:
        agent = Agent(make(server), tools=[add])
        result = await agent.run("2 + 3?")
        await agent.run("Bye", messages=result.messages)
        sent = [message.get("reasoning_content") for message in server.requests[-1].messages]
        assert sent == [None, "I add 2 and 3.", None, None, None]
        assert server.requests[2].raw.startswith(server.requests[1].raw.removesuffix(b"]}"))


async def test_thinking_is_left_out_where_the_server_refuses_it(make: Make) -> None:
    def answer(request: RecordedRequest) -> Reply:
        for name in ("reasoning_content", "reasoning"):
            if any(name in message for message in request.messages):
                return refuse(f"'messages.1' : property '{name}' is unsupported")
        return say("It is 5.") if len(request.messages) > 2 else THOUGHT

    with FakeServer(answer) as server:
        events = await collect(Agent(make(server), tools=[add]), "2 + 3?")
        assert output(events) == "It is 5."
        assert adapted(events) == ["no reasoning_content", "no reasoning sent back"]


async def test_every_answer_has_its_thinking_where_the_server_asks_for_it(make: Make) -> None:
    def answer(request: RecordedRequest) -> Reply:
        for message in request.messages:
            if message["role"] == "assistant" and "reasoning_content" not in message:
                return refuse("The `reasoning_content` in the thinking mode must be passed back.")
        return say("Hi").replace(thinking="hm")

    with FakeServer(answer) as server:
        agent = Agent(make(server))
        result = await agent.run("Hi")
        again = await agent.run("Hi", messages=result.messages)
        assert again.output == "Hi"
        assert server.requests[-1].messages[1]["reasoning_content"] == "hm"


SIGNATURE = {"google": {"thought_signature": "c2lnbmVk"}}


@pytest.mark.parametrize("stream", [False, True])
async def test_what_a_server_adds_to_a_call_is_sent_back_where_it_asks_for_it(
    make: Make, *, stream: bool
) -> None:
    entry = {
        "index": 0,
        "id": "function-call-1",
        "type": "function",
        "function": {"name": "add", "arguments": '{"a": 2, "b": 3}'},
        "extra_content": SIGNATURE,
    }

    def answer(request: RecordedRequest) -> Reply:
        for message in request.messages:
            for each in message.get("tool_calls", ()):
                if "extra_content" not in each:
                    return refuse("Function call is missing a thought_signature in functionCall.")
        if len(request.messages) > 2:
            return say("It is 5.")
        return say("").replace(message={"tool_calls": [entry]}, finish_reason="tool_calls")

    with FakeServer(answer) as server:
        agent = Agent(make(server), tools=[add])
        if stream:
            events = await collect(agent, "2 + 3?")
            assert adapted(events) == ["extra_content sent back"]
            last = events[-1]
            assert isinstance(last, RunFinished)
            result = last.result
        else:
            result = await agent.run("2 + 3?")
        assert result.output == "It is 5."
        (sent,) = server.requests[-1].messages[1]["tool_calls"]
        assert sent["extra_content"] == SIGNATURE
        clear_dialect_cache()  # as in another process, which no longer has the signature
        again = await agent.run("Again?", messages=result.messages)
        assert again.output == "It is 5."
