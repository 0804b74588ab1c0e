"""A conversation whose last run ended badly goes on, with every chat template and API."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rows import each_row

from agentcall import Agent, Limits, RunContext, tool
from agentcall.errors import BadAnswer
from agentcall.events import RunFinished, ServerAdapted
from agentcall.messages import Message, System
from agentcall.models.adaptations import forget_server
from agentcall.result import RunResult, result_of
from agentcall.sessions import SQLiteSession, Window
from agentcall.testing import FakeServer, RecordedRequest, Reply, call, calls, say
from agentcall.testing.chat_rules import (
    GEMMA,
    GEMMA_3,
    LLAMA,
    LLAMA_2,
    MISTRAL,
    MISTRAL_API,
    MISTRAL_SMALL,
    OPENAI,
    QWEN,
    ChatRules,
)
from agentcall.testing.replies import ScriptedCall

RULES = {
    "mistral": MISTRAL,
    "mistral 500": replace(MISTRAL, status=500),
    "mistral 200": replace(MISTRAL, status=200),
    "mistral event": replace(MISTRAL, form="event"),
    "mistral api": MISTRAL_API,
    "mistral small": MISTRAL_SMALL,
    "gemma": GEMMA,
    "gemma 500": replace(GEMMA, status=500, form="text"),
    "gemma 3": GEMMA_3,
    "gemma 3 event": replace(GEMMA_3, form="event"),
    "llama": LLAMA,
    "llama 2": LLAMA_2,
    "qwen": QWEN,
    "openai": OPENAI,
}


@tool(read_only=True)
async def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


@tool
async def wait(seconds: int) -> str:
    """Wait for a while."""
    await asyncio.sleep(seconds)
    return "done"


@tool(requires_approval=True)
def pay(amount: int) -> str:
    """Pay an amount."""
    return f"paid {amount}"


@tool(untrusted=True, read_only=True)
def read_page(page: int) -> str:
    """Read a page of the web."""
    return f"page {page} says hello"


class Ending:
    """An agent, and how its first run is driven."""

    def __init__(self, url: str, *, stream: bool) -> None:
        self.url = url
        self.stream = stream
        self.adapted: list[str] = []

    def agent(self, **options: Any) -> Agent[Any, Any]:
        tools = [add, wait, pay, read_page]
        return Agent(self.url, instructions="You calculate.", tools=tools, **options)

    async def run(self, agent: Agent[Any, Any], prompt: str, **options: Any) -> RunResult[Any]:
        if not self.stream:
            return await agent.run(prompt, **options)
        result: RunResult[Any] | None = None
        async for event in agent.run_stream(prompt, **options):
            if isinstance(event, ServerAdapted):
                self.adapted.append(event.name)
            if isinstance(event, RunFinished):
                result = event.result
        assert result is not None
        return result


ADD = call("add", a=2, b=3)
BROKEN = '<tool_call>\n{"name": "add", "arguments": {"a": 2, "b": \n</tool_call>'
GOOD = '<tool_call>\n{"name": "add", "arguments": {"a": 2, "b": 3}}\n</tool_call>'


async def end_at_limit(ending: Ending) -> tuple[Message, ...]:
    result = await ending.run(ending.agent(limits=Limits(requests=1)), "2 + 3?")
    assert result.stop_reason == "max_requests"
    return result.messages


async def end_at_deadline(ending: Ending) -> tuple[Message, ...]:
    result = await ending.run(ending.agent(limits=Limits(seconds=1.5)), "Wait")
    assert result.stop_reason == "timeout"
    return result.messages


async def end_by_cancel(ending: Ending) -> tuple[Message, ...]:
    started = asyncio.Event()

    @tool
    async def hang(context: RunContext[None]) -> str:
        """Hang for ever."""
        started.set()
        await asyncio.sleep(600)
        return ""

    agent = Agent(ending.url, instructions="You calculate.", tools=[add, hang])
    task = asyncio.ensure_future(ending.run(agent, "Hang"))
    await asyncio.wait_for(started.wait(), 30)
    task.cancel()
    with pytest.raises(asyncio.CancelledError) as caught:
        await task
    result = result_of(caught.value)
    assert result is not None
    return result.messages


async def end_waiting(ending: Ending) -> tuple[Message, ...]:
    result = await ending.run(ending.agent(), "Pay 5")
    assert result.stop_reason == "approval"
    return result.messages


async def end_empty(ending: Ending) -> tuple[Message, ...]:
    result = await ending.run(ending.agent(), "2 + 3?")
    assert result.output == "It is 5."
    return result.messages


async def end_with_three_empty_answers(ending: Ending) -> tuple[Message, ...]:
    with pytest.raises(BadAnswer) as caught:
        await ending.run(ending.agent(), "2 + 3?")
    result = result_of(caught.value)
    assert result is not None
    return result.messages


async def end_in_compaction(ending: Ending, folder: Path) -> tuple[Message, ...]:
    session = SQLiteSession("talk", folder / "talk.db")
    agent = ending.agent()
    for prompt in ("Read page 1", "Read page 2"):
        await ending.run(agent, prompt, session=session)
    await session.compact(Window(2))
    result = await ending.run(agent, "And now?", session=session)
    assert result.output == "It is 5."
    return result.messages


async def end_in_history(ending: Ending) -> tuple[Message, ...]:
    history = (System("Earlier instructions."),)
    result = await ending.run(ending.agent(), "2 + 3?", messages=history)
    assert result.output == "It is 5."
    return result.messages


PAGE = call("read_page", page=1)
DONE = say("It is 5.")
TWO = calls(ScriptedCall("add", {"a": 2, "b": 3}), ScriptedCall("add", {"a": 3, "b": 4}))
ENDINGS: dict[str, tuple[Callable[[Ending], Awaitable[tuple[Message, ...]]], list[Reply]]] = {
    "limit": (end_at_limit, [ADD]),
    "deadline": (end_at_deadline, [call("wait", seconds=600)]),
    "cancel": (end_by_cancel, [call("hang")]),
    "waiting call": (end_waiting, [call("pay", amount=5)]),
    "waiting call beside another": (
        end_waiting,
        [calls(ScriptedCall("add", {"a": 2, "b": 3}), ScriptedCall("pay", {"amount": 5}))],
    ),
    "two empty answers": (end_empty, [say(""), say(""), DONE]),
    "an empty answer after a call": (end_empty, [ADD, say(""), say(""), DONE]),
    "three empty answers": (end_with_three_empty_answers, [say(""), say(""), say("")]),
    "broken call": (end_empty, [say(BROKEN), DONE]),
    "broken call beside text": (end_empty, [say(f"I add. {BROKEN}"), DONE]),
    "broken call after a call": (end_empty, [ADD, say(BROKEN), DONE]),
    "mixed call": (end_empty, [say(f"{GOOD}\n{BROKEN}"), DONE]),
    "parallel calls": (end_empty, [TWO, DONE]),
    "history with instructions": (end_in_history, [ADD, DONE]),
}


async def _continue(ending: Ending, messages: tuple[Message, ...]) -> None:
    agent = ending.agent()
    second = await ending.run(agent, "And 3 + 4?", messages=messages)
    assert second.output == "It is 7."
    assert any("7" in str(message) for message in second.messages[len(messages) :])
    third = await ending.run(agent, "Thank you", messages=second.messages)
    assert third.output == "You are welcome."


REST = [call("add", a=3, b=4), say("It is 7."), say("You are welcome.")]


@each_row("rules", RULES.values(), ids=RULES, at_once=True)
@pytest.mark.parametrize(("end", "script"), ENDINGS.values(), ids=ENDINGS)
@pytest.mark.parametrize("stream", [False, True], ids=["plain", "streamed"])
async def test_a_conversation_goes_on_after_a_bad_ending(
    end: Callable[[Ending], Awaitable[tuple[Message, ...]]],
    script: list[Reply],
    rules: ChatRules,
    *,
    stream: bool,
) -> None:
    with FakeServer([*script, *REST], rules=rules) as server:
        ending = Ending(server.url, stream=stream)
        messages = await end(ending)
        await _continue(ending, messages)
        assert "no tools field" not in ending.adapted
        forget_server(server.url)  # as in another process: the conversation itself must do
        server.reset([say("Still here.")])
        again = await ending.run(ending.agent(), "Are you there?", messages=messages)
        assert again.output == "Still here."


@each_row("rules", RULES.values(), ids=RULES)
@pytest.mark.parametrize("stream", [False, True], ids=["plain", "streamed"])
async def test_a_compacted_session_goes_on(
    rules: ChatRules, tmp_path_factory: pytest.TempPathFactory, *, stream: bool
) -> None:
    script = [PAGE, say("Page 1."), call("read_page", page=2), say("Page 2."), DONE, *REST]
    with FakeServer(script, rules=rules) as server:
        ending = Ending(server.url, stream=stream)
        await _continue(ending, await end_in_compaction(ending, tmp_path_factory.mktemp("talk")))


async def test_what_a_server_accepts_is_not_changed() -> None:
    with FakeServer([ADD, DONE, *REST], rules=OPENAI) as server:
        ending = Ending(server.url, stream=True)
        await _continue(ending, await end_empty(ending))
        assert ending.adapted == []
        assert all(request.tools for request in server.requests)
        assert len(server.requests) == 5


async def test_a_long_conversation_is_refused_only_once_for_each_rule() -> None:
    def answer(request: RecordedRequest) -> Reply:
        return say(f"Answer {request.number}")

    with FakeServer(answer, rules=GEMMA) as server:
        agent = Agent(server.url, instructions="You calculate.", tools=[add])
        messages: tuple[Message, ...] = ()
        for _ in range(3):
            messages = (await agent.run("Hi", messages=messages)).messages
        assert len(server.requests) == 4
