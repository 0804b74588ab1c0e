"""Hostile clients, which repeat their attacks until the time is over and count the outcomes.

They run in their own process: `python -m benchmarks.hostile.attackers PORT PATH SECONDS`.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from time import monotonic

JSON = "Content-Type: application/json\r\nAccept: application/json, text/event-stream\r\n"
FORM = "Content-Type: multipart/form-data; boundary=x\r\nContent-Length: 9999\r\n"
MESSAGE = {"role": "user", "content": "hi"}


@dataclass(frozen=True)
class Target:
    """The attacked server: `path` accepts a JSON body; `end` is the end of the attack."""

    port: int
    path: str
    end: float

    def head(self, method: str, path: str, more: str = "", *, host: str = "") -> bytes:
        """Return the head of a request."""
        named = host or f"127.0.0.1:{self.port}"
        return f"{method} {path} HTTP/1.1\r\nHost: {named}\r\n{more}\r\n".encode("latin-1")

    def post(self, body: bytes, more: str = JSON) -> bytes:
        """Return a request with a body."""
        return self.head("POST", self.path, f"{more}Content-Length: {len(body)}\r\n") + body


Attack = Callable[[Target], Awaitable[str]]


async def stall(target: Target, sent: bytes, drip: bytes = b"", *, reads: bool = True) -> str:
    """Send an incomplete request, or read nothing, and wait for the server's reaction."""
    reader, writer = await asyncio.open_connection("127.0.0.1", target.port, limit=1024)
    try:
        writer.write(sent)
        while monotonic() < target.end:
            if drip:
                writer.write(drip)
                await writer.drain()
            if writer.is_closing():
                return "ended"
            with suppress(asyncio.TimeoutError):
                if not reads:
                    await asyncio.sleep(0.5)
                elif not (came := await asyncio.wait_for(reader.read(1024), 0.5)):
                    return "ended"
                elif came.startswith(b"HTTP/1.1 "):
                    return came[9:12].decode()
        return "still open"
    finally:
        writer.close()


async def send_request(target: Target, request: bytes) -> str:
    """Send a complete request and return the status of its answer."""
    await asyncio.sleep(0.05)
    reader, writer = await asyncio.open_connection("127.0.0.1", target.port)
    try:
        writer.write(request)
        line = await reader.readline()
        return line[9:12].decode() or "ended"
    finally:
        writer.close()


def list_attacks() -> dict[str, tuple[int, Attack]]:
    """Return the attacks, each with its number of concurrent clients."""
    many = json.dumps({"messages": [MESSAGE] * 100_000}).encode()
    deep = b'{"messages": [{"role": "user", "content": ' + b"[" * 500 + b"]" * 500 + b"}]}"
    long = json.dumps({"messages": [MESSAGE], "stream": True}).encode()
    return {
        "connects and is silent": (100, lambda to: stall(to, b"")),
        "half of a head": (100, lambda to: stall(to, b"GET / HTTP/1.1\r\nHost: x\r\n")),
        "a head, byte by byte": (50, lambda to: stall(to, b"GET / HTTP/1.1\r\nX: ", b"a")),
        "a body, byte by byte": (
            50,
            lambda to: stall(to, to.head("POST", to.path, f"{JSON}Content-Length: 9999\r\n"), b" "),
        ),
        "an upload, byte by byte": (
            20,
            lambda to: stall(to, to.head("POST", "/gradio_api/upload", FORM + "\r\n")[:-2], b"x"),
        ),
        "reads no answer": (20, lambda to: stall(to, to.post(long) * 3, reads=False)),
        "100,000 messages": (2, lambda to: send_request(to, to.post(many))),
        "JSON, 500 levels deep": (2, lambda to: send_request(to, to.post(deep))),
        "10 MB of brackets": (1, lambda to: send_request(to, to.post(b"[" * 10_000_000))),
        "a cookie of odd bytes": (
            2,
            lambda to: send_request(
                to, to.head("GET", "/", f"Cookie: agentcall-{to.port}=\xff\xfe\r\n")
            ),
        ),
        "a page of another origin": (
            2,
            lambda to: send_request(to, to.post(long, f"{JSON}Origin: http://localhost:3000\r\n")),
        ),
        "a form of another page": (
            2,
            lambda to: send_request(to, to.post(long, "Content-Type: text/plain\r\n")),
        ),
        "another name": (2, lambda to: send_request(to, to.head("GET", "/", host="evil.example"))),
    }


async def repeat_attack(name: str, attack: Attack, target: Target, came: Counter[str]) -> None:
    """Repeat an attack until the time is over."""
    while monotonic() < target.end:
        try:
            outcome = await attack(target)
        except OSError:
            outcome = "ended"
        except asyncio.CancelledError:
            came[f"{name}\tcut short"] += 1
            raise
        came[f"{name}\t{outcome}"] += 1


async def run_attacks(target: Target) -> Counter[str]:
    """Run all attacks and count the outcomes, as `attack TAB outcome`."""
    came: Counter[str] = Counter()
    tasks = [
        asyncio.create_task(repeat_attack(name, attack, target, came))
        for name, (clients, attack) in list_attacks().items()
        for _ in range(clients)
    ]
    await asyncio.wait(tasks, timeout=target.end - monotonic() + 2)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    return came


if __name__ == "__main__":
    port, path, seconds = sys.argv[1:]
    os.nice(19)
    outcome = asyncio.run(run_attacks(Target(int(port), path, monotonic() + float(seconds))))
    json.dump(outcome, sys.stdout)
