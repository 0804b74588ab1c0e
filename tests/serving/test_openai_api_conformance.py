"""What the endpoint sends, held to OpenAI's own types, strictly, and to the rules of its streams.

A suite for servers of models (canitoolcall's `probe`) sends tools with each request, which an agent
with tools of its own refuses; so these are the rules of that suite that do not need them.
"""

from __future__ import annotations

import gc
import json
from collections.abc import AsyncIterator, Sequence
from typing import Any

import httpx
import pytest
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from pydantic import TypeAdapter
from rows import each_row
from test_openai_api_app import add, adder

from agentcall import Agent, ModelSettings
from agentcall.dialects.answer_parts import TextPart, ToolCallPart
from agentcall.messages import Usage, User
from agentcall.models.model import ModelRequest, ResponseEnd, ResponseEvent
from agentcall.serving.openai_api import OpenAIEndpoint
from agentcall.testing import FakeServer, Reply, ScriptedModel, call, calls, cut, say, status

WHOLE = TypeAdapter(ChatCompletion)
CHUNK = TypeAdapter(ChatCompletionChunk)
ASKED = {"model": "adder", "messages": [{"role": "user", "content": "2+3?"}]}
ANSWERS: dict[str, Sequence[Reply]] = {
    "plain": [say("It is 5.")],
    "after a tool": [call("add", a=2, b=3), say("It is 5.")],
    "with words before the call": [calls(call("add", a=2, b=3), text="Let me see."), say("5")],
    "in Chinese, with an emoji": [say("是 5 😀。")],
    "with markup of its own": [say("<b>5</b> <|im_end|> data: x\n\ndata: [DONE]")],
    "after a thought": [say("It is 5.", thinking="2 and 3")],
    "after a wrong call": [call("add", a=2), call("none"), say("I cannot.")],
}


class Forgetful:
    """A model that calls a tool and answers, and keeps nothing."""

    async def ask(self, request: ModelRequest) -> AsyncIterator[ResponseEvent]:
        if isinstance(request.transcript[-1], User):
            yield ToolCallPart("add", '{"a": 2, "b": 3}')
        else:
            yield TextPart("It is 5.")
        yield ResponseEnd("stop", Usage(1, 5, 5))


def client_of(agent: Agent[Any, Any]) -> httpx.AsyncClient:
    """Asks the application itself; `test_endpoint_app` does so over real HTTP."""
    transport = httpx.ASGITransport(OpenAIEndpoint(agent))
    return httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1/v1", timeout=30)


def served(*replies: Reply) -> httpx.AsyncClient:
    return client_of(adder(*replies))


def events(body: str) -> list[str]:
    """The data of the events of a stream, which has nothing else in it."""
    frames = body.split("\n\n")
    assert frames.pop() == ""
    assert all(frame.startswith("data: ") and "\n" not in frame for frame in frames)
    return [frame.removeprefix("data: ") for frame in frames]


@each_row("replies", ANSWERS.values(), ids=ANSWERS)
@each_row("extra", [{}, {"include_steps": True}], ids=["", "steps"])
async def test_a_whole_answer_is_a_chat_completion(
    replies: Sequence[Reply], extra: dict[str, Any]
) -> None:
    async with served(*replies) as client:
        answer = await client.post("/chat/completions", json={**ASKED, **extra})
    assert answer.headers["content-type"] == "application/json"
    completion = WHOLE.validate_json(answer.content, strict=True)
    [choice] = completion.choices
    assert (choice.index, choice.finish_reason, choice.message.role) == (0, "stop", "assistant")
    assert choice.message.content
    assert choice.message.tool_calls is None
    assert completion.usage is not None
    used = completion.usage
    assert used.total_tokens == used.prompt_tokens + used.completion_tokens
    assert completion.model == "adder"


@each_row("replies", ANSWERS.values(), ids=ANSWERS)
@each_row("usage", [False, True], ids=["", "usage"])
async def test_a_stream_is_chunks_of_one_completion_and_an_end(
    replies: Sequence[Reply], usage: bool
) -> None:
    asked = {**ASKED, "stream": True, "stream_options": {"include_usage": usage}}
    async with served(*replies) as client:
        answer = await client.post("/chat/completions", json=asked)
        whole = "".join(events(answer.text)[:-1])
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert whole
    *data, done = events(answer.text)
    assert done == "[DONE]"
    chunks = [CHUNK.validate_json(event, strict=True) for event in data]
    assert len({(chunk.id, chunk.created, chunk.model) for chunk in chunks}) == 1
    if usage:
        last = chunks.pop()
        assert last.choices == []
        assert last.usage is not None
    assert all(chunk.usage is None for chunk in chunks)
    deltas = [chunk.choices[0] for chunk in chunks]
    assert deltas[0].delta.role == "assistant"
    assert [delta.finish_reason for delta in deltas] == [None] * (len(deltas) - 1) + ["stop"]


@each_row("replies", ANSWERS.values(), ids=ANSWERS)
async def test_streamed_or_whole_the_words_are_the_same(replies: Sequence[Reply]) -> None:
    async with served(*replies) as client:
        whole = (await client.post("/chat/completions", json=ASKED)).json()
    async with served(*replies) as client:
        streamed = (await client.post("/chat/completions", json={**ASKED, "stream": True})).text
    deltas = [json.loads(event)["choices"][0]["delta"] for event in events(streamed)[:-1]]
    said = "".join(delta.get("content") or "" for delta in deltas)
    before = "Let me see.\n\n"  # what came before a call was sent already, and is set apart
    assert said.removeprefix(before) == whole["choices"][0]["message"]["content"]


@each_row(
    ("body", "code"),
    [
        ({}, 400),
        ({"messages": []}, 400),
        ({"messages": "hi"}, 400),
        ({"messages": [{"role": "nobody", "content": "hi"}]}, 400),
        ({**ASKED, "model": "other"}, 404),
        ({**ASKED, "n": 2}, 400),
        ({**ASKED, "tools": [{"type": "function", "function": {"name": "f"}}]}, 400),
        ({**ASKED, "response_format": {"type": "json_object"}}, 400),
    ],
)
async def test_a_refusal_has_openais_form(body: dict[str, Any], code: int) -> None:
    async with served(say("never")) as client:
        answer = await client.post("/chat/completions", json=body)
    assert answer.status_code == code
    error = answer.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["type"] == "invalid_request_error"
    assert error["message"]


@pytest.mark.parametrize("stream", [False, True])
async def test_a_server_behind_it_that_fails_is_an_error_and_no_answer(stream: bool) -> None:
    with FakeServer([status(401), cut(say("half"))]) as model:
        agent = Agent(f"{model.url}#fake-model", name="adder")
        async with client_of(agent) as client:
            answer = await client.post("/chat/completions", json={**ASKED, "stream": stream})
    if stream and answer.status_code == 200:
        error = json.loads(events(answer.text)[-1])["error"]
    else:
        assert answer.status_code == 502
        error = answer.json()["error"]
    assert error["type"] == "server_error"


@pytest.mark.parametrize("stream", [False, True])
async def test_what_samples_is_sent_to_the_model(stream: bool) -> None:
    more = {"temperature": 0.1, "top_p": 1, "seed": 1, "stop": "x"}
    model = ScriptedModel([say("5")])
    agent = Agent(model, name="adder", settings=ModelSettings(temperature=0.9, max_tokens=50))
    limits = {"max_tokens": 7, "max_completion_tokens": 9, "user": "u", "logit_bias": None}
    async with client_of(agent) as client:
        asked = {**ASKED, **more, **limits, "stream": stream}
        answer = await client.post("/chat/completions", json=asked)
    assert answer.status_code == 200
    body = model.requests[0].body
    assert {name: body[name] for name in more} == {**more, "stop": ["x"]}
    assert body["max_tokens"] == 9
    assert "user" not in body


@each_row(
    ("param", "value"),
    [
        ("temperature", -1),
        ("temperature", "warm"),
        ("top_p", 1.5),
        ("max_tokens", 0),
        ("max_completion_tokens", 0.5),
        ("seed", True),
        ("stop", [""]),
    ],
)
async def test_a_setting_that_cannot_be_is_a_400_that_names_it(param: str, value: object) -> None:
    model = ScriptedModel([])
    async with client_of(Agent(model, name="adder")) as client:
        answer = await client.post("/chat/completions", json={**ASKED, param: value})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)
    assert "ModelSettings" not in answer.json()["error"]["message"]
    assert model.requests == []


async def test_settings_of_one_request_are_not_those_of_the_next() -> None:
    model = ScriptedModel([say("5"), say("6")])
    async with client_of(Agent(model, name="adder")) as client:
        await client.post("/chat/completions", json={**ASKED, "temperature": 0.1})
        await client.post("/chat/completions", json=ASKED)
    assert ["temperature" in request.body for request in model.requests] == [True, False]


async def test_a_request_leaves_nothing_behind() -> None:
    def objects() -> int:
        gc.collect()
        return len(gc.get_objects())

    agent = Agent(Forgetful(), name="adder", tools=[add])
    async with client_of(agent) as client:

        async def ask(times: int) -> None:
            for number in range(times):
                asked = {**ASKED, "stream": number % 2 == 0}
                assert (await client.post("/chat/completions", json=asked)).status_code == 200

        await ask(50)
        before = objects()
        await ask(200)
        assert objects() - before < 200
