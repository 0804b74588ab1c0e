from __future__ import annotations

import asyncio
import gzip
import json
import re
import socket
import threading
import time
import warnings
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import aiohttp
import httpx
import openai
import pytest
from rows import each_row

from agentcall import Agent
from agentcall.errors import UsageError
from agentcall.testing import (
    MISSING,
    Completion,
    FakeServer,
    RecordedRequest,
    Reply,
    ScriptedCall,
    bad_json,
    call,
    calls,
    choices,
    cut,
    drop,
    empty_body,
    error_in_stream,
    error_under_200,
    flat_error,
    forever,
    gzip_body,
    hang,
    html,
    huge,
    ignore_stream,
    never,
    no_choices,
    no_done,
    null_choices,
    overflow,
    raw,
    reset,
    say,
    slow_loris,
    sse,
    status,
    times,
)

pytest_plugins = ["agentcall.testing.plugin"]

TEXT = "Grüße, 世界 🦊: 2 + 3 = 5"
ASK: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
ADD: dict[str, Any] = {
    "type": "function",
    "function": {"name": "add", "parameters": {"type": "object", "properties": {}}},
}


def post(server: FakeServer, **fields: Any) -> httpx.Response:
    return httpx.post(f"{server.url}/chat/completions", json={**ASK, **fields}, timeout=5)


def plain(reply: Reply, **fields: Any) -> dict[str, Any]:
    with FakeServer([reply]) as server:
        answer: dict[str, Any] = post(server, **fields).json()
    return answer


def events(reply: Reply, **fields: Any) -> list[Any]:
    """The `data` values of a stream, each parsed, "[DONE]" as it is."""
    with FakeServer([reply]) as server:
        text = post(server, stream=True, **fields).content.decode()
    values = [block.removeprefix("data: ") for block in text.split("\n\n") if block]
    return [value if value == "[DONE]" else json.loads(value) for value in values]


def deltas(reply: Reply) -> list[dict[str, Any]]:
    return [event["choices"][0]["delta"] for event in events(reply) if event != "[DONE]"]


def exchange(server: FakeServer, *, stream: bool, limit: float = 5) -> tuple[bytes, str]:
    """Every byte that comes back over a bare socket, and how the connection ended."""
    body = json.dumps({**ASK, "stream": stream}).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: {len(body)}\r\n"
    received = b""
    port = int(server.url.split(":")[2].split("/")[0])
    with socket.create_connection(("127.0.0.1", port), timeout=limit) as link:
        link.sendall(head.encode() + b"content-type: application/json\r\n\r\n" + body)
        try:
            while data := link.recv(65536):
                received += data
        except ConnectionResetError:
            return received, "reset"
        except TimeoutError:
            return received, "silent"
        return received, "closed"


def on_the_wire(reply: Reply, *, stream: bool = False, limit: float = 5) -> tuple[bytes, str]:
    with FakeServer([reply]) as server:
        return exchange(server, stream=stream, limit=limit)


def unframed(received: bytes) -> bytes:
    """The bytes without the sizes and ends of their HTTP chunks."""
    return re.sub(rb"(?m)^[0-9a-f]+\r\n|\r\n", b"", received)


def soon(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 5
    while not condition():
        assert time.monotonic() < end, "it never came true"
        time.sleep(0.01)


@pytest.fixture
def client() -> Iterator[Callable[[FakeServer], openai.OpenAI]]:
    opened: list[openai.OpenAI] = []

    def make(server: FakeServer, retries: int = 0) -> openai.OpenAI:
        made = openai.OpenAI(base_url=server.url, api_key="k", max_retries=retries, timeout=5)
        opened.append(made)
        return made

    yield make
    for one in opened:
        one.close()


# --- the openai client is satisfied ---

REPLIES: list[Completion] = [
    say(TEXT),
    say(""),
    say(TEXT, thinking="hm, 二"),
    call("add", a=2, b=3),
    call("now"),
    calls(call("add", a=1, b=2), ScriptedCall("add", '{"a": 1, "b"', id="x"), text="both:"),
    say(TEXT).replace(size=1, quirks=("roles_repeated", "finish_merged")),
    call("add", a=2, b=3).replace(quirks=("whole_calls",)),
    choices(say("one"), say("two")),
]


@pytest.mark.parametrize("reply", REPLIES)
def test_the_openai_client_reads_the_same_plain_and_streamed(
    client: Any, reply: Completion
) -> None:
    with FakeServer([reply, reply]) as server:
        whole = client(server).chat.completions.create(**ASK)
        with client(server).chat.completions.stream(
            **ASK, stream_options={"include_usage": True}
        ) as stream:
            streamed = stream.get_final_completion()
    assert whole.usage.model_dump() == streamed.usage.model_dump()
    for one, other in zip(whole.choices, streamed.choices, strict=True):
        assert one.finish_reason == other.finish_reason
        assert (one.message.content or "") == (other.message.content or "")
        assert getattr(one.message, "reasoning_content", "") == getattr(
            other.message, "reasoning_content", ""
        )
        pairs = zip(one.message.tool_calls or (), other.message.tool_calls or (), strict=True)
        for made, read in pairs:
            assert made.function.name == read.function.name
            assert made.function.arguments == read.function.arguments


def test_the_openai_client_gets_what_the_script_says(client: Any) -> None:
    with FakeServer([calls(call("add", a=2, b=3), call("add", a=4, b=5)), say(TEXT)]) as server:
        first = client(server).chat.completions.create(**ASK).choices[0]
        second = client(server).chat.completions.create(**ASK).choices[0]
    assert [json.loads(c.function.arguments) for c in first.message.tool_calls] == [
        {"a": 2, "b": 3},
        {"a": 4, "b": 5},
    ]
    assert len({c.id for c in first.message.tool_calls}) == 2
    assert (first.finish_reason, first.message.content) == ("tool_calls", None)
    assert (second.finish_reason, second.message.content) == ("stop", TEXT)


def test_the_openai_client_asks_again_after_two_503(client: Any) -> None:
    with FakeServer([status(503, times=2, headers={"Retry-After": "0.01"}), say("ok")]) as server:
        answer = client(server, 2).chat.completions.create(**ASK)
        assert answer.choices[0].message.content == "ok"
        assert len(server.requests) == 3


def test_the_openai_client_raises_on_an_error_in_a_stream(client: Any) -> None:
    with (
        FakeServer([error_in_stream(say(TEXT))]) as server,
        pytest.raises(openai.APIError, match="internal server error"),
    ):
        list(client(server).chat.completions.create(**ASK, stream=True))


async def test_the_async_openai_client_works_in_an_async_with() -> None:
    async with (
        FakeServer([say(TEXT)]) as server,
        openai.AsyncOpenAI(base_url=server.url, api_key="k") as client,
    ):
        stream = await client.chat.completions.create(**ASK, stream=True)
        parts = [chunk.choices[0].delta.content or "" async for chunk in stream]
    assert "".join(parts) == TEXT
    assert len(parts) > 3


# --- the protocol, field by field ---


def test_a_stream_is_role_then_pieces_then_finish_then_done() -> None:
    *chunks, done = events(say("abcdefgh"))
    entries = [chunk["choices"][0] for chunk in chunks]
    assert [entry["delta"] for entry in entries] == [
        {"role": "assistant", "content": ""},
        {"content": "abcd"},
        {"content": "efgh"},
        {},
    ]
    assert [entry["finish_reason"] for entry in entries] == [None, None, None, "stop"]
    assert "usage" not in chunks[0]
    assert done == "[DONE]"


def test_a_streamed_call_names_itself_first_and_then_gives_its_arguments_in_pieces() -> None:
    _, first, *rest, last = deltas(call("add", a=2, b=3))
    named = first["tool_calls"][0]
    assert named["function"] == {"name": "add", "arguments": ""}
    assert (named["index"], named["type"], bool(named["id"])) == (0, "function", True)
    assert all(set(delta["tool_calls"][0]) == {"index", "function"} for delta in rest)
    pieces = [delta["tool_calls"][0]["function"]["arguments"] for delta in rest]
    assert json.loads("".join(pieces)) == {"a": 2, "b": 3}
    assert len(pieces) > 2
    assert last == {}


def test_a_usage_chunk_comes_only_when_it_is_asked_for() -> None:
    *_, usage, _ = events(say("hi"), stream_options={"include_usage": True})
    assert usage["choices"] == []
    assert usage["usage"]["total_tokens"] > 0
    *_, last, _ = events(say("hi"))
    assert last["choices"]


QUIRKS: list[tuple[Any, Callable[[list[Any]], bool]]] = [
    ("names_repeated", lambda c: all("name" in one["function"] and one["id"] for one in c)),
    ("ids_renewed", lambda c: len({one["id"] for one in c}) == len(c) > 2),
    ("no_index", lambda c: all("index" not in one for one in c)),
    ("index_shared", lambda c: {one["index"] for one in c} == {0}),
    ("index_text", lambda c: {one["index"] for one in c} == {"0"}),
    ("index_float", lambda c: all(isinstance(one["index"], float) for one in c)),
    ("ids_repeated", lambda c: len({one["id"] for one in c}) == 1),
    ("ids_late", lambda c: ["id" in one for one in c] == [False] * (len(c) - 1) + [True]),
    ("cumulative", lambda c: c[-1]["function"]["arguments"] == '{"a": 2, "b": 3}'),
    ("last_doubled", lambda c: c[-1] == c[-2]),
    ("whole_calls", lambda c: len(c) == 1 and c[0]["function"]["arguments"] == '{"a": 2, "b": 3}'),
]


@each_row(("quirk", "seen"), QUIRKS)
def test_a_quirk_of_streamed_calls_is_there(quirk: Any, seen: Callable[[list[Any]], bool]) -> None:
    some = deltas(call("add", a=2, b=3).replace(quirks=(quirk,)))
    assert seen([entry for delta in some for entry in delta.get("tool_calls", ())])


def test_a_name_may_come_in_pieces() -> None:
    some = deltas(call("add_up", a=2).replace(quirks=("names_cut",), size=3))
    entries = [entry["function"] for delta in some for entry in delta.get("tool_calls", ())]
    assert [entry["name"] for entry in entries if "name" in entry] == ["add", "_up"]


def test_the_pieces_of_several_calls_may_come_in_turns_or_together() -> None:
    both = calls(call("add", a=2), call("mul", a=3))
    some = deltas(both.replace(quirks=("interleaved",), size=4))
    places = [entry["index"] for delta in some for entry in delta.get("tool_calls", ())]
    assert places == [0, 1, 0, 1, 0, 1]
    (together,) = [d for d in deltas(both.replace(quirks=("one_chunk",))) if d.get("tool_calls")]
    assert len(together["tool_calls"]) == 6


def test_the_message_may_come_once_more_and_its_choice_be_numbered_otherwise() -> None:
    *_, last, _ = events(say("abcd").replace(quirks=("message_last", "choice_text")))
    assert last["choices"][0]["message"]["content"] == "abcd"
    assert last["choices"][0]["index"] == "0"
    assert plain(say("abcd").replace(quirks=("choice_one",)))["choices"][0]["index"] == 1


def test_the_role_may_stand_in_every_chunk_and_the_finish_in_the_last_delta() -> None:
    assert all(
        d["role"] == "assistant" for d in deltas(say(TEXT).replace(quirks=("roles_repeated",)))
    )
    *_, last, _ = events(say("abcd").replace(quirks=("finish_merged",)))
    assert last["choices"][0] == {
        "index": 0,
        "delta": {"content": "abcd"},
        "finish_reason": "stop",
    }


def test_ids_and_arguments_are_sent_as_they_are_given() -> None:
    some = calls(
        ScriptedCall("a", "{", id=""),
        ScriptedCall("b", None, id="same"),
        ScriptedCall("c", MISSING, id="same"),
        ScriptedCall(None, '{"ü": 1}', id=None),
        ScriptedCall("e", {"ü": 1}, id=MISSING),
    )
    for message in (plain(some)["choices"][0]["message"], {"tool_calls": _streamed_calls(some)}):
        one, two, three, four, five = message["tool_calls"]
        assert (one["id"], one["function"]["arguments"]) == ("", "{")
        assert (two["id"], two["function"]["arguments"]) == ("same", None)
        assert (three["id"], "arguments" in three["function"]) == ("same", False)
        assert (four["id"], four["function"]["name"]) == (None, None)
        assert "id" not in five
        assert five["function"]["arguments"] == '{"ü": 1}'


def _streamed_calls(reply: Completion) -> list[dict[str, Any]]:
    some = deltas(reply.replace(quirks=("whole_calls",)))
    return [entry for delta in some for entry in delta.get("tool_calls", ())]


def test_a_message_and_a_body_may_be_laid_over_plain_and_streamed() -> None:
    parts = [{"type": "text", "text": "hi"}]
    legacy = {"name": "add", "arguments": "{}"}
    over = {"content": parts, "tool_calls": [], "function_call": legacy, "role": MISSING}
    reply = say("gone").replace(message=over, body={"object": MISSING, "vendor": {"x": 1}})
    whole = plain(reply)
    expected = {"content": parts, "tool_calls": [], "function_call": legacy}
    assert whole["choices"][0]["message"] == expected
    assert whole["vendor"] == {"x": 1}
    assert "object" not in whole
    first, last, _ = events(reply)
    assert first["choices"][0]["delta"] == expected
    assert last["vendor"] == {"x": 1}
    assert "object" not in last


def test_content_may_be_null_or_missing_and_the_role_wrong() -> None:
    assert plain(say("x").replace(message={"content": None}))["choices"][0]["message"] == {
        "role": "assistant",
        "content": None,
    }
    reply = say("x").replace(message={"content": MISSING}, role="user")
    assert plain(reply)["choices"][0]["message"] == {"role": "user"}


def test_usage_model_and_finish_reason_are_dressed() -> None:
    reply = say("x").replace(usage={"prompt_tokens": 7}, model="other", finish_reason="length")
    whole = plain(reply)
    assert (whole["usage"], whole["model"]) == ({"prompt_tokens": 7}, "other")
    assert whole["choices"][0]["finish_reason"] == "length"
    assert "usage" not in plain(say("x").replace(usage=None))
    *_, last, _ = events(say("x").replace(usage=None), stream_options={"include_usage": True})
    assert last["choices"]


def test_a_lone_surrogate_of_a_script_reaches_the_client() -> None:
    assert plain(say("a\ud83d b"))["choices"][0]["message"]["content"] == "a\ud83d b"


# --- the script ---


def test_a_script_is_played_in_order_and_then_says_that_it_is_over() -> None:
    with FakeServer([say("one"), times(say("two"), 2)]) as server:
        said = [post(server).json()["choices"][0]["message"]["content"] for _ in range(3)]
        assert said == ["one", "two", "two"]
        over = post(server)
    assert over.status_code == 500
    assert "the script is over" in over.json()["error"]["message"]
    assert over.headers["x-should-retry"] == "false"


def test_a_reply_for_ever_never_is_over() -> None:
    with FakeServer([say("one"), forever(say("more"))]) as server:
        said = [post(server).json()["choices"][0]["message"]["content"] for _ in range(5)]
    assert said == ["one", "more", "more", "more", "more"]


def test_a_wrapped_status_keeps_its_times() -> None:
    with FakeServer([gzip_body(status(503, times=2)), say("ok")]) as server:
        assert [post(server).status_code for _ in range(3)] == [503, 503, 200]


def test_a_script_may_be_a_function_of_the_request() -> None:
    def script(request: RecordedRequest) -> Reply:
        return say(f"{request.number}: {request.messages[-1]['content']}")

    with FakeServer(script) as server:
        post(server)
        assert post(server).json()["choices"][0]["message"]["content"] == "2: hi"


def test_functions_run_side_by_side() -> None:
    barrier = threading.Barrier(8, timeout=5)

    def script(request: RecordedRequest) -> Reply:
        barrier.wait()
        return say("all here")

    with FakeServer(script) as server:
        some = [threading.Thread(target=post, args=(server,)) for _ in range(8)]
        for thread in some:
            thread.start()
        for thread in some:
            thread.join()
        assert not barrier.broken
        assert len(server.requests) == 8


def test_a_function_that_raises_is_told_to_the_client() -> None:
    def script(request: RecordedRequest) -> Reply:
        raise ValueError("no idea")

    with FakeServer(script) as server:
        answer = post(server)
    assert answer.status_code == 500
    assert answer.json()["error"]["message"] == "the script failed: ValueError: no idea"


def test_a_brain_sees_messages_and_tools() -> None:
    def brain(messages: list[dict[str, Any]], tools: list[dict[str, Any]]) -> Reply:
        if tools and messages[-1]["role"] == "user":
            return call(tools[0]["function"]["name"], a=2, b=3)
        return say(f"it is {messages[-1]['content']}")

    with FakeServer(brain=brain) as server:
        first = post(server, tools=[ADD]).json()["choices"][0]
        assert first["message"]["tool_calls"][0]["function"]["name"] == "add"
        second = post(server, tools=[ADD], messages=[{"role": "tool", "content": "5"}]).json()
    assert second["choices"][0]["message"]["content"] == "it is 5"


def test_a_probe_for_one_token_takes_no_reply_and_no_number() -> None:
    with FakeServer([say("first"), say("second")]) as server:
        probe = post(server, max_tokens=1).json()
        said = [post(server).json(), post(server, max_tokens=1).json(), post(server).json()]
        assert [asked.number for asked in server.requests] == [0, 1, 0, 2]
        assert [asked.is_probe for asked in server.requests] == [True, False, True, False]
    assert probe["choices"][0]["finish_reason"] == "length"
    assert [one["choices"][0]["message"]["content"] for one in (probe, *said)] == [
        *("Hi", "first", "Hi", "second")
    ]


def test_a_probe_gets_what_is_played_for_ever_and_what_a_function_or_a_brain_says() -> None:
    with FakeServer([forever(status(503))]) as server:
        assert post(server, max_tokens=1).status_code == 503
    with FakeServer(lambda asked: say(f"probe {asked.is_probe}")) as server:
        assert "probe True" in post(server, max_tokens=1).text
    with FakeServer(brain=lambda messages, tools: say(messages[-1]["content"])) as server:
        assert '"content":"hi"' in post(server, max_tokens=1).text


def test_a_probe_that_is_not_set_apart_is_a_request_like_any_other() -> None:
    with FakeServer([say("first")], answers_probes=False) as server:
        assert "first" in post(server, max_tokens=1).text
        assert post(server).status_code == 500
        assert [asked.number for asked in server.requests] == [1, 2]


async def test_a_script_loses_nothing_to_what_agentcall_asks_of_lmdeploy() -> None:
    with FakeServer([say("the one answer")], owned_by="lmdeploy") as server:
        assert (await Agent(server.url).run("Hello")).output == "the one answer"
        assert [asked.number for asked in server.requests] == [0, 0, 1]


def test_what_is_no_script_is_refused_by_name() -> None:
    with pytest.raises(UsageError, match=r"'hi' is not a reply; write a text as say\('hi'\)"):
        FakeServer(["hi"])  # type: ignore[list-item]
    with pytest.raises(UsageError, match="a script and a brain"):
        FakeServer([say("x")], brain=lambda messages, tools: say("y"))


# --- the server ---


def test_requests_are_recorded_as_they_came() -> None:
    with FakeServer([forever(say("x"))]) as server:
        httpx.get(f"{server.url}/models?x=1")
        post(server, temperature=0.5, tools=[ADD], stream=True)
        assert [visit.path for visit in server.all_requests] == [
            "/v1/models",
            "/v1/chat/completions",
        ]
        (asked,) = server.requests
    assert asked.body["temperature"] == 0.5
    assert json.loads(asked.raw) == asked.body
    assert asked.headers["content-type"] == "application/json"
    assert (asked.method, asked.tools, asked.stream, asked.number) == ("POST", [ADD], True, 1)


def test_reset_starts_over() -> None:
    with FakeServer([say("one")]) as server:
        post(server)
        server.reset([say("two")])
        assert server.requests == []
        assert post(server).json()["choices"][0]["message"]["content"] == "two"


async def test_a_chunked_request_and_a_kept_connection_are_understood() -> None:
    async def body() -> AsyncIterator[bytes]:
        for byte in json.dumps(ASK).encode():
            yield bytes([byte])

    headers = {"content-type": "application/json"}
    async with (
        FakeServer([forever(say(TEXT))]) as server,
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=1)) as session,
    ):
        for _ in range(3):
            url = f"{server.url}/chat/completions"
            async with session.post(url, data=body(), headers=headers, expect100=True) as answer:
                assert (await answer.json())["choices"][0]["message"]["content"] == TEXT
        assert [asked.body for asked in server.requests] == [ASK] * 3


def test_two_hundred_requests_at_once_are_answered() -> None:
    async def ask(session: aiohttp.ClientSession, url: str) -> int:
        async with session.post(f"{url}/chat/completions", json=ASK) as answer:
            await answer.read()
            return answer.status

    async def many(url: str) -> list[int]:
        connector = aiohttp.TCPConnector(limit=0)
        async with aiohttp.ClientSession(connector=connector) as session:
            return await asyncio.gather(*[ask(session, url) for _ in range(200)])

    with FakeServer([times(say("x"), 200)]) as server:
        assert set(asyncio.run(many(server.url))) == {200}


def test_models_health_and_openapi_can_be_set() -> None:
    pages: dict[str, Any] = {"/openapi.json": {"paths": {}}, "/health": status(503)}
    with FakeServer(models=["a", "b"], owned_by="lmdeploy", pages=pages) as server:
        root = server.url.removesuffix("/v1")
        cards = httpx.get(f"{server.url}/models").json()["data"]
        assert [(card["id"], card["owned_by"]) for card in cards] == [
            ("a", "lmdeploy"),
            ("b", "lmdeploy"),
        ]
        assert httpx.get(f"{root}/openapi.json").json() == {"paths": {}}
        assert httpx.get(f"{root}/health").status_code == 503
    with FakeServer(pages={"/v1/models": None}) as server:
        root = server.url.removesuffix("/v1")
        assert httpx.get(f"{server.url}/models").status_code == 404
        assert httpx.get(f"{root}/openapi.json").status_code == 404
        assert httpx.get(f"{root}/health").json() == {"status": "ok"}


def _prompt_tokens(server: FakeServer, **fields: Any) -> int:
    return int(post(server, **fields).json()["usage"]["prompt_tokens"])


def test_tools_count_as_prompt_tokens_unless_they_are_dropped() -> None:
    with FakeServer([forever(say("x"))]) as server:
        assert _prompt_tokens(server) == _prompt_tokens(server, tools=[]) > 0
        assert _prompt_tokens(server, tools=[ADD]) > _prompt_tokens(server) + 10
    seen: list[object] = []

    def brain(messages: list[dict[str, Any]], tools: list[dict[str, Any]]) -> Reply:
        seen.append(tools)
        return say("x")

    with FakeServer(brain=brain, drops_tools=True) as server:
        assert _prompt_tokens(server, tools=[ADD]) == _prompt_tokens(server)
        assert server.requests[0].tools == [ADD]
    assert seen == [[], []]


def test_a_server_may_refuse_tools_as_lmdeploy_does() -> None:
    with FakeServer([say("x")], refuses_tools=True) as server:
        refused = post(server, tools=[ADD])
        assert post(server).status_code == 200
    assert refused.status_code == 400
    assert refused.json()["object"] == "error"
    assert "--tool-call-parser" in refused.json()["message"]


def test_a_prompt_beyond_the_context_is_refused_and_takes_no_reply() -> None:
    with FakeServer([say("fits")], context=100, like="llama.cpp") as server:
        refused = post(server, messages=[{"role": "user", "content": "x" * 1000}])
        assert post(server).json()["choices"][0]["message"]["content"] == "fits"
        size = server.requests[0].prompt_tokens
    assert refused.status_code == 400
    assert refused.json()["error"]["n_ctx"] == 100
    assert refused.json()["error"]["n_prompt_tokens"] == size > 250


@pytest.mark.parametrize(
    ("content", "kind"), [("{", "application/json"), ("[]", "application/json"), ("{}", "text/x")]
)
def test_a_request_that_is_none_is_refused(content: str, kind: str) -> None:
    with FakeServer([say("x")]) as server:
        url = f"{server.url}/chat/completions"
        answer = httpx.post(url, content=content, headers={"content-type": kind})
        assert answer.status_code == 400
        assert post(server).status_code == 200


def test_bytes_that_are_no_http_close_the_connection_and_harm_nobody() -> None:
    with FakeServer([say("x")]) as server:
        port = int(server.url.split(":")[2].split("/")[0])
        with socket.create_connection(("127.0.0.1", port), timeout=5) as link:
            link.sendall(b"hello\r\n\r\n")
            assert link.recv(100) == b""
        assert post(server).status_code == 200


def test_a_stopped_server_refuses_and_comes_back_on_the_same_port() -> None:
    server = FakeServer([forever(say("x"))])
    with server:
        url = server.url
        post(server)
    with pytest.raises(httpx.ConnectError):
        post(server)
    with server:
        assert server.url == url
        assert post(server).status_code == 200


def test_a_port_that_was_taken_meanwhile_is_an_error() -> None:
    server = FakeServer([say("x")])
    with server:
        port = int(server.url.split(":")[2].split("/")[0])
    with (
        socket.create_server(("127.0.0.1", port)),
        pytest.raises(OSError, match="address already in use"),
    ):
        server.start()


def test_stopping_ends_open_connections_and_leaves_nothing_behind() -> None:
    before = threading.active_count()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        server = FakeServer([forever(never())])
        server.start()
        asking = threading.Thread(target=exchange, args=(server,), kwargs={"stream": True})
        asking.start()
        soon(lambda: len(server.requests) == 1)
        server.stop()
        server.stop()
        asking.join(timeout=30)
    assert threading.active_count() == before


def test_an_answer_that_the_client_leaves_is_counted() -> None:
    with FakeServer([say("x" * 400).replace(delay=0.05), say("whole")]) as server:
        with httpx.stream(
            "POST", f"{server.url}/chat/completions", json={**ASK, "stream": True}
        ) as answer:
            next(answer.iter_bytes())
        soon(lambda: server.abandoned_count == 1)
        post(server)
        assert server.abandoned_count == 1


def test_the_plugin_opens_servers_and_closes_them(fake_server: Callable[..., FakeServer]) -> None:
    one, other = fake_server([say("one")]), fake_server([say("other")], models=["m"])
    assert post(one).json()["choices"][0]["message"]["content"] == "one"
    assert httpx.get(f"{other.url}/models").json()["data"][0]["id"] == "m"


# --- faults ---


def test_a_status_comes_with_its_headers_and_body() -> None:
    with FakeServer(
        [
            status(429, headers={"Retry-After": "1"}),
            status(503, body="Service Unavailable", headers={"content-type": "text/plain"}),
            status(404, body=flat_error("The model 'nope' does not exist.", status=404)),
            status(401, body=b"\xff"),
        ]
    ) as server:
        limited, down, flat, odd = [post(server) for _ in range(4)]
    assert (limited.status_code, limited.headers["retry-after"]) == (429, "1")
    assert limited.json()["error"]["message"]
    assert (down.status_code, down.text) == (503, "Service Unavailable")
    assert down.headers["content-type"] == "text/plain"
    assert flat.json() == {
        "message": "The model 'nope' does not exist.",
        "type": "not_found_error",
        "code": 404,
        "param": None,
        "object": "error",
    }
    assert odd.content == b"\xff"


def test_bodies_may_be_wrong_in_every_way() -> None:
    with FakeServer(
        [error_under_200("no"), html(), bad_json(), empty_body(), no_choices(), null_choices()]
    ) as server:
        flat, page, broken, empty, none, null = [post(server) for _ in range(6)]
    assert (flat.status_code, flat.json()) == (
        200,
        {"object": "error", "message": "no", "code": 400},
    )
    assert (page.status_code, page.headers["content-type"]) == (502, "text/html")
    assert page.text.startswith("<html>")
    with pytest.raises(json.JSONDecodeError):
        broken.json()
    assert broken.headers["content-type"] == "application/json"
    assert (empty.status_code, empty.content) == (200, b"")
    assert none.json()["choices"] == []
    assert null.json()["choices"] is None


def test_a_context_overflow_is_in_the_words_of_each_server() -> None:
    def body(like: Any) -> dict[str, Any]:
        return plain(overflow(like, context=4096, tokens=5000))

    assert body("lmdeploy") == flat_error(
        "Input length (5000) must be smaller than the model context length (4096)."
    )
    assert body("llama.cpp")["error"] == {
        "code": 400,
        "message": "request (5000 tokens) exceeds the available context size (4096 tokens), "
        "try increasing it",
        "type": "exceed_context_size_error",
        "n_prompt_tokens": 5000,
        "n_ctx": 4096,
    }
    assert body("vllm")["error"]["type"] == "BadRequestError"
    assert "your prompt contains at least 5000 input tokens" in body("vllm")["error"]["message"]
    assert "maximum context length is 4096 tokens" in body("vllm-0.8")["message"]
    assert body("openai")["error"]["code"] == "context_length_exceeded"
    assert "your messages resulted in 5000 tokens" in body("openai")["error"]["message"]
    empty = body("lmdeploy-0.5")["choices"][0]
    assert (empty["message"]["content"], empty["finish_reason"]) == ("", "length")


@pytest.mark.parametrize("stream", [False, True])
def test_a_reset_before_the_headers_sends_nothing(stream: bool) -> None:
    assert on_the_wire(reset(say(TEXT)), stream=stream) == (b"", "reset")


@each_row("stream", [False, True])
@each_row(("fault", "end"), [(reset, "reset"), (drop, "closed"), (hang, "silent")])
def test_a_connection_breaks_in_the_middle(fault: Any, end: str, stream: bool) -> None:
    whole, _ = on_the_wire(drop(say(TEXT), after=1.0), stream=stream)
    half, how = on_the_wire(fault(say(TEXT), after=0.5), stream=stream, limit=0.3)
    assert how == end
    assert unframed(whole).startswith(unframed(half))
    assert len(whole) * 0.3 < len(half) < len(whole) * 0.8
    assert not half.endswith(b"0\r\n\r\n")


def test_headers_alone_may_come() -> None:
    received, how = on_the_wire(reset(say(TEXT), after=0))
    assert how == "reset"
    assert received.startswith(b"HTTP/1.1 200 OK\r\n")
    assert received.endswith(b"\r\n\r\n")


def test_raw_bytes_take_the_place_of_http() -> None:
    half = b"HTTP/1.1 200 OK\r\nContent-Le"
    assert on_the_wire(raw(half)) == (half, "closed")
    assert on_the_wire(raw(half, ending="reset")) == (half, "reset")
    assert on_the_wire(raw(b"", ending="hang"), limit=0.2) == (b"", "silent")


def test_never_is_silence_until_the_client_goes() -> None:
    with FakeServer([never(), say("next")]) as server:
        assert exchange(server, stream=False, limit=0.2) == (b"", "silent")
        soon(lambda: server.abandoned_count == 1)
        assert post(server).status_code == 200


def test_a_slow_loris_sends_a_byte_at_a_time() -> None:
    with FakeServer([slow_loris(status(200, body="0123456789"), every=0.06)]) as server:
        started = time.monotonic()
        with httpx.stream("POST", f"{server.url}/chat/completions", json=ASK) as answer:
            parts = list(answer.iter_raw())
        assert time.monotonic() - started > 0.5
    assert b"".join(parts) == b"0123456789"
    assert len(parts) > 5


def test_latency_comes_before_the_headers_and_delay_between_the_pieces() -> None:
    with FakeServer([say("abcdefgh").replace(latency=0.2, delay=0.05)]) as server:
        started = time.monotonic()
        body = {**ASK, "stream": True}
        with httpx.stream("POST", f"{server.url}/chat/completions", json=body) as answer:
            assert time.monotonic() - started > 0.19
            answer.read()
        assert time.monotonic() - started > 0.19 + 5 * 0.049


def test_a_cut_stream_ends_cleanly_without_finish_or_done() -> None:
    for reply in (call("add", a=2, b=3), say(TEXT)):
        some = events(cut(reply), stream_options={"include_usage": True})
        assert some == events(reply, stream_options={"include_usage": True})[: len(some)]
        assert [event["choices"][0]["finish_reason"] for event in some] == [None] * len(some)
        assert 0 < len(events(cut(reply, after=0.5))) < len(some)
    pieces = [d["tool_calls"][0]["function"]["arguments"] for d in deltas(cut(call("f", a=1)))[1:]]
    assert json.loads("".join(pieces)) == {"a": 1}


def test_a_text_that_looks_like_a_finish_does_not_move_the_cut() -> None:
    text = 'so "finish_reason":"stop" it says'
    some = deltas(cut(say(text).replace(size=100)))
    assert [delta["content"] for delta in some] == ["", text]


def test_a_cut_plain_answer_is_half_a_json_text() -> None:
    with FakeServer([cut(say(TEXT))]) as server:
        answer = post(server)
    assert answer.status_code == 200
    with pytest.raises(json.JSONDecodeError):
        answer.json()


def test_a_stream_may_lack_only_its_done() -> None:
    *_, last = events(no_done(say("x")))
    assert last["choices"][0]["finish_reason"] == "stop"


def test_an_error_may_come_inside_of_a_stream() -> None:
    *before, error, done = events(error_in_stream(say(TEXT)))
    assert before
    assert error["error"]["message"] == "An internal server error occurred."
    assert done == "[DONE]"
    own = flat_error("boom", status=500)
    assert events(error_in_stream(say(TEXT), after=0, error=own)) == [{"error": own}, "[DONE]"]
    with FakeServer([error_in_stream(say(TEXT))]) as server:
        assert post(server).status_code == 500


def test_plain_json_may_answer_a_request_for_a_stream() -> None:
    with FakeServer([ignore_stream(call("add", a=2, b=3))]) as server:
        answer = post(server, stream=True)
    assert answer.headers["content-type"] == "application/json"
    assert answer.json()["choices"][0]["message"]["tool_calls"]
    with FakeServer([ignore_stream(times(say("x"), 2))]) as server:
        assert [len(post(server, stream=True).json()["choices"]) for _ in range(2)] == [1, 1]


@pytest.mark.parametrize("stream", [False, True])
def test_gzip_is_gzip(stream: bool) -> None:
    with FakeServer([say(TEXT), gzip_body(say(TEXT)), gzip_body(say(TEXT))]) as server:
        expected = post(server, stream=stream).text
        packed = post(server, stream=stream)
        url, body = f"{server.url}/chat/completions", {**ASK, "stream": stream}
        with httpx.stream("POST", url, json=body) as answer:
            bare = b"".join(answer.iter_raw())
    assert packed.headers["content-encoding"] == "gzip"
    assert packed.text == expected.replace("chatcmpl-1", "chatcmpl-2")
    assert gzip.decompress(bare).decode() == expected.replace("chatcmpl-1", "chatcmpl-3")


def test_a_huge_answer_is_that_huge() -> None:
    message = plain(huge(20_000_000))["choices"][0]["message"]
    assert message["content"] == "x" * 20_000_000
    assert sum(len(delta.get("content") or "") for delta in deltas(huge(1_000_000))) == 1_000_000


STYLES: list[Any] = [
    ("comments", rb"(?m)^: keep-alive$"),
    ("fields", rb"(?m)^event: message\nid: 2\nretry: 1000\ndata: "),
    ("multiline", rb"(?m)^data: \{\ndata:  "),
    ("no_space", rb"(?m)^data:\{"),
    ("crlf", rb"\}\r\n\r\ndata: \{"),
    ("joined", rb"^data: \{"),
    ("split", rb"^data: \{"),
]


@pytest.mark.parametrize(("style", "pattern"), STYLES)
def test_a_style_of_sse_is_on_the_wire_and_the_openai_client_reads_it(
    client: Any, style: Any, pattern: bytes
) -> None:
    with FakeServer([forever(sse(say(TEXT), style))]) as server:
        assert re.search(pattern, post(server, stream=True).content)
        stream = client(server).chat.completions.create(**ASK, stream=True)
        assert "".join(chunk.choices[0].delta.content or "" for chunk in stream) == TEXT


def test_all_styles_at_once_are_still_one_stream(client: Any) -> None:
    # The client takes a comment after an `id:` for an event, so the fields stay away.
    styles = [style for style, _ in STYLES if style not in ("joined", "fields")]
    with FakeServer([sse(say(TEXT), *styles)]) as server:
        stream = client(server).chat.completions.create(**ASK, stream=True)
        assert "".join(chunk.choices[0].delta.content or "" for chunk in stream) == TEXT


def test_a_split_stream_cuts_characters_in_two() -> None:
    received, _ = on_the_wire(drop(sse(say("世" * 50), "split"), after=1.0), stream=True)
    body = received.split(b"\r\n\r\n", 1)[1]
    pieces = re.split(rb"(?:^|\r\n)5\r\n", body)
    with pytest.raises(UnicodeDecodeError):
        [piece.decode() for piece in pieces]


def test_a_plain_answer_has_no_style() -> None:
    assert plain(sse(say(TEXT), "crlf", "split"))["choices"][0]["message"]["content"] == TEXT


def test_faults_wrap_faults() -> None:
    reply = reset(slow_loris(gzip_body(say(TEXT)), every=0.0001), after=0.5)
    received, how = on_the_wire(reply, stream=True)
    assert how == "reset"
    assert b"content-encoding: gzip" in received
    assert received.count(b"\r\n1\r\n") > 50
