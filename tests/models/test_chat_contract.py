"""What every client of a chat server has to do: one set of tests, over each of them."""

from __future__ import annotations

import asyncio
import gc
import json
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from datetime import datetime, timedelta, timezone
from email.utils import format_datetime
from itertools import pairwise
from typing import Any

import pytest
from asking import Heard, eventually, heard, question
from openai import AsyncOpenAI, DefaultAsyncHttpxClient
from rows import each_row

from agentcall import Agent, Limits, ToolRegistry, tool
from agentcall.dialects.answer_parts import TextPart, ToolCallPart
from agentcall.errors import (
    BadAnswer,
    ContextOverflow,
    ModelError,
    ModelRefused,
    ModelTimeout,
    ModelUnreachable,
    RateLimited,
    ServerFailed,
)
from agentcall.events import AnswerDiscarded, DialectChosen, Event, RunFinished, ToolCallStarted
from agentcall.messages import ToolResult
from agentcall.models.http import HTTPEndpoint
from agentcall.models.http_chat import HTTPChat
from agentcall.models.model import Model, ResponseEnd, ResponseStart
from agentcall.models.openai_client import OpenAIChat
from agentcall.settings import ModelSettings
from agentcall.testing import (
    MISSING,
    Completion,
    FakeServer,
    Reply,
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
    ignore_stream,
    never,
    no_choices,
    no_done,
    null_choices,
    raw,
    reset,
    say,
    slow_loris,
    sse,
    status,
)

KEY = "sk-canary-7c1f"
TEXT = "Grüße, 世界 🦊: 2 + 3 = 5"
SOON = {"Retry-After": "0.01"}

Make = Callable[..., Model]


@pytest.fixture(params=["http", "openai"])
async def make(request: pytest.FixtureRequest) -> AsyncIterator[Make]:
    """Makes a model of the kind: `make(url, tries=, timeout=, settings=)`."""
    clients: list[AsyncOpenAI] = []

    def http(url: str, *, tries: int = 3, timeout: float = 20.0, **options: Any) -> Model:
        endpoint = HTTPEndpoint(url, KEY, timeout=timeout, tries=tries)
        return HTTPChat(endpoint, "m", dialect="native", **options)

    def openai(url: str, *, tries: int = 3, timeout: float = 20.0, **options: Any) -> Model:
        quick = DefaultAsyncHttpxClient(verify=False)  # reading certificates takes most of a test
        clients.append(
            AsyncOpenAI(base_url=url, api_key=KEY, max_retries=tries - 1, http_client=quick)
        )
        return OpenAIChat(clients[-1], "m", timeout=timeout, **options)

    yield {"http": http, "openai": openai}[request.param]
    for client in clients:
        await client.close()


@pytest.fixture(params=["plain", "streamed"])
def stream(request: pytest.FixtureRequest) -> bool:
    return bool(request.param == "streamed")


@tool
def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


ADD = tuple(ToolRegistry(add))


async def turn_of(make: Make, stream: bool, *script: Reply, **options: Any) -> Heard:
    """What one answer of a server that plays the script comes to."""
    with FakeServer(script) as server:
        return await heard(make(server.url, **options).ask(question(stream, ADD)))


def made(turn: Heard) -> list[tuple[str, Any]]:
    return [(one.name, json.loads(one.arguments)) for one in turn.calls]


# --- right answers ---


async def test_a_text_arrives_whole(make: Make, stream: bool) -> None:
    turn = await turn_of(make, stream, say(TEXT))
    assert (turn.text, turn.finish, turn.calls) == (TEXT, "stop", [])


async def test_a_streamed_text_arrives_in_pieces(make: Make) -> None:
    with FakeServer([say("one two three four five six")]) as server:
        parts = [part async for part in make(server.url).ask(question(True))]
    assert len([part for part in parts if isinstance(part, TextPart)]) > 3


async def test_an_answer_begins_with_the_dialect_and_ends_with_the_end(
    make: Make, stream: bool
) -> None:
    with FakeServer([say("hi")]) as server:
        parts = [part async for part in make(server.url).ask(question(stream))]
    assert isinstance(parts[0], ResponseStart)
    assert isinstance(parts[-1], ResponseEnd)
    assert sum(isinstance(part, ResponseEnd) for part in parts) == 1


@each_row(
    "quirks",
    [
        (),
        ("whole_calls",),
        ("names_repeated",),
        ("ids_renewed",),
        ("no_index", "whole_calls"),
        ("no_index", "names_repeated"),
        ("roles_repeated",),
        ("finish_merged",),
        ("whole_calls", "finish_merged"),
    ],
)
async def test_a_native_call_is_read_however_it_is_cut(
    make: Make, stream: bool, quirks: tuple[Any, ...]
) -> None:
    turn = await turn_of(make, stream, call("add", a=21, b=34).replace(quirks=quirks))
    assert made(turn) == [("add", {"a": 21, "b": 34})]
    assert turn.finish == "tool_calls"


@each_row("quirks", [(), ("whole_calls",), ("names_repeated",), ("ids_renewed",)])
async def test_parallel_calls_stay_apart(make: Make, stream: bool, quirks: tuple[Any, ...]) -> None:
    both = calls(call("add", a=1, b=2), call("add", a=3, b=4)).replace(quirks=quirks)
    turn = await turn_of(make, stream, both)
    assert made(turn) == [("add", {"a": 1, "b": 2}), ("add", {"a": 3, "b": 4})]
    assert turn.calls[0].id != turn.calls[1].id


async def test_two_entries_of_one_call_in_one_chunk_are_joined(make: Make) -> None:
    named = {"index": 0, "id": "x", "type": "function", "function": {"name": "add"}}
    rest = {"index": 0, "function": {"arguments": '{"a": 1, "b": 2}'}}
    reply = Completion(message={"tool_calls": [named, rest]}, finish_reason="tool_calls")
    assert made(await turn_of(make, True, reply)) == [("add", {"a": 1, "b": 2})]


async def test_text_beside_calls_is_kept(make: Make, stream: bool) -> None:
    turn = await turn_of(make, stream, calls(call("add", a=1, b=2), text="Let me see."))
    assert (turn.text, len(turn.calls)) == ("Let me see.", 1)


@each_row(("arguments", "expected"), [({"a": 1, "b": 2}, {"a": 1, "b": 2}), (None, None)])
async def test_arguments_may_be_an_object_or_null(
    make: Make, stream: bool, arguments: object, expected: object
) -> None:
    entry = {"index": 0, "id": "x", "function": {"name": "add", "arguments": arguments}}
    reply = Completion(message={"tool_calls": [entry]}, finish_reason="tool_calls")
    (one,) = (await turn_of(make, stream, reply)).calls
    assert (json.loads(one.arguments) if one.arguments else None) == expected


async def test_a_legacy_function_call_is_a_call(make: Make, stream: bool) -> None:
    legacy = {"function_call": {"name": "add", "arguments": '{"a": 1, "b": 2}'}}
    turn = await turn_of(make, stream, Completion(message=legacy, finish_reason="function_call"))
    assert made(turn) == [("add", {"a": 1, "b": 2})]


async def test_an_empty_list_of_calls_is_no_call(make: Make, stream: bool) -> None:
    turn = await turn_of(make, stream, say("hi").replace(message={"tool_calls": []}))
    assert turn.calls == []


async def test_thinking_is_no_text(make: Make, stream: bool) -> None:
    turn = await turn_of(make, stream, say("5", thinking="2 + 3 ..."))
    assert (turn.text, turn.thinking) == ("5", "2 + 3 ...")


@each_row(
    ("content", "text"),
    [
        (None, ""),
        (MISSING, ""),
        ("hi", "hi"),
        ([{"type": "text", "text": "a"}, {"type": "text", "text": "b"}], "ab"),
        (["a", "b"], "ab"),
        ([], ""),
    ],
)
async def test_content_may_be_anything(
    make: Make, stream: bool, content: object, text: str
) -> None:
    turn = await turn_of(make, stream, Completion(message={"content": content}))
    assert (turn.text, turn.finish) == (text, "stop")


async def test_a_refusal_of_the_model_is_its_text(make: Make, stream: bool) -> None:
    reply = Completion(message={"content": None, "refusal": "I will not."})
    assert (await turn_of(make, stream, reply)).text == "I will not."


async def test_of_several_choices_the_first_is_read(make: Make, stream: bool) -> None:
    turn = await turn_of(make, stream, choices(say("one"), say("two"), call("add", a=1, b=2)))
    assert (turn.text, turn.calls) == ("one", [])


@each_row("role", ["", "assistant", "model"])
async def test_an_odd_role_of_its_own_is_the_assistants(
    make: Make, stream: bool, role: str
) -> None:
    assert (await turn_of(make, stream, say("hi").replace(role=role))).text == "hi"


async def test_an_answer_in_another_ones_role_is_none(make: Make, stream: bool) -> None:
    with pytest.raises(BadAnswer, match="role 'user'"):
        await turn_of(make, stream, say("hi").replace(role="user"))


async def test_reported_usage_is_taken(make: Make, stream: bool) -> None:
    usage = {
        "prompt_tokens": 70,
        "completion_tokens": 8,
        "prompt_tokens_details": {"cached_tokens": 64},
    }
    found = (await turn_of(make, stream, say("hi").replace(usage=usage))).usage
    assert (found.requests, found.input_tokens, found.output_tokens) == (1, 70, 8)
    assert found.cached_tokens == 64


@each_row("missing", [None, MISSING])
async def test_usage_that_is_missing_is_estimated(
    make: Make, stream: bool, missing: object
) -> None:
    found = (await turn_of(make, stream, say("word " * 40).replace(usage=missing))).usage
    assert found.input_tokens > 20
    assert 40 <= found.output_tokens <= 60


async def test_odd_usage_is_no_error(make: Make, stream: bool) -> None:
    usage = {"prompt_tokens": None, "completion_tokens": "8", "prompt_tokens_details": None}
    assert (await turn_of(make, stream, say("hi").replace(usage=usage))).usage.requests == 1


@each_row(
    "style",
    [
        ("comments",),
        ("fields",),
        ("multiline",),
        ("no_space",),
        ("crlf",),
        ("joined",),
        ("split",),
        ("comments", "fields", "multiline", "crlf", "split"),
    ],
)
async def test_a_stream_is_read_however_it_is_written(make: Make, style: tuple[Any, ...]) -> None:
    reply = calls(call("add", a=1, b=2), text=TEXT)
    turn = await turn_of(make, True, sse(reply, *style))
    assert (turn.text, made(turn)) == (TEXT, [("add", {"a": 1, "b": 2})])
    assert turn.finish == "tool_calls"


async def test_a_keep_alive_event_without_data_is_passed_over(make: Make) -> None:
    body = b'event: ping\n\ndata:\n\ndata: {"choices":[{"delta":{"content":"hi"},'
    body += b'"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n'
    head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-length: %d\r\n\r\n"
    assert (await turn_of(make, True, raw(head % len(body) + body))).text == "hi"


async def test_an_answer_in_gzip_is_read(make: Make, stream: bool) -> None:
    assert (await turn_of(make, stream, gzip_body(say(TEXT * 20)))).text == TEXT * 20


async def test_plain_json_is_taken_for_a_stream(make: Make) -> None:
    turn = await turn_of(make, True, ignore_stream(calls(call("add", a=1, b=2), text="hi")))
    assert (turn.text, made(turn), turn.finish) == ("hi", [("add", {"a": 1, "b": 2})], "tool_calls")


async def test_a_stream_without_done_is_whole_if_it_was_finished(make: Make) -> None:
    turn = await turn_of(make, True, no_done(call("add", a=1, b=2)))
    assert (turn.finish, len(turn.calls)) == ("tool_calls", 1)


async def test_a_stream_that_stays_open_after_done_is_over(make: Make) -> None:
    turn = await turn_of(make, True, hang(say("hi"), after=1.0), timeout=8.0)
    assert (turn.text, turn.finish) == ("hi", "stop")


# --- answers that are none ---


@each_row(
    "reply",
    [no_choices(), null_choices(), Completion(body={"choices": MISSING})],
    ids=["empty", "null", "missing"],
)
async def test_an_answer_without_choices_is_none(make: Make, reply: Reply) -> None:
    with pytest.raises(BadAnswer, match="no choices"):
        await turn_of(make, False, reply)


@each_row("body", ["[]", "3", '"text"', "null"])
async def test_json_that_is_no_object_is_no_answer(make: Make, stream: bool, body: str) -> None:
    if stream and body != "[]":
        assert (await turn_of(make, True, status(200, body=body))).finish is None
        return
    with pytest.raises(BadAnswer):
        await turn_of(make, stream, status(200, body=body))


async def test_broken_json_is_no_answer(make: Make, stream: bool) -> None:
    with pytest.raises(BadAnswer, match="JSON"):
        await turn_of(make, stream, bad_json())


async def test_an_empty_body_is_no_answer(make: Make) -> None:
    with pytest.raises(BadAnswer, match="nothing"):
        await turn_of(make, False, empty_body())


async def test_an_empty_stream_has_no_end(make: Make) -> None:
    assert (await turn_of(make, True, empty_body())).finish is None


async def test_a_page_instead_of_an_answer_speaks_of_v1(make: Make, stream: bool) -> None:
    with pytest.raises(BadAnswer, match="/v1"):
        await turn_of(make, stream, html(200))


async def test_a_missing_page_speaks_of_v1(make: Make, stream: bool) -> None:
    with FakeServer([say("hi")]) as server:
        model = make(server.url.removesuffix("/v1"))
        with pytest.raises(ModelRefused, match="/v1") as caught:
            await heard(model.ask(question(stream)))
    assert caught.value.status == 404


async def test_a_choice_that_is_no_object_is_no_answer(make: Make, stream: bool) -> None:
    with pytest.raises(BadAnswer, match="choice"):
        await turn_of(make, stream, Completion(body={"choices": ["hi"]}))


async def test_deeply_nested_json_is_no_answer(make: Make, stream: bool) -> None:
    with pytest.raises(BadAnswer):
        await turn_of(make, stream, status(200, body="[" * 100_000))


async def test_half_a_character_becomes_a_replacement_character(make: Make, stream: bool) -> None:
    turn = await turn_of(make, stream, say("a\ud83eb"))
    assert turn.text == "a\ufffdb"


# --- refusals ---


@each_row(
    ("code", "kind", "count"),
    [
        (400, ModelRefused, 1),
        (401, ModelRefused, 1),
        (404, ModelRefused, 1),
        (422, ModelRefused, 1),
        (408, RateLimited, 2),
        (409, RateLimited, 2),
        (429, RateLimited, 2),
        (500, ServerFailed, 2),
        (502, ServerFailed, 2),
        (503, ServerFailed, 2),
    ],
)
async def test_what_may_pass_is_tried_again_and_nothing_else(
    make: Make, code: int, kind: type[ModelRefused], count: int
) -> None:
    with FakeServer([forever(status(code, headers=SOON))]) as server:
        with pytest.raises(kind) as caught:
            await heard(make(server.url, tries=2).ask(question(False)))
        assert len(server.requests) == count
    assert caught.value.status == code
    assert "on order" in str(caught.value)
    assert server.url in str(caught.value)


async def test_a_server_that_fails_twice_is_asked_a_third_time(make: Make, stream: bool) -> None:
    turn = await turn_of(make, stream, status(503, times=2, headers=SOON), say("hi"))
    assert turn.text == "hi"


async def test_a_run_goes_on_after_a_failure_of_the_server(make: Make) -> None:
    script = [call("add", a=2, b=3), status(503, times=2, headers=SOON), say("It is 5.")]
    with FakeServer(script) as server:
        result = await Agent(make(server.url), tools=[add]).run("2+3?")
    assert result.output == "It is 5."


async def test_retry_after_is_waited_for(make: Make) -> None:
    passed: list[str] = []
    asyncio.get_running_loop().call_later(0.35, passed.append, "a third of a second")
    await turn_of(make, False, status(429, headers={"Retry-After": "0.4"}), say("hi"))
    assert passed == ["a third of a second"]


async def test_retry_after_may_be_a_date(make: Make) -> None:
    when = format_datetime(datetime.now(timezone.utc) + timedelta(seconds=2), usegmt=True)
    passed: list[str] = []
    asyncio.get_running_loop().call_later(0.7, passed.append, "more than half a second")
    await turn_of(make, False, status(503, headers={"Retry-After": when}), say("hi"))
    assert passed == ["more than half a second"]  # a date has no fractions


async def test_retry_after_beyond_the_deadline_is_not_waited_for(make: Make) -> None:
    with pytest.raises((RateLimited, ModelTimeout)):
        await turn_of(
            make, False, forever(status(429, headers={"Retry-After": "300"})), timeout=0.5
        )


@each_row("body", [flat_error("wrong field"), {"error": "wrong field"}])
async def test_error_bodies_of_any_shape_are_read(make: Make, stream: bool, body: object) -> None:
    with pytest.raises(ModelRefused, match="wrong field") as caught:
        await turn_of(make, stream, status(400, body=body))
    assert caught.value.body == "wrong field"


async def test_the_validation_errors_of_a_server_are_shown(make: Make) -> None:
    body = {"detail": [{"loc": ["body", "messages"], "msg": "field required"}]}
    with pytest.raises(ModelRefused, match="field required"):
        await turn_of(make, False, status(422, body=body))


async def test_an_error_under_200_is_an_error(make: Make, stream: bool) -> None:
    with pytest.raises(ModelRefused, match="no such model") as caught:
        await turn_of(make, stream, error_under_200("no such model", code=404))
    assert caught.value.status == 404


async def test_the_page_of_a_proxy_is_shown_without_its_tags(make: Make) -> None:
    with pytest.raises(ServerFailed, match="502 Bad Gateway nginx"):
        await turn_of(make, False, html(502), tries=1)


@each_row("like", ["lmdeploy", "vllm", "vllm-0.8", "llama.cpp", "openai"])
async def test_an_overflow_is_known_in_every_servers_words(
    make: Make, stream: bool, like: Any
) -> None:
    with FakeServer([], context=5, like=like) as server:
        with pytest.raises(ContextOverflow):
            await heard(make(server.url).ask(question(stream, said="word " * 50)))
        assert len(server.requests) == 1


async def test_an_error_inside_of_a_stream_is_typed(make: Make) -> None:
    reply = error_in_stream(say("one two three four"), after=0.5)
    parts: list[object] = []

    async def listen(url: str) -> None:
        async for part in make(url).ask(question(True)):
            parts.append(part)  # noqa: PERF401 - what came before the error counts

    with FakeServer([reply]) as server:
        with pytest.raises(BadAnswer, match="internal server error"):
            await listen(server.url)
        assert len(server.requests) == 1
    assert any(isinstance(part, TextPart) for part in parts)
    assert not any(isinstance(part, ResponseEnd) for part in parts)


async def test_a_call_before_an_error_inside_of_a_stream_is_not_carried_out(make: Make) -> None:
    ran: list[int] = []

    def note(number: int) -> str:
        """Note a number."""
        ran.append(number)
        return "noted"

    with FakeServer([error_in_stream(call("note", number=1), after=1.0)]) as server:
        agent = Agent(make(server.url), tools=[note])
        with pytest.raises(ServerFailed):
            async for _ in agent.run_stream("go"):
                pass
    assert ran == []


async def test_the_key_is_sent_and_in_no_error(make: Make, stream: bool) -> None:
    answer = status(401, body={"error": {"message": f"Incorrect API key provided: {KEY}."}})
    with FakeServer([answer]) as server:
        with pytest.raises(ModelRefused, match="Incorrect API key") as caught:
            await heard(make(server.url).ask(question(stream)))
        assert server.requests[0].headers["authorization"] == f"Bearer {KEY}"
    assert KEY not in f"{caught.value} {caught.value!r} {caught.value.body}"


@each_row(
    "reply",
    [error_under_200(f"bad key {KEY}"), status(200, body=f"<p>{KEY}"), bad_json("{" + KEY)],
)
async def test_a_key_in_a_body_that_is_no_answer_is_not_shown(
    make: Make, stream: bool, reply: Reply
) -> None:
    with pytest.raises(ModelError) as caught:
        await turn_of(make, stream, reply)
    assert KEY not in f"{caught.value} {caught.value!r}"


# --- what a server does not take ---


async def test_stream_options_are_left_out_where_they_are_refused(make: Make) -> None:
    words = "Extra inputs are not permitted: stream_options"
    with FakeServer([status(400, body=flat_error(words)), say("one"), say("two")]) as server:
        model = make(server.url)
        assert (await heard(model.ask(question(True)))).text == "one"
        assert (await heard(model.ask(question(True)))).text == "two"
        sent = ["stream_options" in request.body for request in server.requests]
    assert sent == [True, False, False]


async def test_a_server_that_refuses_stream_options_for_ever_is_asked_twice(make: Make) -> None:
    with FakeServer([forever(status(400, body=flat_error("stream_options")))]) as server:
        with pytest.raises(ModelRefused):
            await heard(make(server.url).ask(question(True)))
        assert len(server.requests) == 2


async def test_tools_that_are_refused_are_offered_in_another_dialect(
    make: Make, stream: bool
) -> None:
    with FakeServer(forever_text('{"tool": "add"}'), refuses_tools=True) as server:
        parts = [part async for part in make(server.url).ask(question(stream, ADD))]
        assert [bool(request.tools) for request in server.requests] == [True, False]
    chosen = [part.dialect for part in parts if isinstance(part, ResponseStart)]
    assert chosen == ["native", "constrained"]


async def test_the_other_dialect_is_spoken_from_then_on(make: Make) -> None:
    with FakeServer(forever_text("{}"), refuses_tools=True) as server:
        model = make(server.url)
        for _ in range(2):
            _ = [part async for part in model.ask(question(False, ADD))]
        assert [bool(request.tools) for request in server.requests] == [True, False, False]


async def test_a_refusal_that_has_nothing_to_do_with_tools_is_raised(make: Make) -> None:
    with FakeServer([forever(status(400, body=flat_error("temperature is too high")))]) as server:
        with pytest.raises(ModelRefused, match="temperature"):
            await heard(make(server.url).ask(question(False, ADD)))
        assert len(server.requests) == 1


def forever_text(text: str) -> list[Reply]:
    return [forever(say(text))]


# --- broken connections and time ---


@each_row("broken", [reset(), drop(), reset(after=0.0)])
async def test_a_connection_that_breaks_before_the_answer_is_made_again(
    make: Make, broken: Reply
) -> None:
    turn = await turn_of(make, False, broken, say("hi"))
    assert turn.text == "hi"


async def test_a_stream_refused_by_a_reset_is_asked_for_again(make: Make) -> None:
    assert (await turn_of(make, True, reset(), say("hi"))).text == "hi"


@pytest.mark.parametrize("broken", [reset(say(TEXT), after=0.5), drop(say(TEXT), after=0.5)])
async def test_a_plain_answer_that_breaks_off_is_asked_for_again(make: Make, broken: Reply) -> None:
    assert (await turn_of(make, False, broken, say("hi"))).text == "hi"


@each_row(
    "broken",
    [
        reset(call("add", a=1, b=2), after=0.6),
        drop(call("add", a=1, b=2), after=0.6),
        cut(call("add", a=1, b=2)),
        cut(call("add", a=1, b=2), after=0.5),
        reset(ignore_stream(say(TEXT)), after=0.5),
    ],
    ids=["reset", "drop", "cut", "cut early", "plain"],
)
async def test_a_stream_that_breaks_off_has_no_end_and_is_not_asked_for_again(
    make: Make, broken: Reply
) -> None:
    with FakeServer([broken]) as server:
        turn = await heard(make(server.url).ask(question(True, ADD)))
        assert len(server.requests) == 1
    assert turn.finish is None


async def test_a_run_asks_again_for_an_answer_that_was_cut_and_runs_nothing_of_it(
    make: Make,
) -> None:
    script = [cut(call("add", a=1, b=1)), call("add", a=2, b=3), say("It is 5.")]
    with FakeServer(script) as server:
        agent = Agent(make(server.url), tools=[add])
        events: list[Event] = [event async for event in agent.run_stream("2+3?")]
    assert sum(isinstance(event, AnswerDiscarded) for event in events) == 1
    started = [event.call.arguments for event in events if isinstance(event, ToolCallStarted)]
    assert [json.loads(arguments) for arguments in started] == [{"a": 2, "b": 3}]
    last = events[-1]
    assert isinstance(last, RunFinished)
    assert last.result.output == "It is 5."


async def test_a_call_of_an_answer_that_was_given_up_is_not_run(make: Make, stream: bool) -> None:
    turn = await turn_of(make, stream, call("add", a=1, b=2).replace(finish_reason="error"))
    assert turn.finish is None


async def test_a_server_that_never_answers_ends_at_the_deadline(make: Make, stream: bool) -> None:
    with FakeServer([forever(never())]) as server:
        with pytest.raises(ModelTimeout, match="timeout="):
            await heard(make(server.url, timeout=0.4).ask(question(stream)))
        await eventually(lambda: server.abandoned_count == 1)


async def test_a_server_that_drips_ends_at_the_deadline(make: Make, stream: bool) -> None:
    with pytest.raises(ModelTimeout):
        await turn_of(make, stream, forever(slow_loris(say(TEXT * 9), every=0.05)), timeout=0.5)


async def test_the_deadline_covers_all_tries(make: Make) -> None:
    late = status(503, headers={"Retry-After": "0.3"})
    with pytest.raises((ServerFailed, ModelTimeout)):
        await turn_of(make, False, forever(late), timeout=1.0, tries=50)


async def test_a_server_that_is_not_there_is_unreachable(make: Make, stream: bool) -> None:
    with FakeServer() as server:
        url = server.url
    with pytest.raises(ModelUnreachable, match="is it running") as caught:
        await heard(make(url, tries=2).ask(question(stream)))
    assert url in str(caught.value)


async def test_a_server_that_comes_back_is_found(make: Make) -> None:
    server = FakeServer([say("hi")])
    server.start()
    server.stop()
    later = asyncio.get_running_loop().call_later(0.1, server.start)
    try:
        turn = await heard(make(server.url, tries=12).ask(question(False)))
    finally:
        later.cancel()
        await asyncio.to_thread(server.stop)
    assert turn.text == "hi"


async def test_user_and_password_of_the_url_are_in_no_error(make: Make) -> None:
    model = make("http://marvin:canary-password@127.0.0.1:9/v1", tries=1)
    with pytest.raises(ModelUnreachable) as caught:
        await heard(model.ask(question(False)))
    shown = f"{caught.value} {caught.value!r} {model!r}"
    assert "canary-password" not in shown
    assert "marvin" not in shown
    assert "http://127.0.0.1:9/v1" in shown


async def test_bytes_that_are_no_http_are_no_answer(make: Make, stream: bool) -> None:
    with pytest.raises(ModelUnreachable, match=r"broke|no server"):
        await turn_of(make, stream, forever(raw(b"SSH-2.0-OpenSSH_9.6\r\n")), tries=1)


async def test_half_of_the_headers_are_no_answer(make: Make) -> None:
    assert (await turn_of(make, False, raw(b"HTTP/1.1 200 OK\r\ncontent-le"), say("hi"))).text


# --- cancellation and concurrency ---


@each_row("reply", [never(), hang(say(TEXT), after=0.5)])
async def test_a_cancelled_request_closes_its_connection(
    make: Make, stream: bool, reply: Reply
) -> None:
    with FakeServer([reply, say("next")]) as server:
        model = make(server.url)
        task = asyncio.ensure_future(heard(model.ask(question(stream))))
        await eventually(lambda: len(server.requests) == 1)
        await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await eventually(lambda: server.abandoned_count == 1)
        assert (await heard(model.ask(question(stream)))).text == "next"


async def test_an_answer_that_is_left_early_closes_its_connection(make: Make) -> None:
    with FakeServer([say("one two three four").replace(delay=0.05)]) as server:
        async with aclosing(make(server.url).ask(question(True))) as parts:  # type: ignore[type-var]
            async for part in parts:
                if isinstance(part, TextPart):
                    break
        gc.collect()
        await eventually(lambda: server.abandoned_count == 1)


async def test_many_requests_at_once_get_each_its_own_answer(make: Make, stream: bool) -> None:
    with FakeServer(lambda request: say(request.messages[-1]["content"])) as server:
        model = make(server.url)

        async def ask(number: int) -> str:
            asked = question(stream, said=f"number {number}")
            return (await heard(model.ask(asked))).text

        answers = await asyncio.gather(*map(ask, range(60)))
    assert answers == [f"number {number}" for number in range(60)]


# --- what is sent ---


async def test_text_beyond_ascii_travels_as_it_is(make: Make, stream: bool) -> None:
    with FakeServer([say("hi")]) as server:
        await heard(make(server.url).ask(question(stream, said=TEXT)))
        assert TEXT.encode() in server.requests[0].raw


async def test_nothing_empty_is_sent(make: Make, stream: bool) -> None:
    with FakeServer([call("add", a=2, b=3), say("5")]) as server:
        await Agent(make(server.url), tools=[add]).run("2+3?")
        server.reset([say("hi")])
        await heard(make(server.url).ask(question(stream)))
        body = server.requests[0].body
    assert "tools" not in body
    assert None not in body.values()
    assert all(message["content"] is not None for message in body["messages"])


async def test_settings_are_sent_and_stop_words_add_up(make: Make, stream: bool) -> None:
    settings = ModelSettings(
        temperature=0.5, max_tokens=9, seed=7, stop=("END",), extra_body={"top_k": 3}
    )
    with FakeServer([say("hi")]) as server:
        await heard(make(server.url, settings=settings).ask(question(stream)))
        body = server.requests[0].body
    assert (body["temperature"], body["max_tokens"], body["seed"]) == (0.5, 9, 7)
    assert (body["stop"], body["top_k"], body["model"]) == (["END"], 3, "m")
    assert body.get("stream", False) is stream


async def test_each_request_begins_with_the_bytes_of_the_one_before(make: Make) -> None:
    steps: list[Reply] = [call("add", a=number, b=1) for number in range(20)]
    with FakeServer([*steps, say(TEXT)]) as server:
        agent = Agent(make(server.url), tools=[add], instructions=TEXT, limits=Limits(requests=30))
        result = await agent.run(f"Zähle! {TEXT}")
        sent = [request.raw for request in server.requests]
        bodies = [request.body for request in server.requests]
    assert (result.output, len(sent)) == (TEXT, 21)
    for before, after in pairwise(sent):
        assert after.startswith(before.removesuffix(b"]}"))
        assert len(after) > len(before)
    for body in bodies:
        assert next(reversed(body)) == "messages"
        assert all(message["content"] is not None for message in body["messages"])


async def test_a_whole_run_answers(make: Make) -> None:
    script = [calls(call("add", a=3, b=5), call("add", a=1, b=1)), say("8 and 2")]
    with FakeServer(script) as server:
        result = await Agent(make(server.url), tools=[add]).run("3+5, 1+1")
    assert result.output == "8 and 2"
    assert [m.text for m in result.messages if isinstance(m, ToolResult)] == ["8", "2"]
    assert result.usage.requests == 2
    assert result.usage.input_tokens > 0


async def test_the_dialect_is_an_event_of_a_run(make: Make) -> None:
    with FakeServer([say("hi")]) as server:
        events = [event async for event in Agent(make(server.url)).run_stream("hi")]
    assert any(isinstance(event, DialectChosen) and event.dialect == "native" for event in events)


async def test_a_call_written_as_text_is_called_once(make: Make, stream: bool) -> None:
    text = '<tool_call>\n{"name": "add", "arguments": {"a": 1, "b": 2}}\n</tool_call>'
    turn = await turn_of(make, stream, say(text))
    assert [type(one) for one in turn.calls] == [ToolCallPart]
    assert turn.text.strip() == ""
