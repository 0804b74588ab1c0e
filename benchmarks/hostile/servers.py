"""The attacked servers, as commands, and the requests of a well-behaved client."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import aiohttp

DESCRIPTORS = 256
"""Limit of a server's file descriptors: that of macOS, and a quarter of Linux's usual one."""

TOOLS = '''
from agentcall import tool

@tool
def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b
'''
Ask = Callable[[aiohttp.ClientSession, str], Awaitable[None]]


@dataclass(frozen=True)
class ServerCommand:
    """A server command; `path` accepts a JSON body, `ask` raises if an answer is wrong."""

    name: str
    arguments: tuple[str, ...]
    path: str
    ask: Ask


async def ask_serve(client: aiohttp.ClientSession, base: str) -> None:
    """Request a completion and the health page."""
    body = {"messages": [{"role": "user", "content": "hi"}]}
    async with client.post(f"{base}/v1/chat/completions", json=body) as answer:
        told = await answer.json()
        check(told["choices"][0]["message"]["content"] == "ok", told)
    async with client.get(f"{base}/health") as answer:
        check(answer.status == 200, answer.status)


async def ask_web(client: aiohttp.ClientSession, base: str) -> None:
    """Request the page, and ask the agent a question."""
    async with client.get(f"{base}/config") as answer:
        page = await answer.json()
    submit = next(
        each["id"] for each in page["dependencies"] if [*each["targets"][0]][1:] == ["submit"]
    )
    session = uuid4().hex
    event = {"data": [{"text": "hi", "files": []}], "fn_index": submit, "session_hash": session}
    async with client.post(f"{base}/gradio_api/queue/join", json=event) as answer:
        check(answer.status == 200, await answer.text())
    where = f"{base}/gradio_api/queue/data?session_hash={session}"
    async with client.get(where) as answer:
        told = await answer.text()
        check("<p>ok</p>" in told, told)


async def ask_mcp(client: aiohttp.ClientSession, base: str) -> None:
    """Call a tool in a new session."""
    head = {"Accept": "application/json, text/event-stream"}
    about = {
        "protocolVersion": "2025-06-18",
        "capabilities": {},
        "clientInfo": {"name": "good", "version": "1"},
    }
    async with client.post(
        f"{base}/mcp", json=build_rpc("initialize", about), headers=head
    ) as answer:
        check(answer.status == 200, await answer.text())
        head["Mcp-Session-Id"] = answer.headers.get("Mcp-Session-Id", "")
    ready = {"jsonrpc": "2.0", "method": "notifications/initialized"}
    async with client.post(f"{base}/mcp", json=ready, headers=head) as answer:
        check(answer.status == 202, await answer.text())
    call = build_rpc("tools/call", {"name": "add", "arguments": {"a": 3, "b": 5}})
    async with client.post(f"{base}/mcp", json=call, headers=head) as answer:
        told = await answer.text()
        check('"text":"8"' in told.replace(" ", ""), told)
    async with client.delete(f"{base}/mcp", headers=head):
        pass


def build_rpc(method: str, params: object) -> dict[str, object]:
    """Return a JSON-RPC request."""
    return {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}


def check(is_right: bool, answer: object) -> None:
    """Raise AssertionError for a wrong answer."""
    if not is_right:
        raise AssertionError(f"{answer!s:.300}")


SERVERS = {
    door.name: door
    for door in (
        ServerCommand(
            "serve", ("serve", "--port", "0", "-t", "tools.py"), "/v1/chat/completions", ask_serve
        ),
        ServerCommand(
            "web", ("web", "--port", "0", "-t", "tools.py"), "/gradio_api/queue/join", ask_web
        ),
        ServerCommand("mcp", ("mcp", "--http", "127.0.0.1:0", "-t", "tools.py"), "/mcp", ask_mcp),
    )
}


@dataclass
class RunningServer:
    """A running server; `log` is set when it has ended."""

    base: str
    log: str = ""


@contextmanager
def start_server(door: ServerCommand, model: str) -> Iterator[RunningServer]:
    """Run a server on a free port, with few file descriptors."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "tools.py").write_text(TOOLS)
        more = () if door.name == "mcp" else ("-m", model)
        path = Path(folder) / "log"
        with path.open("w") as written:
            process = subprocess.Popen(
                [
                    "sh",
                    "-c",
                    f'ulimit -n {DESCRIPTORS} && exec "$0" "$@"',
                    *build_command(door, more),
                ],
                cwd=folder,
                env={**os.environ, "XDG_DATA_HOME": folder, "XDG_STATE_HOME": folder},
                stderr=written,
            )
        found = RunningServer(wait_for_url(process, path))
        try:
            yield found
        finally:
            process.terminate()
            process.wait(60)
            found.log = path.read_text()


def build_command(door: ServerCommand, more: tuple[str, ...]) -> list[str]:
    """Return the command line of a server."""
    return [str(Path(sys.executable).with_name("agentcall")), *door.arguments, *more]


def wait_for_url(process: subprocess.Popen[bytes], log: Path) -> str:
    """Wait until a server is ready, and return its URL."""
    while process.poll() is None:
        if found := re.search(r"(http://[\d.]+:\d+)", log.read_text()):
            return found[1]
    raise RuntimeError(f"the server did not start: {log.read_text()}")


def parse_outcomes(written: str) -> dict[str, dict[str, int]]:
    """Parse the attackers' counts of outcomes, by attack."""
    found: dict[str, dict[str, int]] = {}
    for line, count in json.loads(written).items():
        attack, outcome = line.split("\t")
        found.setdefault(attack, {})[outcome] = count
    return found
