"""A chat server with negligible cost: a bare asyncio protocol in its own process.

The model's name determines the answers (`Task.model`), and the id of the last tool call in a
conversation is its progress. If a request offers a tool `final_answer`, as smolagents does, the
answer is a call of it.
"""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import random
import re
from collections import defaultdict
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from functools import cache, partial
from multiprocessing.connection import Connection
from typing import NamedTuple

from benchmarks.overhead.task import ANSWER, STEP

_MODEL = re.compile(rb'"model": ?"mock\.(\d+)\.(\d+)\.(\d+)\.(\d+)\.([^."]*)\."')
_STEP = re.compile(STEP.encode() + rb"(\d+)")
_FINAL = b'"final_answer"'
_BROKEN = ('{"a": 1, "b": ', "{a: 1, b: 2}", '{"a": 1 "b": 2}', "a=1, b=2")
"""Arguments that are not JSON."""

_dice: defaultdict[bytes, random.Random] = defaultdict(partial(random.Random, 0))


class _Request(NamedTuple):
    """A parsed request: `made` is the number of tool calls in it, `tokens` its size."""

    steps: int
    delay: float
    chunks: int
    made: int
    has_final: bool
    faults: int
    dice: bytes
    tokens: int


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
        asked = _parse_request(self._data)
        self._data.clear()
        self._answer(asked)

    def _answer(self, asked: _Request) -> None:
        if asked.chunks:
            pieces = _build_stream(asked.chunks, asked.has_final)
            self._pace(iter(pieces if asked.delay else [b"".join(pieces)]), asked.delay)
            return
        whole = _build_answer(asked.made, asked.steps, asked.has_final, asked.tokens)
        send = self._pick_fault(asked) or partial(self._transport.write, whole)
        if asked.delay:
            asyncio.get_running_loop().call_later(asked.delay, send)
        else:
            send()

    def _pace(self, pieces: Iterator[bytes], delay: float) -> None:
        piece = next(pieces, b"")
        if piece and not self._transport.is_closing():
            self._transport.write(piece)
            asyncio.get_running_loop().call_later(delay, self._pace, pieces, delay)

    def _pick_fault(self, asked: _Request) -> Callable[[], None] | None:
        """Return the fault to play instead of an answer, if any."""
        kind = _dice[asked.dice].randrange(100) // asked.faults if asked.faults else 3
        if kind == 0:
            return partial(
                self._transport.write, _build_response("500 Oops", "application/json", "{}")
            )
        if kind == 1:
            return self._transport.abort
        if kind == 2 and asked.made < asked.steps:
            arguments = _BROKEN[asked.made % len(_BROKEN)]
            return partial(
                self._transport.write, _build_call(asked.made, "add", arguments, asked.tokens)
            )
        return None


def _parse_request(data: bytearray) -> _Request:
    found = _MODEL.search(data)
    assert found, "unknown model name"
    steps, delay, chunks, faults = map(int, found.groups()[:4])
    last = _STEP.match(data, data.rfind(STEP.encode()))
    made = int(last[1]) + 1 if last else 0
    made, tokens = min(made, steps), len(data) // 4
    return _Request(steps, delay / 1000, chunks, made, _FINAL in data, faults, found[5], tokens)


@cache
def _build_answer(made: int, steps: int, has_final: bool, tokens: int) -> bytes:
    if made < steps:
        return _build_call(made, "add", json.dumps({"a": made, "b": made + 1}), tokens)
    if has_final:
        return _build_call(made, "final_answer", json.dumps({"answer": ANSWER}), tokens)
    return _build_completion({"role": "assistant", "content": ANSWER}, "stop", tokens)


def _build_call(made: int, name: str, arguments: str, tokens: int) -> bytes:
    function = {"name": name, "arguments": arguments}
    call = {"id": f"{STEP}{made}", "type": "function", "function": function}
    message = {"role": "assistant", "content": None, "tool_calls": [call]}
    return _build_completion(message, "tool_calls", tokens)


def _build_completion(message: dict[str, object], finish: str, tokens: int) -> bytes:
    choice = {"index": 0, "message": message, "finish_reason": finish}
    usage = {"prompt_tokens": tokens, "completion_tokens": 20, "total_tokens": tokens + 20}
    known = {"id": "1", "object": "chat.completion", "created": 0, "model": "m"}
    body = json.dumps({**known, "choices": [choice], "usage": usage})
    return _build_response("200 OK", "application/json", body)


@cache
def _build_stream(chunks: int, has_final: bool) -> list[bytes]:
    """Return the pieces of a streamed response."""
    events = [_build_event({"content": f"word{n} "}) for n in range(chunks)]
    if has_final:
        function = {"name": "final_answer", "arguments": json.dumps({"answer": ANSWER})}
        call = {"index": 0, "id": f"{STEP}0", "type": "function", "function": function}
        events += [_build_event({"tool_calls": [call]}), _build_event({}, "tool_calls")]
    else:
        events.append(_build_event({}, "stop"))
    events.append("data: [DONE]\n\n")
    head = _build_response("200 OK", "text/event-stream", "".join(events)).partition(b"\r\n\r\n")[0]
    return [head + b"\r\n\r\n", *(event.encode() for event in events)]


def _build_event(delta: dict[str, object], finish: str | None = None) -> str:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    known = {"id": "1", "object": "chat.completion.chunk", "created": 0, "model": "m"}
    return f"data: {json.dumps({**known, 'choices': [choice]})}\n\n"


def _build_response(status: str, kind: str, text: str) -> bytes:
    body = text.encode()
    head = f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


def _serve(door: Connection) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        server = await loop.create_server(_Chat, "127.0.0.1", 0, backlog=4096)
        door.send(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    asyncio.run(main())


@contextmanager
def run_server() -> Generator[str]:
    """Run a server during the block; yield its base URL."""
    spawn = multiprocessing.get_context("spawn")
    here, there = spawn.Pipe()
    process = spawn.Process(target=_serve, args=(there,), daemon=True)
    process.start()
    try:
        yield f"http://127.0.0.1:{here.recv()}/v1"
    finally:
        process.kill()
        process.join()
