"""CPU of a warm run of three model calls: agentcall beside a loop written by hand on aiohttp.

    python benchmarks/overhead/quick.py [--runs 200] [--rounds 7] [--profile]

"Compute (3+5)*2" with two tools: one call, another, the answer. The server is a bare asyncio
protocol in a process of its own, so only the client's CPU is counted. Rounds of both are
interleaved; the ratio of the medians is what counts, not the microseconds.
"""

from __future__ import annotations

import argparse
import asyncio
import cProfile
import json
import multiprocessing
import pstats
import statistics
import time
from collections.abc import Awaitable, Callable
from multiprocessing.connection import Connection
from typing import Any

import aiohttp

from agentcall import Agent, tool
from agentcall.models.http_chat import HTTPChat

QUESTION = "Compute (3+5)*2"
Runner = Callable[[], Awaitable[str]]


class Mock(asyncio.Protocol):
    """Answers by how many tool results the conversation holds; knows HTTP just well enough."""

    def __init__(self, answers: list[bytes]) -> None:
        self._answers = answers
        self._data = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._data += data
        while (end := self._data.find(b"\r\n\r\n")) >= 0:
            head = self._data[:end].lower()
            size = int(head.partition(b"content-length:")[2].partition(b"\r\n")[0])
            if len(self._data) < end + 4 + size:
                return
            body = self._data[end + 4 : end + 4 + size]
            self._data = self._data[end + 4 + size :]
            self._transport.write(self._answers[body.count(b'"tool_call_id"')])


def answers() -> list[bytes]:
    """The three answers, as they go over the wire."""

    def http(message: dict[str, Any], finish: str) -> bytes:
        choice = {"index": 0, "message": {"role": "assistant", **message}, "finish_reason": finish}
        usage = {"prompt_tokens": 120, "completion_tokens": 20, "total_tokens": 140}
        head = {"id": "1", "object": "chat.completion", "created": 0, "model": "m"}
        body = json.dumps({**head, "choices": [choice], "usage": usage}).encode()
        return (
            b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b"
            % (len(body), body)
        )

    def call(number: int, name: str, arguments: dict[str, int]) -> bytes:
        function = {"name": name, "arguments": json.dumps(arguments)}
        calls = [{"id": f"c{number}", "type": "function", "function": function}]
        return http({"content": None, "tool_calls": calls}, "tool_calls")

    return [
        call(1, "add", {"a": 3, "b": 5}),
        call(2, "mul", {"a": 8, "b": 2}),
        http({"content": "The result is 16."}, "stop"),
    ]


def serve(door: Connection) -> None:
    """The server's process: tells its port and serves until it is killed."""

    async def main() -> None:
        made = answers()
        loop = asyncio.get_running_loop()
        server = await loop.create_server(lambda: Mock(made), "127.0.0.1", 0, backlog=1024)
        door.send(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    asyncio.run(main())


@tool
def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


@tool
def mul(a: int, b: int) -> int:
    """Multiply two numbers."""
    return a * b


def with_agentcall(url: str) -> Runner:
    """The run as a user of agentcall writes it."""
    agent = Agent(HTTPChat(url, "m", dialect="native"), tools=[add, mul])

    async def run() -> str:
        return (await agent.run(QUESTION)).output

    return run


def by_hand(url: str, session: aiohttp.ClientSession) -> Runner:
    """The same loop with nothing but aiohttp and json."""
    functions: dict[str, Callable[..., int]] = {
        "add": lambda a, b: a + b,
        "mul": lambda a, b: a * b,
    }
    tools = [add.definition, mul.definition]

    async def run() -> str:
        messages: list[dict[str, Any]] = [{"role": "user", "content": QUESTION}]
        while True:
            body = {"model": "m", "messages": messages, "tools": tools}
            async with session.post(f"{url}/chat/completions", json=body) as response:
                answer = await response.json()
            message = answer["choices"][0]["message"]
            messages.append(message)
            if not message.get("tool_calls"):
                return str(message["content"])
            for call in message["tool_calls"]:
                arguments = json.loads(call["function"]["arguments"])
                result = functions[call["function"]["name"]](**arguments)
                messages.append(
                    {"role": "tool", "tool_call_id": call["id"], "content": json.dumps(result)}
                )

    return run


async def spent(run: Runner, runs: int) -> float:
    """Microseconds of CPU that one run takes."""
    began = time.process_time()
    for _ in range(runs):
        assert "16" in await run()
    return (time.process_time() - began) / runs * 1e6


async def measure(url: str, options: argparse.Namespace) -> None:
    """Prints the CPU of a run both ways, and the ratio."""
    async with aiohttp.ClientSession() as session:
        ours, raw = with_agentcall(url), by_hand(url, session)
        await spent(ours, 20)
        await spent(raw, 20)
        figures: list[tuple[float, float]] = []
        for _ in range(options.rounds):
            figures.append((await spent(ours, options.runs), await spent(raw, options.runs)))
        mine, theirs = (statistics.median(column) for column in zip(*figures, strict=True))
        best = tuple(min(column) for column in zip(*figures, strict=True))
        print(f"agentcall {mine:7.0f} us a run (best {best[0]:.0f})")
        print(f"by hand   {theirs:7.0f} us a run (best {best[1]:.0f})")
        ratios = sorted(a / b for a, b in figures)
        print(f"ratio     {statistics.median(ratios):7.2f} (best by best {best[0] / best[1]:.2f})")
        if options.profile:
            profile = cProfile.Profile()
            profile.enable()
            await spent(ours, options.runs)
            profile.disable()
            pstats.Stats(profile).sort_stats("tottime").print_stats(45)


def main() -> None:
    """Starts the server and measures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--profile", action="store_true")
    options = parser.parse_args()
    spawn = multiprocessing.get_context("spawn")
    here, there = spawn.Pipe()
    server = spawn.Process(target=serve, args=(there,), daemon=True)
    server.start()
    try:
        asyncio.run(measure(f"http://127.0.0.1:{here.recv()}/v1", options))
    finally:
        server.kill()
        server.join()


if __name__ == "__main__":
    main()
