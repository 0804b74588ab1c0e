"""A command that speaks MCP by its standard input and output, read within bounds.

Rules:
1. A message is a line of at most `LONGEST` bytes. A longer one ends the connection, and so do more
   than `MOST` messages between two requests of ours: no server takes up our memory.
2. A line that is not a message is skipped; the log says so, where something goes wrong later.
3. It is a session of its own, and ends with all processes of that: when its input is closed, or by
   a signal some seconds later.
"""

from __future__ import annotations

import asyncio
import os
import re
import signal
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any, Protocol, cast

import anyio
import orjson
from mcp.client.stdio import get_default_environment
from mcp.shared.message import SessionMessage
from mcp_types import (
    PARSE_ERROR,
    ErrorData,
    JSONRPCError,
    JSONRPCRequest,
    jsonrpc_message_adapter,
)

LONGEST = 2**24
MOST = 10_000
_LEAVING = 2.0
"""Seconds that a server has to end when its input is closed, and when it is asked by a signal."""
_LOOK = 0.01
_PIECE = 2**16
_ANSWER = re.compile(
    rb'\s*\{(?:\s*"jsonrpc"\s*:\s*"2\.0"\s*,)?\s*"id"\s*:\s*(\d{1,15})\s*,\s*"result"'
)


class Log(Protocol):
    """Takes what may explain a failure."""

    def write(self, text: str, /) -> object: ...


class _Flow:
    """Counts what a server has written since the last request."""

    def __init__(self) -> None:
        self.messages = 0

    def sent(self, message: object) -> None:
        if isinstance(message, JSONRPCRequest):
            self.messages = 0


@asynccontextmanager
async def piped(
    words: Sequence[str], variables: Mapping[str, str], log: Log
) -> AsyncGenerator[Any, None]:  # Any: the streams that the mcp package wants
    """Starts a command; the streams of what it says and of what it is told."""
    process = await asyncio.create_subprocess_exec(
        *words,
        stdin=PIPE,
        stdout=PIPE,
        stderr=PIPE,
        env={**get_default_environment(), **variables},
        start_new_session=True,
        limit=LONGEST,
    )
    said, hear = anyio.create_memory_object_stream[Any](0)
    tell, asked = anyio.create_memory_object_stream[Any](0)
    flow = _Flow()
    tasks = [
        asyncio.ensure_future(_read(process, said, flow, log)),
        asyncio.ensure_future(_write(process, asked, said, flow)),
        asyncio.ensure_future(_note(process, log)),
    ]
    try:
        yield hear, tell
    finally:
        try:
            hear.close()
            await _ended(process)
        finally:
            for task in tasks:
                task.cancel()
            for stream in (tell, said, asked):
                stream.close()


async def _read(process: Process, said: Any, flow: _Flow, log: Log) -> None:
    """Passes the messages on until there are no more, or too many."""
    output = cast("asyncio.StreamReader", process.stdout)
    async with said:
        with suppress(anyio.BrokenResourceError, anyio.ClosedResourceError, OSError):
            await _pass_on(output, said.send, flow, log)
    with suppress(OSError):  # so that it does not wait for a reader when it is to end
        while await output.read(_PIECE):
            pass


async def _pass_on(
    output: asyncio.StreamReader, send: Callable[[SessionMessage], Any], flow: _Flow, log: Log
) -> None:
    while True:
        try:
            line = await output.readuntil(b"\n")
        except asyncio.IncompleteReadError:
            return
        except asyncio.LimitOverrunError:
            log.write(f"[a line of over {LONGEST} bytes on its standard output]\n")
            return
        flow.messages += 1
        if flow.messages > MOST:
            log.write(f"[over {MOST} messages to one request]\n")
            return
        message = _message(line)
        if message is None:
            log.write(f"[not a message on its standard output: {line[:100]!r}]\n")
        else:
            await send(SessionMessage(message))


def _message(line: bytes) -> Any:  # Any: a type of the mcp package
    """The message of a line, None where it is none; what answers a request and cannot be read
    becomes an error, so that nobody waits for it."""
    try:
        return jsonrpc_message_adapter.validate_json(line, by_name=False)
    except ValueError:
        with suppress(ValueError):  # it may be too deep for that parser
            return jsonrpc_message_adapter.validate_python(orjson.loads(line), by_name=False)
    found = _ANSWER.match(line)
    if found is None:
        return None
    words = f"the answer is not JSON: {line[:100]!r}"
    return JSONRPCError(
        jsonrpc="2.0", id=int(found[1]), error=ErrorData(code=PARSE_ERROR, message=words)
    )


async def _write(process: Process, asked: Any, said: Any, flow: _Flow) -> None:
    stdin = cast("asyncio.StreamWriter", process.stdin)
    try:
        async with asked:
            async for each in asked:
                flow.sent(each.message)
                text: str = each.message.model_dump_json(by_alias=True, exclude_unset=True)
                stdin.write(text.encode("utf-8", "replace") + b"\n")
                await stdin.drain()
    except (OSError, anyio.BrokenResourceError, anyio.ClosedResourceError):
        await said.aclose()  # nobody reads there any more, so nothing will be answered


async def _note(process: Process, log: Log) -> None:
    errors = cast("asyncio.StreamReader", process.stderr)
    while piece := await errors.read(_PIECE):
        log.write(piece.decode("utf-8", "replace"))


async def _ended(process: Process) -> None:
    """Ends the command with its session, whatever happens meanwhile."""
    cast("asyncio.StreamWriter", process.stdin).close()
    try:
        if not await _has_ended(process):
            _signal(process, signal.SIGTERM)
            await _has_ended(process)
    finally:
        _signal(process, signal.SIGKILL)
    await _has_ended(process)
    transport: Any = getattr(process, "_transport", None)
    if transport is not None:  # a child of it that left the session may hold the pipes
        transport.close()


async def _has_ended(process: Process) -> bool:
    """Whether it ends within some seconds; `wait` would wait for all who hold its pipes."""
    for _ in range(int(_LEAVING / _LOOK)):
        if process.returncode is not None:
            return True
        await asyncio.sleep(_LOOK)
    return process.returncode is not None


def _signal(process: Process, number: int) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, number)
