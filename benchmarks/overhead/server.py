"""A chat server that costs nothing worth measuring: a bare asyncio protocol in its own process.

The model's name says what it answers: `steps.delay.chunks`, such as `2.50.0`: two tool calls and
then the answer, each after 50 milliseconds; with chunks the answer is a stream of so many.
"""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import re
from collections.abc import Generator
from contextlib import contextmanager
from functools import cache
from multiprocessing.connection import Connection

_MODEL = re.compile(rb'"model": ?"(\d+)\.(\d+)\.(\d+)"')
ANSWER = "The result is 16."


class _Chat(asyncio.Protocol):
    def __init__(self) -> None:
        self._data = bytearray()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._data += data
        end = self._data.find(b"\r\n\r\n")
        if end < 0:
            return
        head = bytes(self._data[:end]).lower()
        size = int(head.partition(b"content-length:")[2].partition(b"\r\n")[0])
        if len(self._data) < end + 4 + size:
            return
        body = bytes(self._data[end + 4 :])
        self._data.clear()
        self._answer(body)

    def _answer(self, body: bytes) -> None:
        asked = _MODEL.search(body)
        assert asked
        steps, delay, chunks = map(int, asked.groups())
        made = body.count(b'"tool_call_id"')
        data = _stream(chunks) if chunks else _whole(min(made, steps), steps)
        if delay:
            asyncio.get_running_loop().call_later(delay / 1000, self._transport.write, data)
        else:
            self._transport.write(data)


@cache
def _whole(made: int, steps: int) -> bytes:
    message: dict[str, object] = {"role": "assistant", "content": ANSWER}
    if made < steps:
        arguments = json.dumps({"a": made, "b": made + 1})
        function = {"name": "add", "arguments": arguments}
        message["content"] = None
        message["tool_calls"] = [{"id": f"c{made}", "type": "function", "function": function}]
    finish = "tool_calls" if made < steps else "stop"
    choice = {"index": 0, "message": message, "finish_reason": finish}
    usage = {"prompt_tokens": 120, "completion_tokens": 20, "total_tokens": 140}
    known = {"id": "1", "object": "chat.completion", "created": 0, "model": "m"}
    return _http("application/json", json.dumps({**known, "choices": [choice], "usage": usage}))


@cache
def _stream(chunks: int) -> bytes:
    def event(delta: dict[str, str], finish: str | None) -> str:
        choice = {"index": 0, "delta": delta, "finish_reason": finish}
        known = {"id": "1", "object": "chat.completion.chunk", "created": 0, "model": "m"}
        return f"data: {json.dumps({**known, 'choices': [choice]})}\n\n"

    events = [event({"content": f"word{n} "}, None) for n in range(chunks)]
    return _http("text/event-stream", "".join(events) + event({}, "stop") + "data: [DONE]\n\n")


def _http(kind: str, text: str) -> bytes:
    body = text.encode()
    head = f"HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


def _serve(door: Connection) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        server = await loop.create_server(_Chat, "127.0.0.1", 0, backlog=4096)
        door.send(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    asyncio.run(main())


@contextmanager
def served() -> Generator[str]:
    """The base URL of a server that runs as long as the block."""
    spawn = multiprocessing.get_context("spawn")
    here, there = spawn.Pipe()
    process = spawn.Process(target=_serve, args=(there,), daemon=True)
    process.start()
    try:
        yield f"http://127.0.0.1:{here.recv()}/v1"
    finally:
        process.kill()
        process.join()
