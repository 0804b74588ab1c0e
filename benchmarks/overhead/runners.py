"""The same runs twice: as a user of agentcall writes them, and by hand on aiohttp and json."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import aiohttp

from agentcall import Agent, Limits, Tool, tool
from agentcall.events import TextDelta
from agentcall.models.http_chat import HTTPChat

QUESTION = "Compute (3+5)*2"
Runner = Callable[[], Awaitable[str]]


@dataclass(frozen=True, slots=True)
class Task:
    """What a run does: tool calls, the server's delay in ms, chunks of the answer if it is
    streamed, how many tools are offered, and the characters that a call gives.
    """

    steps: int = 2
    delay: int = 0
    chunks: int = 0
    tools: int = 2
    output: int = 1

    @property
    def model(self) -> str:
        """The name that makes the server do so."""
        return f"{self.steps}.{self.delay}.{self.chunks}"

    def offered(self) -> list[Tool]:
        """The tools, `add` first."""
        given = "16" if self.output == 1 else "x" * self.output

        def add(a: int, b: int) -> str:
            """Add two numbers.

            Args:
                a: The first number.
                b: The second number.
            """
            return given

        made = tool(add)
        return [made, *(made.renamed(f"add_{n}") for n in range(1, self.tools))]


def with_agentcall(url: str, task: Task) -> Runner:
    """A run as a user of agentcall writes it."""
    limits = Limits(requests=None, result_chars=None)
    agent = Agent(HTTPChat(url, task.model, dialect="native"), tools=task.offered(), limits=limits)

    async def run() -> str:
        return (await agent.run(QUESTION)).output

    async def stream() -> str:
        events = agent.run_stream(QUESTION)
        return "".join([event.text async for event in events if isinstance(event, TextDelta)])

    return stream if task.chunks else run


def by_hand(url: str, task: Task, session: aiohttp.ClientSession) -> Runner:
    """The same with nothing but aiohttp and json."""
    made = task.offered()
    functions = {found.name: found.function for found in made}
    fixed = {"model": task.model, "tools": [found.definition for found in made]}
    place = f"{url}/chat/completions"

    async def run() -> str:
        messages: list[dict[str, Any]] = [{"role": "user", "content": QUESTION}]
        while True:
            async with session.post(place, json={**fixed, "messages": messages}) as response:
                answer = await response.json()
            message = answer["choices"][0]["message"]
            messages.append(message)
            if not message.get("tool_calls"):
                return str(message["content"])
            for call in message["tool_calls"]:
                arguments = json.loads(call["function"]["arguments"])
                result = functions[call["function"]["name"]](**arguments)
                messages.append({"role": "tool", "tool_call_id": call["id"], "content": result})

    async def stream() -> str:
        messages = [{"role": "user", "content": QUESTION}]
        texts: list[str] = []
        body = {**fixed, "stream": True, "messages": messages}
        async with session.post(place, json=body) as response:
            async for line in response.content:
                if line.startswith(b"data: {"):
                    delta = json.loads(line[6:])["choices"][0]["delta"]
                    texts.append(delta.get("content") or "")
        return "".join(texts)

    return stream if task.chunks else run
