"""The endpoint over real HTTP, asked by the official client."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
import uvicorn
from command_line import TOOLS, served
from fastapi import FastAPI
from pydantic import BaseModel
from rows import each_row

from agentcall import Agent, Blocked, Limits, RunContext, tool
from agentcall.errors import UsageError
from agentcall.models.model import Model
from agentcall.serving.http_security import AccessPolicy, build_access_policy
from agentcall.serving.openai_api import Capacity, OpenAIEndpoint
from agentcall.sessions import Window
from agentcall.testing import (
    FakeServer,
    RecordedRequest,
    Reply,
    ScriptedModel,
    call,
    calls,
    overflow,
    say,
    status,
)

ended: list[str] = []


@tool
def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


@tool
async def nap(seconds: float) -> str:
    """Sleep."""
    try:
        await asyncio.sleep(seconds)
    except asyncio.CancelledError:
        ended.append("cancelled")
        raise
    return "slept"


@tool(requires_approval=True)
def pay(amount: int) -> str:
    """Pay."""
    return "paid"


@tool
def whose(context: RunContext[str]) -> str:
    """Whose request this is."""
    return context.deps


@contextmanager
def serving(app: Any) -> Iterator[str]:
    """An application on a free port; its address."""
    listening = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(app, log_level="error", ws="none", lifespan="off")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(10)
        listening.close()


def adder(*replies: Reply) -> Agent[str, None]:
    return Agent(ScriptedModel(replies), tools=[add, nap, pay], name="adder")


@contextmanager
def client_of(agent: Agent[Any, Any], **options: Any) -> Iterator[openai.OpenAI]:
    with (
        serving(OpenAIEndpoint(agent, **options)) as url,
        openai.OpenAI(base_url=f"{url}/v1", api_key="x", max_retries=0) as client,
    ):
        yield client


ASK: list[Any] = [{"role": "user", "content": "What is (3+5)*2?"}]


def test_a_completion_comes_back_and_the_tools_were_called_here() -> None:
    with client_of(adder(call("add", a=3, b=5), say("It is 8."))) as client:
        answer = client.chat.completions.create(model="adder", messages=ASK)
    assert answer.choices[0].message.content == "It is 8."
    assert answer.choices[0].message.tool_calls is None
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage is not None
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens


def test_a_stream_brings_the_same_words() -> None:
    with client_of(adder(call("add", a=3, b=5), say("It is 8, as far as I can see."))) as client:
        chunks = list(
            client.chat.completions.create(
                model="adder", messages=ASK, stream=True, stream_options={"include_usage": True}
            )
        )
    words = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert words == "It is 8, as far as I can see."
    assert len([c for c in chunks if c.choices and c.choices[0].delta.content]) > 1
    assert [c.choices[0].finish_reason for c in chunks if c.choices][-1] == "stop"
    assert chunks[-1].usage is not None
    assert len({c.id for c in chunks}) == 1


def test_the_steps_are_told_where_they_are_asked_for() -> None:
    agent = adder(*[call("add", a=3, b=5), say("It is 8.")] * 2)
    with client_of(agent) as client:
        ask: dict[str, Any] = {"model": "adder", "messages": ASK}
        answer = client.chat.completions.create(**ask, extra_body={"include_steps": True})
        stream = client.chat.completions.create(
            **ask, stream=True, extra_body={"include_steps": True}
        )
        steps = "".join(getattr(c.choices[0].delta, "reasoning_content", "") or "" for c in stream)
    told = getattr(answer.choices[0].message, "reasoning_content", "")
    for text in (told, steps):
        assert 'add({"a": 3, "b": 5})' in text
        assert ": 8" in text


def test_what_the_model_says_before_a_call_is_set_apart() -> None:
    with client_of(adder(calls(call("add", a=3, b=5), text="I add."), say("It is 8."))) as client:
        stream = client.chat.completions.create(model="adder", messages=ASK, stream=True)
        words = "".join(c.choices[0].delta.content or "" for c in stream)
    assert words == "I add.\n\nIt is 8."


def test_the_history_is_the_clients() -> None:
    with FakeServer([say("Ann, you said.")]) as model:
        messages: list[Any] = [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": [{"type": "text", "text": "I am Ann."}]},
            {"role": "assistant", "content": "Hello."},
            {"role": "user", "content": "Who am I?"},
        ]
        with client_of(Agent(model.url)) as client:
            answer = client.chat.completions.create(model="agent", messages=messages)
        said = [m["content"] for m in model.requests[-1].body["messages"]]
    assert answer.choices[0].message.content == "Ann, you said."
    assert "Be brief." in said[0]
    assert said[-1] == "Who am I?"


def test_a_typed_output_is_json() -> None:
    class Sum(BaseModel):
        value: int

    agent = Agent(ScriptedModel([say('{"value": 8}')] * 2), output_type=Sum)
    with client_of(agent) as client:
        answer = client.chat.completions.create(model="agent", messages=ASK)
        stream = client.chat.completions.create(model="agent", messages=ASK, stream=True)
        words = "".join(c.choices[0].delta.content or "" for c in stream)
    assert Sum.model_validate_json(answer.choices[0].message.content or "").value == 8
    assert Sum.model_validate_json(words).value == 8


def test_a_call_that_needs_approval_is_not_made_and_said_so() -> None:
    with client_of(adder(call("pay", amount=5))) as client:
        answer = client.chat.completions.create(model="adder", messages=ASK)
    said = answer.choices[0].message.content or ""
    assert "pay needs a person's approval" in said
    assert "5" not in said


@each_row(
    ("body", "code", "words"),
    [
        (b"{", 400, "not JSON"),
        (b"[]", 400, "not a JSON object"),
        (b"{}", 400, "messages is not a list"),
        (b'{"messages": []}', 400, "messages is not a list"),
        (b'{"messages": [{"role": "assistant", "content": "x"}]}', 400, "not the user's"),
        (b'{"messages": [{"role": "user", "content": 5}]}', 400, "content is 5"),
        (
            b'{"messages": [{"role": "user", "content": "x"}], "model": "gpt"}',
            404,
            "does not exist",
        ),
        (b'{"messages": [{"role": "user", "content": "x"}], "n": 2}', 400, "one answer"),
        (
            b'{"messages": [{"role": "user", "content": "x"}], "tools": [{"type": "function"}]}',
            400,
            "its own tools",
        ),
    ],
)
def test_what_cannot_be_answered_is_said(body: bytes, code: int, words: str) -> None:
    with serving(OpenAIEndpoint(adder(say("hi")))) as url:
        answer = httpx.post(f"{url}/v1/chat/completions", content=body)
    assert answer.status_code == code
    assert words in answer.json()["error"]["message"]


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_never_gets_what_a_check_blocks(stream: bool) -> None:
    def no_secrets(text: str) -> str:
        if "secret" in text:
            raise Blocked("it is not for you")
        return text.replace("4711", "****")

    model = ScriptedModel([say("PIN 4711"), say("a secret")])
    agent = Agent(model, check_input=no_secrets, check_output=no_secrets)
    with serving(OpenAIEndpoint(agent)) as url:
        body = {"messages": ASK, "stream": stream}
        changed, blocked = (
            httpx.post(f"{url}/v1/chat/completions", json=body).text for _ in range(2)
        )
        ask = [{"role": "user", "content": "a secret"}]
        refused = httpx.post(f"{url}/v1/chat/completions", json={"messages": ask}).json()
    assert "PIN ****" in changed
    assert "4711" not in changed
    assert "secret" not in blocked
    assert "content_filter" in blocked
    assert refused["choices"][0]["finish_reason"] == "content_filter"
    assert len(model.requests) == 2


def test_models_health_and_metrics_are_there() -> None:
    with serving(OpenAIEndpoint(adder(call("add", a=1, b=2), say("3")))) as url:
        assert httpx.get(f"{url}/v1/models").json()["data"][0]["id"] == "adder"
        assert httpx.get(f"{url}/v1/models/adder").status_code == 200
        assert httpx.get(f"{url}/v1/models/other").status_code == 404
        assert httpx.get(f"{url}/v1/nothing").json()["error"]["message"]
        assert httpx.get(f"{url}/health").json() == {"status": "ok"}
        httpx.post(f"{url}/v1/chat/completions", json={"messages": ASK})
        metrics = httpx.get(f"{url}/metrics").text
    assert 'agentcall_runs_total{stop="final"} 1.0' in metrics
    assert "agentcall_tool_calls_total 1.0" in metrics
    assert 'agentcall_requests_total{status="200"} 1.0' in metrics
    assert "agentcall_running 0.0" in metrics


def test_a_model_that_cannot_be_asked_is_a_502_without_its_secrets() -> None:
    with (
        FakeServer([status(401, body="the key canary is wrong")] * 9) as model,
        client_of(Agent(model.url)) as client,
    ):
        with pytest.raises(openai.APIStatusError) as caught:
            client.chat.completions.create(model="agent", messages=ASK)
        with pytest.raises(openai.APIError, match="cannot be reached"):
            list(client.chat.completions.create(model="agent", messages=ASK, stream=True))
    assert caught.value.status_code == 502
    assert "canary" not in str(caught.value)


def test_a_long_conversation_is_compacted_and_one_that_cannot_be_is_a_400() -> None:
    def brain(request: RecordedRequest) -> Any:
        if request.prompt_tokens > 1_000:
            return overflow("vllm", context=1_000)
        return say(f"{len(request.messages)} messages")

    agent = Agent(ScriptedModel(brain), limits=Limits(context=1_000), compact=Window(4))
    old = {"role": "user", "content": "word " * 100}, {"role": "assistant", "content": "x"}
    with client_of(agent) as client:
        asked: Any = [*old * 20, *ASK]
        answer = client.chat.completions.create(model="agent", messages=asked)
        assert answer.choices[0].message.content == "3 messages"
        pieces = client.chat.completions.create(model="agent", messages=asked, stream=True)
        text = "".join(piece.choices[0].delta.content or "" for piece in pieces if piece.choices)
        assert text == "3 messages"
        with pytest.raises(openai.BadRequestError) as caught:
            client.chat.completions.create(
                model="agent", messages=[{"role": "user", "content": "word " * 2_000}]
            )
    assert caught.value.code == "context_length_exceeded"


def test_keys_are_asked_for_and_say_whose_a_request_is() -> None:
    agent = Agent(ScriptedModel([call("whose"), say("ok")]), tools=[whose], deps_type=str)
    terms = AccessPolicy(keys={"sk-ann": "Ann", "sk-bob": "Bob"})
    endpoint = OpenAIEndpoint(
        agent, access=terms, deps=lambda request: request.scope["agentcall.user"]
    )
    with serving(endpoint) as url:
        ask = {"messages": ASK, "include_steps": True}
        where = f"{url}/v1/chat/completions"
        assert httpx.post(where, json=ask).status_code == 401
        wrong = httpx.post(where, json=ask, headers={"Authorization": "Bearer sk-eve"})
        right = httpx.post(where, json=ask, headers={"Authorization": "Bearer sk-bob"})
        assert httpx.get(f"{url}/metrics").status_code == 401
        assert httpx.get(f"{url}/health").status_code == 200
    assert wrong.status_code == 401
    assert "Bob" in right.json()["choices"][0]["message"]["reasoning_content"]


def test_strangers_are_turned_away() -> None:
    with serving(OpenAIEndpoint(adder(say("hi")))) as url:
        where = f"{url}/v1/chat/completions"
        assert httpx.post(where, json={}, headers={"Host": "evil.example"}).status_code == 403
        assert httpx.post(where, json={}, headers={"Origin": "http://evil"}).status_code == 403
        assert httpx.post(where, content=b" " * 100_000_000).status_code == 413
        chunks = (b" " * 2**20 for _ in range(100))
        assert httpx.post(where, content=chunks).status_code == 413  # of a length that is not told


NESTED = "[" * 500 + "]" * 500


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (json.dumps({"messages": ASK * 100_000}), "values"),
        (json.dumps({"messages": ASK * 2001}), "more than 2,000"),
        ('{"messages": [{"role": "user", "content": [{"type": "text", "text": %s}]}]}', "deep"),
        ('{"messages": [{"role": "user", "content": %s}]}', "deep"),
        ('{"messages": [{"role": %s, "content": "x"}]}', "deep"),
        ('{"messages": [{"role": "user", "content": "x"}], "response_format": %s}', "deep"),
        ('{"messages": [{"role": "user", "content": "x"}], "tools": %s}', "deep"),
        ('{"messages": [{"role": "user", "content": "x"}], "n": %s}', "deep"),
        ('{"messages": [{"role": "user", "content": "x"}], "model": %s}', "deep"),
    ],
    ids=["many", "more", "text", "content", "role", "schema", "tools", "n", "model"],
)
def test_a_body_beyond_what_may_be_sent_is_refused_with_what_is_too_much(
    body: str, words: str, caplog: pytest.LogCaptureFixture
) -> None:
    with serving(OpenAIEndpoint(adder(say("hi")))) as url:
        where = f"{url}/v1/chat/completions"
        answer = httpx.post(where, content=body.replace("%s", NESTED).encode(), timeout=60)
        assert httpx.get(f"{url}/health").status_code == 200
    assert answer.status_code == 400
    assert words in answer.json()["error"]["message"]
    assert not caplog.records


def test_two_thousand_messages_are_answered() -> None:
    with serving(OpenAIEndpoint(adder(say("hi")))) as url:
        where = f"{url}/v1/chat/completions"
        answer = httpx.post(where, json={"messages": ASK * 2000}, timeout=60)
    assert answer.status_code == 200


def test_what_a_form_can_send_is_not_read() -> None:
    with serving(OpenAIEndpoint(adder(say("hi")))) as url:
        where, body = f"{url}/v1/chat/completions", json.dumps({"messages": ASK})
        for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data"):
            answer = httpx.post(where, content=body, headers={"Content-Type": kind})
            assert answer.status_code == 415
            assert "application/json" in answer.json()["error"]["message"]
        zipped = httpx.post(where, json={"messages": ASK}, headers={"Content-Encoding": "gzip"})
        assert zipped.status_code == 415


def test_a_page_of_another_server_of_this_machine_may_not_ask() -> None:
    origin = {"Origin": "http://localhost:3000"}
    with serving(OpenAIEndpoint(adder(say("hi")))) as url:
        refused = httpx.post(f"{url}/v1/chat/completions", json={"messages": ASK}, headers=origin)
        assert httpx.get(f"{url}/v1/models", headers=origin).status_code == 403
    assert refused.status_code == 403
    terms = AccessPolicy(origins=frozenset({"http://localhost:3000"}))
    with serving(OpenAIEndpoint(adder(say("hi")), access=terms)) as url:
        taken = httpx.post(f"{url}/v1/chat/completions", json={"messages": ASK}, headers=origin)
    assert taken.status_code == 200


def test_an_address_that_others_reach_needs_a_key() -> None:
    with pytest.raises(UsageError, match=r"0\.0\.0\.0 can be reached"):
        build_access_policy("0.0.0.0", {})
    assert build_access_policy("0.0.0.0", {"k": "Ann"}).hosts == {"*"}
    assert build_access_policy("127.0.0.1", {}).keys == {}


class Slow:
    """Answers each request with a nap, then a word of its own."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    def model(self) -> Model:
        def answer(request: RecordedRequest) -> Reply:
            last = request.body["messages"][-1]
            if last["role"] == "tool":
                return say("done")
            return call("nap", seconds=self.seconds)

        return ScriptedModel(answer)


async def test_who_finds_no_place_is_told_when_to_come_back() -> None:
    agent = Agent(Slow(0.7).model(), tools=[nap])
    with serving(OpenAIEndpoint(agent, capacity=Capacity(running=2, waiting=2))) as url:
        async with httpx.AsyncClient(timeout=30) as client:
            where = f"{url}/v1/chat/completions"
            answers = await asyncio.gather(
                *(client.post(where, json={"messages": ASK, "stream": n % 2}) for n in range(8))
            )
    statuses = [answer.status_code for answer in answers]
    assert statuses.count(200) == 4
    assert statuses.count(503) == 4
    refused = next(answer for answer in answers if answer.status_code == 503)
    assert int(refused.headers["Retry-After"]) >= 1
    assert refused.json()["error"]["code"] == "overloaded"


async def test_a_key_may_have_so_many_requests_under_way() -> None:
    agent = Agent(Slow(0.8).model(), tools=[nap])
    endpoint = OpenAIEndpoint(
        agent, access=AccessPolicy(keys={"a": "Ann", "b": "Bob"}), capacity=Capacity(per_key=1)
    )
    with serving(endpoint) as url:
        async with httpx.AsyncClient(timeout=30) as client:

            async def ask(key: str) -> int:
                head = {"Authorization": f"Bearer {key}"}
                where = f"{url}/v1/chat/completions"
                return (await client.post(where, json={"messages": ASK}, headers=head)).status_code

            statuses = await asyncio.gather(ask("a"), ask("a"), ask("b"))
    assert sorted(statuses[:2]) == [200, 429]
    assert statuses[2] == 200


@pytest.mark.parametrize("stream", [False, True])
def test_whoever_goes_away_cancels_the_run(stream: bool) -> None:
    ended.clear()
    agent = Agent(Slow(30).model(), tools=[nap])
    with serving(OpenAIEndpoint(agent)) as url:
        ask = {"messages": ASK, "stream": stream}
        with pytest.raises(httpx.ReadTimeout):
            httpx.post(f"{url}/v1/chat/completions", json=ask, timeout=0.4)
        until = time.monotonic() + 10
        while not ended and time.monotonic() < until:
            time.sleep(0.05)
        assert ended == ["cancelled"]
        assert "agentcall_running 0.0" in httpx.get(f"{url}/metrics").text


async def test_answers_of_many_users_are_not_mixed() -> None:
    def answer(request: RecordedRequest) -> Reply:
        messages = request.body["messages"]
        if messages[-1]["role"] == "tool":
            return say(f"The sum is {messages[-1]['content']}.")
        number = int(messages[-1]["content"])
        return call("add", a=number, b=1)

    agent = Agent(ScriptedModel(answer), tools=[add])
    with serving(OpenAIEndpoint(agent, capacity=Capacity(running=20, waiting=200))) as url:
        async with httpx.AsyncClient(timeout=60) as client:

            async def ask(number: int) -> str:
                body = {"messages": [{"role": "user", "content": f"{number}"}]}
                given = await client.post(f"{url}/v1/chat/completions", json=body)
                return str(given.json()["choices"][0]["message"]["content"])

            answers = await asyncio.gather(*map(ask, range(100)))
    assert answers == [f"The sum is {n + 1}." for n in range(100)]


def test_it_can_be_mounted_in_an_application() -> None:
    app = FastAPI()
    app.mount("/agent", OpenAIEndpoint(adder(say("hi"))))
    with serving(app) as url:
        answer = httpx.post(f"{url}/agent/v1/chat/completions", json={"messages": ASK})
        assert httpx.get(f"{url}/agent/health").status_code == 200
    assert answer.json()["choices"][0]["message"]["content"] == "hi"


@pytest.mark.processes
def test_the_command_line_serves_an_agent(tmp_path: Path) -> None:
    with FakeServer([call("add", a=1, b=2), say("3")]) as model:
        (tmp_path / "tools.py").write_text(TOOLS)
        with (
            served("-m", model.url, "-t", "tools.py", "--name", "sums", cwd=tmp_path) as url,
            openai.OpenAI(base_url=url, api_key="x") as client,
        ):
            answer = client.chat.completions.create(model="sums", messages=ASK)
    assert answer.choices[0].message.content == "3"


@pytest.mark.processes
def test_a_page_of_a_named_origin_may_ask_the_command_line(tmp_path: Path) -> None:
    origin = "http://localhost:3000"
    with served("-m", "http://127.0.0.1:9/v1", "--origin", origin, cwd=tmp_path) as url:
        asking = {"Origin": origin, "Access-Control-Request-Method": "POST"}
        more = {"Access-Control-Request-Headers": "authorization,content-type"}
        preflight = httpx.options(f"{url}/models", headers={**asking, **more})
        answer = httpx.get(f"{url}/models", headers={"Origin": origin})
        other = httpx.get(f"{url}/models", headers={"Origin": "http://localhost:3001"})
    assert preflight.status_code == 200
    assert preflight.headers["access-control-allow-origin"] == origin
    assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (200, origin)
    assert other.status_code == 403
    assert "access-control-allow-origin" not in other.headers
