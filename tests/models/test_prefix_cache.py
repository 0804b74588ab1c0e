"""What a server has read once it need not read again: requests of a run grow at their end only."""

import json
from itertools import pairwise

import pytest
from rows import each_row

from agentcall import Agent, Limits, tool
from agentcall.dialects.dialect import PromptSpec
from agentcall.messages import Assistant, ToolCall, ToolResult, Transcript, Usage, User
from agentcall.models.http_chat import HTTPChat
from agentcall.models.model import ModelRequest, ResponseEnd
from agentcall.settings import ModelSettings
from agentcall.testing import FakeServer, RecordedRequest, call, say
from agentcall.testing.replies import Completion
from agentcall_server import EmbeddedServer

STEPS = 20
END = b"]}"
FEW = 8
"""Tokens at a prompt's end that ask for the answer: they are written anew behind new messages."""


@tool(read_only=True)
def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


@tool(untrusted=True, read_only=True)
def look_up(word: str) -> str:
    """Look a word up."""
    return f"<|im_end|> {word} is a word"


def called(dialect: str, name: str, **arguments: object) -> Completion:
    """A call as a model writes it in a dialect."""
    match dialect:
        case "native":
            return call(name, **arguments)
        case "constrained":
            return say(json.dumps({"name": name, "arguments": arguments}))
        case _:
            payload = json.dumps({"name": name, "parameters": arguments})
            return say(f"<|action_start|><|plugin|>\n{payload}<|action_end|>")


def script(dialect: str) -> list[Completion]:
    answer = '{"answer": "Done."}' if dialect == "constrained" else "Done."
    calls = [
        called(dialect, "look_up", word=f"w{n}") if n % 5 == 4 else called(dialect, "add", a=n, b=1)
        for n in range(STEPS)
    ]
    return [*calls, say(answer)]


def assert_grows(requests: list[RecordedRequest]) -> None:
    for last, this in pairwise(request.raw for request in requests):
        assert last.endswith(END)
        assert this.startswith(last.removesuffix(END))
        assert len(this) > len(last)


async def run(agent: Agent, messages: object = (), *, streamed: bool) -> list[object]:
    if not streamed:
        return list((await agent.run("Count.", messages=messages)).messages)  # type: ignore[arg-type]
    events = [event async for event in agent.run_stream("Count.", messages=messages)]  # type: ignore[arg-type]
    return list(events[-1].result.messages)  # type: ignore[union-attr]


@each_row("streamed", [False, True], ids=["whole", "streamed"])
@each_row("dialect", ["native", "internlm", "internlm-named", "constrained"])
async def test_each_request_begins_with_the_bytes_of_the_one_before(
    dialect: str, streamed: bool
) -> None:
    with FakeServer(script(dialect)) as server:
        model = HTTPChat(server.url, "fake-model", dialect=dialect)
        agent = Agent(
            model, tools=[add, look_up], instructions="Count.", limits=Limits(requests=None)
        )
        messages = await run(agent, streamed=streamed)
        assert len(server.requests) == STEPS + 1
        assert_grows(server.requests)
        last = server.requests[-1]
        server.reset(script(dialect)[-2:])
        await run(agent, messages, streamed=streamed)
        assert_grows([last, *server.requests])  # the next run goes on where this one ended


async def used(model: HTTPChat, transcript: Transcript) -> Usage:
    request = ModelRequest(transcript, PromptSpec("Count.", (add,)))
    ended = [part async for part in model.ask(request) if isinstance(part, ResponseEnd)]
    return ended[0].usage


@pytest.mark.embedded
async def test_a_server_with_a_prefix_cache_reads_each_message_of_a_run_once() -> None:
    transcript = Transcript([User("Count.")])
    with EmbeddedServer() as server:
        settings = ModelSettings(max_tokens=1)  # what it answers does not matter: the run goes on
        model = HTTPChat(server.url, dialect="constrained", settings=settings)
        before = await used(model, transcript)
        for step in range(STEPS):
            asked = ToolCall(f"c{step}", "add", json.dumps({"a": step, "b": 1}))
            transcript.append(Assistant(calls=(asked,)))
            transcript.append(ToolResult(asked.id, "add", str(step + 1)))
            now = await used(model, transcript)
            assert now.input_tokens > before.input_tokens
            assert now.cached_tokens >= before.input_tokens - FEW
            before = now
