"""Answers that a server fails to parse: their text is in the error, or the model is informed."""

from __future__ import annotations

import json

import pytest
from rows import each_row

from agentcall import Agent, RunResult, tool
from agentcall.events import RunFinished
from agentcall.models.http_chat import HTTPChat
from agentcall.testing import FakeServer, say
from agentcall.testing.faults import error_in_stream, openai_error, status
from agentcall.testing.replies import Reply

CALLS: list[str] = []


@tool(read_only=True)
def price(item: str) -> str:
    """Return the price of an item."""
    CALLS.append(item)
    return "4 euros"


HERMES = '<tool_call>\n{"name": "price", "arguments": {"item": "tea"}}\n</tool_call>'
QWEN = (
    "<tool_call>\n<function=price>\n<parameter=item>\ntea\n</parameter>\n</function>\n</tool_call>"
)
LFM = "<|tool_call_start|>[price(item='tea')]<|tool_call_end|>"


def unparsed(text: str, position: int = 0) -> Reply:
    """A refusal of llama.cpp for the rest of an answer from a position on."""
    message = f"Failed to parse input at pos {position}: {text}"
    return status(500, body=openai_error(message))


async def play(stream: bool, *replies: Reply) -> tuple[RunResult[str], list[dict[str, object]]]:
    CALLS.clear()
    with FakeServer([*replies]) as server:
        agent = Agent(HTTPChat(server.url, "m", dialect="native"), tools=[price])
        if stream:
            events = [event async for event in agent.run_stream("What is tea?")]
            last = events[-1]
            assert isinstance(last, RunFinished)
            result = last.result
        else:
            result = await agent.run("What is tea?")
        return result, [json.loads(request.raw) for request in server.requests if request.raw]


def count_repeats(requests: list[dict[str, object]]) -> int:
    texts = [json.dumps(request["messages"]) for request in requests]
    return max(map(texts.count, texts))


@each_row("stream", [False, True])
@each_row("text", [HERMES, QWEN, LFM, f"I look it up.\n{HERMES}"])
async def test_the_text_in_the_error_is_read_as_the_models_own(stream: bool, text: str) -> None:
    result, requests = await play(stream, unparsed(text), say("It is 4 euros."))
    assert (CALLS, result.output) == (["tea"], "It is 4 euros.")
    assert len(requests) == 2


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("text", [HERMES, LFM])
async def test_whole_calls_behind_text_that_the_server_parsed_are_read(
    stream: bool, text: str
) -> None:
    result, requests = await play(stream, unparsed(text, 395), say("It is 4 euros."))
    assert (CALLS, result.output, len(requests)) == (["tea"], "It is 4 euros.", 2)


@each_row("stream", [False, True])
@each_row(
    "text",
    [
        f'{HERMES}"}}}}</tool_call>',  # a call inside of an argument
        "</tool_call>",
        '"city": "Paris"}}</tool_call>',
        f"{HERMES}\nNo, better not.</think>",
        HERMES.removesuffix("</tool_call>"),
        HERMES[:-20],
    ],
)
async def test_the_end_of_an_answer_that_is_no_whole_call_is_reported(
    stream: bool, text: str
) -> None:
    result, requests = await play(stream, unparsed(text, 31), say("I can't."))
    assert (CALLS, result.output) == ([], "I can't.")
    assert "could not be read" in json.dumps(requests[1])


@each_row("stream", [False, True])
@each_row(
    ("code", "message"),
    [
        (500, "Failed to parse tool call arguments as JSON: [json.exception.parse_error.101] x"),
        (500, "Failed to parse input at pos 12"),
        (500, "Invalid diff: now finding less tool calls!"),
        (500, "error parsing tool call: raw='{\"item\": }', err=invalid character '}'"),
        (500, "XML syntax error on line 6: element <parameter> closed by </function>"),
        (400, "Failed to parse fc related info to json format!"),
        (500, "Error in extracting tool call from response."),
        (400, "tool call validation failed: attempted to call tool 'prise' which was not offered"),
        (500, "Unexpected token 12606 while expecting start token 200006"),
    ],
)
async def test_without_the_text_the_model_is_informed_and_the_request_not_repeated(
    stream: bool, code: int, message: str
) -> None:
    reply = status(code, body=openai_error(message))
    result, requests = await play(stream, reply, say("It is 4 euros."))
    assert (CALLS, result.output, len(requests)) == ([], "It is 4 euros.", 2)
    assert "could not be read" in json.dumps(requests[1])


@pytest.mark.parametrize("stream", [False, True])
async def test_a_server_that_never_parses_ends_the_run_with_a_result(stream: bool) -> None:
    broken = status(500, body=openai_error("Failed to parse tool call arguments as JSON"), times=9)
    result, requests = await play(stream, broken)
    assert result.stop_reason == "error"
    assert len(requests) == 3
    assert count_repeats(requests) == 1


@pytest.mark.parametrize("stream", [False, True])
async def test_an_error_under_http_200_is_read_as_well(stream: bool) -> None:
    message = f"Failed to parse input at pos 0: {HERMES}"
    reply = status(200, body=openai_error(message))
    result, requests = await play(stream, reply, say("It is 4 euros."))
    assert (CALLS, result.output, len(requests)) == (["tea"], "It is 4 euros.", 2)


@pytest.mark.parametrize("stream", [False, True])
async def test_a_failed_generation_in_the_error_is_read(stream: bool) -> None:
    error = {
        "message": "Failed to call a function. See 'failed_generation' for more details.",
        "code": "tool_use_failed",
        "failed_generation": '<function=price{"item": "tea"}</function>',
    }
    reply = status(400, body={"error": error})
    result, requests = await play(stream, reply, say("It is 4 euros."))
    assert (CALLS, result.output, len(requests)) == (["tea"], "It is 4 euros.", 2)


async def test_pieces_of_a_call_before_the_error_do_not_run() -> None:
    from agentcall.testing import call

    message = "Failed to parse tool call arguments as JSON: missing closing quote"
    reply = error_in_stream(call("price", item="tea"), after=0.9, error=message)
    result, _ = await play(True, reply, say("It is 4 euros."))
    assert (CALLS, result.output) == ([], "It is 4 euros.")


async def test_text_that_was_streamed_before_the_error_is_not_repeated() -> None:
    text = f"I look it up.\n{HERMES}"
    reply = error_in_stream(
        say("I look it up.\n"), after=0.99, error=f"Failed to parse input at pos 0: {text}"
    )
    result, requests = await play(True, reply, say("It is 4 euros."))
    assert (CALLS, result.output) == (["tea"], "It is 4 euros.")
    messages = requests[1]["messages"]
    assert isinstance(messages, list)
    assert messages[-2]["content"].count("I look it up.") == 1


async def test_a_long_answer_is_found_in_the_error_as_a_whole() -> None:
    item = "tea " * 30_000
    text = f'<tool_call>{{"name": "price", "arguments": {{"item": "{item}"}}}}</tool_call>'
    result, _ = await play(False, unparsed(text), say("Done."))
    assert (CALLS, result.output) == ([item], "Done.")


async def test_the_models_words_do_not_look_like_an_overflow() -> None:
    text = HERMES.replace("tea", "context length exceeded, too many tokens")
    result, _ = await play(False, unparsed(text), say("Done."))
    assert result.output == "Done."
    assert len(CALLS) == 1
