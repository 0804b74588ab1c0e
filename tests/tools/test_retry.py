"""Failures that pass, and calls that are made again."""

from __future__ import annotations

import urllib.error
from email.message import Message as Headers

import aiohttp
import httpx
import pytest

from agentcall import Agent, ModelRetry, tool
from agentcall.errors import IsolatedToolFailed, ToolError, ToolTimeout, UsageError
from agentcall.messages import ToolResult
from agentcall.testing import ScriptedModel, call, say
from agentcall.tools import retry
from agentcall.tools.retry import is_transient, says_try_again

REQUEST = httpx.Request("GET", "http://x")
CALLS: list[str] = []


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry, "FIRST_PAUSE", 0.001)
    CALLS.clear()


class Forgetful(ToolError):
    def __init__(self, code: int) -> None:
        self.code = code


def test_what_passes_and_what_lasts() -> None:
    passing = [
        ConnectionResetError(),
        TimeoutError(),
        OSError(101, "unreachable"),
        httpx.ConnectError("no"),
        httpx.ReadTimeout("no"),
        httpx.HTTPStatusError("x", request=REQUEST, response=httpx.Response(503)),
        aiohttp.ServerDisconnectedError(),
        urllib.error.HTTPError("http://x", 429, "busy", Headers(), None),
        ToolError("busy", retry=True),
        IsolatedToolFailed("busy", retry=True),
    ]
    lasting = [
        ValueError("no"),
        FileNotFoundError("no"),
        PermissionError("no"),
        httpx.HTTPStatusError("x", request=REQUEST, response=httpx.Response(404)),
        httpx.InvalidURL("no"),
        urllib.error.HTTPError("http://x", 404, "gone", Headers(), None),
        ToolError("no"),
        ToolTimeout("late"),
        ModelRetry("other words"),
        Forgetful(3),
        None,
    ]
    assert [error for error in passing if not is_transient(error)] == []
    assert [error for error in lasting if is_transient(error)] == []


def test_which_words_say_that_a_call_may_be_made_again() -> None:
    again = [
        "Error: service temporarily unavailable, please retry",
        "Timeout. Try again.",
        '{"error": "busy, try again later"}',
        "服务繁忙, 请稍后再试",
    ]
    content = ["4 euros", "Error: no such item", "He will try again tomorrow.", "try again " * 99]
    assert [text for text in again if not says_try_again(text)] == []
    assert [text for text in content if says_try_again(text)] == []


@pytest.mark.parametrize("is_async", [False, True])
async def test_a_call_that_fails_for_a_moment_is_made_again(is_async: bool) -> None:
    def fail_twice(item: str) -> str:
        CALLS.append(item)
        if len(CALLS) < 3:
            raise ConnectionResetError("gone")
        return "4 euros"

    async def fail_twice_async(item: str) -> str:
        return fail_twice(item)

    function = fail_twice_async if is_async else fail_twice
    price = tool(name="price", description="Get a price.", read_only=True, attempts=3)(function)
    agent = Agent(ScriptedModel([call("price", item="tea"), say("4.")]), tools=[price])
    result = await agent.run("Tea?")
    assert CALLS == ["tea"] * 3
    assert result.usage.tool_calls == 1
    assert result.tool_errors == ()


async def test_after_the_last_attempt_the_model_reads_the_failure() -> None:
    @tool(idempotent=True, attempts=2)
    def fail() -> str:
        """Fail."""
        CALLS.append("")
        raise ConnectionResetError("gone")

    @tool(idempotent=True, attempts=2)
    def be_wrong() -> str:
        """Be wrong."""
        CALLS.append("")
        raise ValueError("wrong")

    result = await Agent(ScriptedModel([call("fail"), say("x")]), tools=[fail]).run("Go.")
    assert len(CALLS) == 2
    assert [m.text for m in result.messages if isinstance(m, ToolResult)] == [
        "ConnectionResetError: gone"
    ]
    await Agent(ScriptedModel([call("be_wrong"), say("x")]), tools=[be_wrong]).run("Go.")
    assert len(CALLS) == 3


def test_attempts_of_a_tool_that_acts_are_refused() -> None:
    with pytest.raises(UsageError, match="idempotent=True"):

        @tool(attempts=2)
        def pay() -> str:
            """Pay."""
            return "paid"

    with pytest.raises(UsageError, match="is an agent"):
        Agent(ScriptedModel([]), name="a").as_tool(attempts=2, idempotent=True)


@pytest.mark.parametrize("raises", [False, True])
async def test_a_tool_that_says_try_again_may_be_called_again_with_equal_arguments(
    raises: bool,
) -> None:
    text = "Error: the service is temporarily unavailable, try again"

    @tool
    def book(day: str) -> str:
        """Book a day."""
        CALLS.append(day)
        if len(CALLS) < 3:
            if raises:
                raise ToolError(text, retry=True)
            return text
        return "booked"

    model = ScriptedModel([*[call("book", day="mon")] * 3, say("Booked.")])
    result = await Agent(model, tools=[book]).run("Book.")
    assert (result.output, result.stop_reason, len(CALLS)) == ("Booked.", "final", 3)
    assert ("make the same call again" in str(result.messages)) == raises


async def test_a_tool_that_always_says_try_again_is_called_a_few_times() -> None:
    @tool
    def book(day: str) -> str:
        """Book a day."""
        CALLS.append(day)
        return "Error: temporarily unavailable, try again"

    model = ScriptedModel([*[call("book", day="mon")] * 9, say("No.")])
    result = await Agent(model, tools=[book]).run("Book.")
    assert len(CALLS) == 3
    assert result.stop_reason == "loop"
