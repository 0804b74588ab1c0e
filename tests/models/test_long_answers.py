"""An answer that is dear to read is read beside the event loop."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator

import pytest

from agentcall import Agent, tool
from agentcall.dialects.native import NativeDialect
from agentcall.messages import JSON
from agentcall.models.capabilities import DialectChoice
from agentcall.models.chat_completions import ChatClient

TEXT = "\n[" * 40_000
"""Each line may begin a list of calls."""


class Wire:
    """Answers at once, with text that looks like many calls."""

    secrets = ()

    def configure(self, headers: object, timeout: object) -> Wire:
        return self

    async def post(self, body: bytes) -> JSON:
        message: JSON = {"role": "assistant", "content": TEXT}
        return {"choices": [{"message": message, "finish_reason": "stop"}]}

    async def stream(self, body: bytes) -> AsyncGenerator[bytes, None]:
        for delta, finish in (({"content": TEXT}, None), ({}, "stop")):
            choice = {"index": 0, "delta": delta, "finish_reason": finish}
            yield f"data: {json.dumps({'choices': [choice]})}\n\n".encode()
        yield b"data: [DONE]\n\n"


@tool
def add(a: int, b: int) -> int:
    """Add."""
    return a + b


async def chosen(_transport: object) -> DialectChoice:
    return DialectChoice("test", NativeDialect(), "it is said so", can_stream=True)


@pytest.mark.parametrize("streamed", [False, True])
async def test_the_event_loop_goes_on_while_a_long_answer_is_read(streamed: bool) -> None:
    ticks = 0

    async def tick() -> None:
        nonlocal ticks
        while True:
            await asyncio.sleep(0.01)
            ticks += 1

    agent = Agent(ChatClient(Wire(), chosen, None), tools=[add])
    ticking = asyncio.create_task(tick())
    await asyncio.sleep(0)
    before = ticks
    if streamed:
        async for _ in agent.run_stream("go"):
            pass
    else:
        await agent.run("go")
    ticking.cancel()
    assert ticks - before > 5  # it takes most of a second of computing
