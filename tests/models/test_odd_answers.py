"""Answers in the shapes that servers and gateways send beside the documented one.

Each is played by a server on loopback, to requests without and with a stream, through both clients.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from asking import Heard, heard, question
from openai import AsyncOpenAI, DefaultAsyncHttpxClient
from rows import each_row

from agentcall.errors import BadAnswer, ModelError
from agentcall.models.http import HTTPEndpoint
from agentcall.models.http_chat import HTTPChat
from agentcall.models.model import Model
from agentcall.models.openai_client import OpenAIChat
from agentcall.testing import FakeServer, forever
from agentcall.testing.faults import status
from agentcall.tools.tool import tool

Ask = Callable[..., Any]


@tool
def search(words: str) -> str:
    """Search for words."""
    return words


@tool
def clock() -> str:
    """Return the time."""
    return "12:00"


@pytest.fixture(params=["http", "openai"])
async def ask(request: pytest.FixtureRequest) -> AsyncIterator[Ask]:
    """Asks a server that answers with these bytes."""
    clients: list[AsyncOpenAI] = []

    def open_model(url: str) -> Model:
        if request.param == "http":
            return HTTPChat(HTTPEndpoint(url, tries=1, timeout=5.0), "m", dialect="native")
        quick = DefaultAsyncHttpxClient(verify=False)  # reading certificates takes most of a test
        clients.append(AsyncOpenAI(base_url=url, api_key="k", max_retries=0, http_client=quick))
        return OpenAIChat(clients[-1], "m", timeout=5.0)

    async def play(body: bytes, stream: bool) -> Heard:
        with FakeServer([forever(status(200, body=body))]) as server:
            return await heard(open_model(server.url).ask(question(stream, [search, clock])))

    yield play
    for client in clients:
        await client.close()


both = pytest.mark.parametrize("stream", [False, True], ids=["plain", "streamed"])


def encode(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False).encode()


def whole(message: object = None, finish: object = "stop", **fields: Any) -> bytes:
    """A complete answer."""
    choice = {"index": 0, "message": message or {"content": "hi"}, "finish_reason": finish}
    return encode({"id": "x", "choices": [choice], **fields})


def chunk(delta: object = None, finish: object = None, **fields: Any) -> bytes:
    """A chunk of a stream."""
    choice = {"index": 0, "delta": delta or {}, "finish_reason": finish}
    return encode({"id": "x", "choices": [choice], **fields})


def data(*events: bytes, end: bytes = b"\n\n") -> bytes:
    """A stream of these events."""
    return b"".join(b"data: " + event + end for event in events)


HI = (chunk({"role": "assistant", "content": "h"}), chunk({"content": "i"}), chunk({}, "stop"))
DONE = b"[DONE]"
ERROR = b'{"error": {"message": "out of memory", "code": 500}}'


# How an answer is sent


SENT: dict[str, bytes] = {
    "events": data(*HI, DONE),
    "events without [DONE]": data(*HI),
    "JSON": whole(),
    "JSON over several lines": json.dumps(json.loads(whole()), indent=2).encode(),
    "JSON behind blank lines": b"\n \n\n" + whole() + b"\n",
    "JSON behind a byte order mark": b"\xef\xbb\xbf" + whole(),
    "JSON and [DONE]": whole() + b"\n\ndata: [DONE]\n\n",
    "JSON and [DONE] in the next line": whole() + b"\ndata: [DONE]",
    "JSON in an event": data(whole()),
    "JSON in an event, and [DONE]": data(whole(), DONE),
    "lines of JSON": b"\n".join(HI),
    "lines of JSON, CR LF, and [DONE]": b"\r\n".join((*HI, DONE)) + b"\r\n",
    "a list of chunks": b"[" + b",".join(HI) + b"]",
    "events parted by one line end": data(*HI, DONE, end=b"\n"),
    "events parted by CR LF": data(*HI, DONE, end=b"\r\n"),
    "events without an end": data(*HI, end=b"\n").rstrip(),
    "events wrapped twice": data(*(b"data: " + event for event in HI), b"data: [DONE]"),
    "several chunks in an event": data(b"[" + b",".join(HI) + b"]", DONE),
    "[DONE] as JSON": data(*HI, b'"[DONE]"'),
    "[DONE] without its empty line": data(*HI) + b"data: [DONE]\n",
    "more behind [DONE]": data(*HI, DONE, chunk({"content": "!"}), b"{half", ERROR),
    "null": data(b"null", HI[0], b"null", *HI[1:], b"null", DONE),
    "empty lists and objects": data(b"[]", HI[0], b"{}", b"[{}]", b"[null]", *HI[1:], DONE),
    "pings": data(b"ping", HI[0], b'"ping"', b": keep-alive", b"1", b"true", *HI[1:], DONE),
    "notices": data(b'{"status": "queued", "message": "position 3"}', *HI, DONE),
    "named pings": b"event: ping\ndata: 2026-12-01T10:00:00Z\n\n" + data(*HI, DONE),
    "named events": b"".join(b"event: chunk\nid: 7\n" + data(event) for event in (*HI, DONE)),
    "comments": b": OPENROUTER PROCESSING\n\n" + data(*HI, DONE),
    "a chunk of a filter": data(b'{"choices": [], "prompt_filter_results": []}', *HI, DONE),
    "the usage at last": data(*HI, b'{"choices": [], "usage": {"prompt_tokens": 9}}', DONE),
    "the usage with choices of null": data(*HI, b'{"choices": null, "usage": {}}', DONE),
    "an end reason that is the word null": data(
        chunk({"content": "h"}, "null"), chunk({"content": "i"}, ""), chunk({}, "stop")
    ),
    "whole messages in place of deltas": data(
        encode({"choices": [{"message": {"content": "h"}}]}),
        encode({"choices": [{"message": {"content": "i"}, "finish_reason": "stop"}]}),
    ),
    "deltas in place of a message": encode(
        {"choices": [{"delta": {"content": "hi"}, "finish_reason": "stop"}]}
    ),
    "the text of a legacy completion": encode({"choices": [{"text": "hi", "finish_reason": ""}]}),
    "the text of legacy chunks": data(
        encode({"choices": [{"text": "h", "index": 0}]}),
        encode({"choices": [{"text": "i", "index": 0, "finish_reason": "length"}]}),
        DONE,
    ),
    "one choice that is not in a list": encode({"choices": {"message": {"content": "hi"}}}),
    "Ollama's own answer": encode({"message": {"content": "hi"}, "done": True}),
    "Ollama's own stream": b"\n".join(
        [
            encode({"model": "m", "message": {"content": "h"}, "done": False}),
            encode({"model": "m", "message": {"content": "i"}, "done": False}),
            encode({"message": {"content": ""}, "done": True, "done_reason": "stop"}),
        ]
    ),
}


@both
@each_row("name", SENT)
async def test_an_answer_is_read_however_it_is_sent(ask: Ask, name: str, stream: bool) -> None:
    answer = await ask(SENT[name], stream)
    assert answer.text == "hi"
    assert answer.finish == ("length" if "legacy chunks" in name else "stop")


CUT: dict[str, bytes] = {
    "half an event": data(*HI[:2]) + b'data: {"choices": [{"del',
    "no end": data(*HI[:2]),
    "a null for an end": data(*HI[:2], b"null"),
    "half a line of JSON": b"\n".join((*HI[:2], b'{"choices": [{"del')),
    "lines of JSON without an end": b"\n".join(HI[:2]),
    "an error": data(*HI[:2], ERROR, DONE),
    "an error event": data(*HI[:2]) + b"event: error\ndata: " + ERROR + b"\n\n" + data(DONE),
    "an error event of text": data(*HI[:2]) + b"event: error\ndata: no memory\n\n" + data(DONE),
    "an error event of JSON": data(*HI[:2]) + b'event: error\ndata: {"detail": "no"}\n\n',
    "an error field": data(*HI[:2]) + b'error: {"code": 500, "message": "no"}\n\n' + data(DONE),
    "a text for an event": data(*HI[:2], b"Internal Server Error", DONE),
    "a text in quotes": data(*HI[:2], b'"out of memory"', DONE),
    "an aborted answer": data(*HI[:2], chunk({}, "abort"), DONE),
    "an answer that a network ended": data(*HI[:2], chunk({}, "network_error"), DONE),
    "an answer without resources": data(*HI[:2], chunk({}, "insufficient_system_resource"), DONE),
}


@both
@each_row("name", CUT)
async def test_an_answer_that_was_lost_on_the_way_is_not_taken_for_whole(
    ask: Ask, name: str, stream: bool
) -> None:
    try:
        answer = await ask(CUT[name], stream)
    except BadAnswer:
        return
    assert answer.finish is None


@both
@each_row("body", [b"<html>hi</html>", b"hi", b"data: hi\n\n", b"null", b"[]", b"{}"])
async def test_what_is_no_answer_at_all_is_an_error(ask: Ask, body: bytes, stream: bool) -> None:
    try:
        answer = await ask(body, stream)
    except ModelError:
        return
    assert answer.finish is None


# Bytes


@both
async def test_bytes_that_are_not_utf_8_are_replaced(ask: Ask, stream: bool) -> None:
    half = "fox \U0001f98a".encode()[:-2]
    body = whole({"content": "HERE"}).replace(b"HERE", half + b" end")
    assert (await ask(body, stream)).text == "fox \ufffd end"
    events = data(chunk({"content": "HERE"}), *HI, DONE).replace(b"HERE", half)
    assert (await ask(events, stream)).text == "fox \ufffdhi"


@both
async def test_control_characters_in_strings_are_kept(ask: Ask, stream: bool) -> None:
    body = whole({"content": "aXb"}).replace(b"X", b"\t\x01")
    assert (await ask(body, stream)).text == "a\t\x01b"


# The message


MESSAGES: dict[str, tuple[dict[str, Any], str, str]] = {
    "text": ({"content": "hi"}, "hi", ""),
    "parts": (
        {"content": [{"type": "text", "text": "h"}, {"type": "text", "text": "i"}]},
        "hi",
        "",
    ),
    "one part": ({"content": {"type": "text", "text": "hi"}}, "hi", ""),
    "parts of another API": ({"content": [{"type": "output_text", "text": "hi"}]}, "hi", ""),
    "strings": ({"content": ["h", "i"]}, "hi", ""),
    "an object": ({"content": {"answer": 4}}, '{"answer": 4}', ""),
    "an object with a text": ({"content": {"text": "a", "n": 4}}, '{"text": "a", "n": 4}', ""),
    "a list": ({"content": [1, 2]}, "[1, 2]", ""),
    "a number": ({"content": 42}, "42", ""),
    "a refusal": ({"content": None, "refusal": "no"}, "no", ""),
    "reasoning_content": ({"content": "hi", "reasoning_content": "hm"}, "hi", "hm"),
    "reasoning": ({"content": "hi", "reasoning": "hm"}, "hi", "hm"),
    "thinking": ({"content": "hi", "thinking": "hm"}, "hi", "hm"),
    "both": ({"content": "hi", "reasoning_content": "hm", "reasoning": "hm"}, "hi", "hm"),
    "reasoning in an object": ({"content": "hi", "reasoning": {"content": "hm"}}, "hi", "hm"),
    "reasoning_details": (
        {"content": "hi", "reasoning_details": [{"type": "reasoning.text", "text": "hm"}]},
        "hi",
        "hm",
    ),
    "a part of thinking": (
        {
            "content": [
                {"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]},
                {"type": "text", "text": "hi"},
            ]
        },
        "hi",
        "hm",
    ),
    "a part of thinking as text": (
        {"content": [{"type": "thinking", "thinking": "hm"}, {"type": "text", "text": "hi"}]},
        "hi",
        "hm",
    ),
}


@both
@each_row("name", MESSAGES)
async def test_a_message_is_read_whatever_its_fields(ask: Ask, name: str, stream: bool) -> None:
    message, text, thinking = MESSAGES[name]
    for body in (whole(message), data(chunk(message), chunk({}, "stop"), DONE)):
        answer = await ask(body, stream)
        assert (answer.text, answer.thinking) == (text, thinking)


NAMED = {"name": "search", "arguments": '{"words": "a"}'}

CALLS: dict[str, dict[str, Any]] = {
    "as documented": {"tool_calls": [{"id": "1", "type": "function", "function": NAMED}]},
    "without an index or id": {"tool_calls": [{"function": NAMED}]},
    "not in a list": {"tool_calls": {"index": 0, "id": "", "function": NAMED}},
    "as text": {"tool_calls": json.dumps([{"id": "1", "function": NAMED}])},
    "flat": {"tool_calls": [{"id": "1", **NAMED}]},
    "flat with its name as the function": {
        "tool_calls": [{"function": "search", "arguments": {"words": "a"}}]
    },
    "with an object": {"tool_calls": [{"function": {**NAMED, "arguments": {"words": "a"}}}]},
    "with parameters": {
        "tool_calls": [{"function": {"name": "search", "parameters": {"words": "a"}}}]
    },
    "with arguments of null beside parameters": {
        "tool_calls": [
            {"function": {"name": "search", "arguments": None, "parameters": {"words": "a"}}}
        ]
    },
    "with a number for an id": {"tool_calls": [{"index": "0", "id": 7, "function": NAMED}]},
    "with content of an empty list": {"content": [], "tool_calls": [{"function": NAMED}]},
    "as a legacy function": {"function_call": NAMED},
    "as a part of the content": {
        "content": [{"type": "tool_use", "id": "1", "name": "search", "input": {"words": "a"}}]
    },
}


@both
@each_row("name", CALLS)
@each_row("finish", ["tool_calls", "stop", "tool_use", "eos_token"])
async def test_a_call_is_read_whatever_its_shape(
    ask: Ask, name: str, finish: str, stream: bool
) -> None:
    for body in (
        whole(CALLS[name], finish),
        data(chunk({"role": "assistant", **CALLS[name]}), chunk({}, finish), DONE),
    ):
        (made,) = (await ask(body, stream)).calls
        assert (made.name, json.loads(made.arguments)) == ("search", {"words": "a"})


# Finish reasons


@both
@each_row(
    ("reason", "expected"),
    [
        ("max_tokens", "length"),
        ("MAX_TOKENS", "length"),
        ("LENGTH", "length"),
        ("model_length", "length"),
        ("model_context_window_exceeded", "length"),
        ("SAFETY", "content_filter"),
        ("sensitive", "content_filter"),
        ("content_filter", "content_filter"),
        ("guardrail_intervened", "content_filter"),
        ("end_turn", "end_turn"),
        ("error", None),
        ("cancelled", None),
        ("MALFORMED_FUNCTION_CALL", None),
    ],
)
async def test_the_end_reasons_of_other_interfaces_are_known(
    ask: Ask, reason: str, expected: str | None, stream: bool
) -> None:
    for body in (whole(None, reason), data(*HI[:2], chunk({}, reason), DONE)):
        assert (await ask(body, stream)).finish == expected


# Usage


USAGES: dict[str, tuple[dict[str, Any], int, int]] = {
    "as documented": ({"usage": {"prompt_tokens": 70, "completion_tokens": 30}}, 70, 30),
    "floats": ({"usage": {"prompt_tokens": 70.0, "completion_tokens": 29.6}}, 70, 30),
    "text": ({"usage": {"prompt_tokens": "70", "completion_tokens": "30"}}, 70, 30),
    "other names": ({"usage": {"input_tokens": 70, "output_tokens": 30}}, 70, 30),
    "Gemini's": (
        {"usage_metadata": {"prompt_token_count": 70, "candidates_token_count": 30}},
        70,
        30,
    ),
    "the sum and one of them": ({"usage": {"total_tokens": 100, "completion_tokens": 30}}, 70, 30),
    "the sum and the other": ({"usage": {"total_tokens": 100, "prompt_tokens": 70}}, 70, 30),
    "Groq's": ({"x_groq": {"usage": {"prompt_tokens": 70, "completion_tokens": 30}}}, 70, 30),
    "llama.cpp's": ({"timings": {"prompt_n": 50, "cache_n": 20, "predicted_n": 30}}, 70, 30),
    "both names, one of them null": (
        {"usage": {"prompt_tokens": None, "input_tokens": 70, "completion_tokens": 30}},
        70,
        30,
    ),
}


@both
@each_row("name", USAGES)
async def test_usage_is_read_whatever_its_form(ask: Ask, name: str, stream: bool) -> None:
    fields, found, output = USAGES[name]
    for body in (whole(**fields), data(*HI[:2], chunk({}, "stop", **fields), DONE)):
        usage = (await ask(body, stream)).usage
        assert (usage.requests, usage.input_tokens, usage.output_tokens) == (1, found, output)


@both
async def test_the_usage_of_a_choice_is_read(ask: Ask, stream: bool) -> None:
    usage = {"prompt_tokens": 70, "completion_tokens": 30}
    choice = {"message": {"content": "hi"}, "finish_reason": "stop", "usage": usage}
    last = {"delta": {}, "finish_reason": "stop", "usage": usage}
    for body in (encode({"choices": [choice]}), data(*HI[:2], encode({"choices": [last]}), DONE)):
        found = (await ask(body, stream)).usage
        assert (found.input_tokens, found.output_tokens) == (70, 30)


@both
@each_row(
    "usages",
    [
        [(70, 1), (70, 2), (70, 30)],
        [(70, 0), (0, 30)],
        [(70, 30), (0, 0)],
        [(70, None), (None, 30)],
        [(70, 30), (-1, -1)],
    ],
    ids=str,
)
async def test_usage_in_several_chunks_is_that_of_the_whole_answer(
    ask: Ask, usages: list[tuple[int, int]], stream: bool
) -> None:
    given = [{"prompt_tokens": found, "completion_tokens": output} for found, output in usages]
    pieces = [chunk({"content": "x"}, usage=usage) for usage in given]
    usage = (await ask(data(*pieces, chunk({}, "stop"), DONE), stream)).usage
    assert (usage.input_tokens, usage.output_tokens) == (70, 30)


@both
@each_row(
    "usage",
    [
        None,
        [],
        {},
        "many",
        {"prompt_tokens": None, "completion_tokens": None},
        {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0},
        {"prompt_tokens": -1, "completion_tokens": -1},
        {"prompt_tokens": "?", "completion_tokens": True},
        {"prompt_tokens": 10**400, "completion_tokens": 1e300},
        {"prompt_tokens": {"value": 1}, "completion_tokens": [1]},
    ],
    ids=str,
)
async def test_usage_that_cannot_be_is_estimated(ask: Ask, usage: object, stream: bool) -> None:
    text = "word " * 40
    body = whole({"content": text}, usage=usage)
    events = data(chunk({"content": text}), chunk({}, "stop", usage=usage), DONE)
    for sent in (body, events):
        found = (await ask(sent, stream)).usage
        assert found.input_tokens > 20
        assert 40 <= found.output_tokens <= 60


@both
async def test_usage_that_is_not_a_number_is_estimated(ask: Ask, stream: bool) -> None:
    body = whole(usage={"prompt_tokens": 1, "completion_tokens": 2})
    body = body.replace(b'"prompt_tokens": 1', b'"prompt_tokens": NaN')
    body = body.replace(b'"completion_tokens": 2', b'"completion_tokens": Infinity')
    found = (await ask(body, stream)).usage
    assert found.input_tokens > 20
    assert found.output_tokens == 1
