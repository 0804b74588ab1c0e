"""Servers that drop a part of a long conversation without a word, or whose counts are odd."""

from __future__ import annotations

from typing import Any

import pytest
from rows import each_row

from agentcall import Agent, Limits, tool
from agentcall.events import AnswerDiscarded, ContextTrimmed, RunFinished
from agentcall.testing import FakeServer, RecordedRequest, Reply, call, say

both = pytest.mark.parametrize("stream", [False, True], ids=["plain", "streamed"])

LINES = "".join(f"line {n}: the quick brown fox\n" for n in range(1500))
"""A result of about 40,000 characters."""


def make_brain(count: Any) -> Any:
    """A model that reads a long result, and answers; `count` is what its server counts."""

    def answer(request: RecordedRequest) -> Reply:
        tokens, is_cut = count(request)
        usage = {"prompt_tokens": tokens, "completion_tokens": 20}
        if request.messages[-1]["role"] != "tool":
            return call("read_log").replace(usage=usage)
        return say("half" if is_cut else "done").replace(usage=usage)

    return answer


async def run(stream: bool, count: Any, text: str = LINES, **profile: Any) -> tuple[Any, list[Any]]:
    """The result, and the events of a streamed run."""

    @tool
    def read_log() -> str:
        """Read the log."""
        return text

    with FakeServer(make_brain(count), models=("m:latest",), **profile) as server:
        agent = Agent(f"{server.url}#m", tools=[read_log], limits=Limits(requests=8))
        if not stream:
            return await agent.run("What does the log say?"), []
        events = [event async for event in agent.run_stream("What does the log say?")]
        last = events[-1]
        assert isinstance(last, RunFinished)
        return last.result, events


def cut_at(window: int, reported: int | None = None) -> Any:
    """A server that counts at most `window` tokens, and does not read more."""

    def count(request: RecordedRequest) -> tuple[int, bool]:
        is_cut = request.prompt_tokens > window
        return (reported or window) if is_cut else request.prompt_tokens, is_cut

    return count


def running(window: int) -> dict[str, Any]:
    """The pages of an Ollama whose model has this window."""
    models = [{"name": "m:latest", "context_length": window}]
    return {"owned_by": "library", "pages": {"/api/ps": {"models": models}}}


@both
@each_row(
    ("count", "profile"),
    [
        (cut_at(4096), {}),
        (cut_at(4096), running(4096)),
        (cut_at(2048), {}),
        (cut_at(8192, 8190), {}),
        (cut_at(5000), running(5000)),
        (cut_at(4096, 2900), running(4096)),
    ],
    ids=["4096", "Ollama", "2048", "nearly 8192", "another window", "whole messages dropped"],
)
async def test_a_server_that_cuts_without_a_word_is_noticed(
    stream: bool, count: Any, profile: dict[str, Any]
) -> None:
    result, events = await run(stream, count, **profile)
    assert (result.output, result.stop_reason) == ("done", "final")
    assert result.tool_calls[0][1].text == LINES
    if stream:
        assert any(isinstance(event, ContextTrimmed) for event in events)
        discarded = [event.reason for event in events if isinstance(event, AnswerDiscarded)]
        is_known = bool(profile)  # then it is not sent
        cut = "the server left a part of the conversation out"
        assert set(discarded) == (set() if is_known else {cut})


def constant(tokens: int) -> Any:
    return lambda _request: (tokens, False)


def only_new(request: RecordedRequest) -> tuple[int, bool]:
    """A server with a prefix cache that does not count what it has read before."""
    before = 12_000 if len(request.messages) < 3 else 0
    return request.prompt_tokens + before, False


def count_repeats(request: RecordedRequest) -> tuple[int, bool]:
    """A tokenizer with one token for many equal characters."""
    return request.prompt_tokens // 4, False


@both
@each_row(
    ("count", "profile"),
    [
        (constant(1), {}),
        (constant(100), {}),
        (constant(1000), {}),
        (constant(4096), {}),
        (constant(1000), running(131_072)),
        (only_new, {}),
        (count_repeats, {}),
        (lambda _: (4096, False), running(32_768)),
    ],
    ids=["1", "100", "1000", "4096", "1000 of 131072", "only new", "repeats", "4096 of 32768"],
)
async def test_a_count_that_does_not_follow_the_conversation_discards_no_answer(
    stream: bool, count: Any, profile: dict[str, Any]
) -> None:
    result, events = await run(stream, count, **profile)
    assert (result.output, result.usage.requests) == ("done", 2)
    assert not any(isinstance(event, (ContextTrimmed, AnswerDiscarded)) for event in events)


@both
@each_row("usage", [None, {}, {"prompt_tokens": 0, "completion_tokens": -5}, "?"])
async def test_a_limit_of_tokens_ends_a_run_whose_server_reports_none(
    stream: bool, usage: Any
) -> None:
    @tool
    def read_log(page: int) -> str:
        """Read the log."""
        return f"line {page} " * 100

    def answer(request: RecordedRequest) -> Reply:
        return call("read_log", page=request.number).replace(usage=usage)

    with FakeServer(answer) as server:
        agent = Agent(server.url, tools=[read_log], limits=Limits(tokens=200))
        if stream:
            events = [event async for event in agent.run_stream("go")]
            last = events[-1]
            assert isinstance(last, RunFinished)
            result: Any = last.result
        else:
            result = await agent.run("go")
    assert result.stop_reason == "max_tokens"
    assert result.usage.requests < 5
