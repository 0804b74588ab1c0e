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

MAX_MESSAGE_BYTES = 2**24
MAX_MESSAGES = 10_000
_EXIT_SECONDS = 2.0
"""Seconds that a server has to end when its input is closed, and when it is asked by a signal."""
_POLL_SECONDS = 0.01
_CHUNK_BYTES = 2**16
_RESPONSE = re.compile(
    rb'\s*\{(?:\s*"jsonrpc"\s*:\s*"2\.0"\s*,)?\s*"id"\s*:\s*(\d{1,15})\s*,\s*"result"'
)


class LogWriter(Protocol):
    """Takes what may explain a failure."""

    def write(self, text: str, /) -> object: ...


class _MessageCounter:
    """Counts what a server has written since the last request."""

    def __init__(self) -> None:
        self.messages = 0

    def note_sent(self, message: object) -> None:
        if isinstance(message, JSONRPCRequest):
            self.messages = 0


@asynccontextmanager
async def open_process_streams(
    command: Sequence[str], env: Mapping[str, str], log: LogWriter
) -> AsyncGenerator[Any, None]:  # Any: the streams that the mcp package wants
    """Starts a command; the streams of what it says and of what it is told."""
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=PIPE,
        stdout=PIPE,
        stderr=PIPE,
        env={**get_default_environment(), **env},
        start_new_session=True,
        limit=MAX_MESSAGE_BYTES,
    )
    said, hear = anyio.create_memory_object_stream[Any](0)
    tell, asked = anyio.create_memory_object_stream[Any](0)
    flow = _MessageCounter()
    tasks = [
        asyncio.ensure_future(_read_messages(process, said, flow, log)),
        asyncio.ensure_future(_write_messages(process, asked, said, flow)),
        asyncio.ensure_future(_log_stderr(process, log)),
    ]
    try:
        yield hear, tell
    finally:
        try:
            hear.close()
            await _stop_process(process)
        finally:
            for task in tasks:
                task.cancel()
            for stream in (tell, said, asked):
                stream.close()


async def _read_messages(
    process: Process, said: Any, flow: _MessageCounter, log: LogWriter
) -> None:
    """Passes the messages on until there are no more, or too many."""
    output = cast("asyncio.StreamReader", process.stdout)
    async with said:
        with suppress(anyio.BrokenResourceError, anyio.ClosedResourceError, OSError):
            await _forward_messages(output, said.send, flow, log)
    with suppress(OSError):  # so that it does not wait for a reader when it is to end
        while await output.read(_CHUNK_BYTES):
            pass


async def _forward_messages(
    output: asyncio.StreamReader,
    send: Callable[[SessionMessage], Any],
    flow: _MessageCounter,
    log: LogWriter,
) -> None:
    while True:
        try:
            line = await output.readuntil(b"\n")
        except asyncio.IncompleteReadError:
            return
        except asyncio.LimitOverrunError:
            log.write(f"[a line of over {MAX_MESSAGE_BYTES} bytes on its standard output]\n")
            return
        flow.messages += 1
        if flow.messages > MAX_MESSAGES:
            log.write(f"[over {MAX_MESSAGES} messages to one request]\n")
            return
        message = _parse_message(line)
        if message is None:
            log.write(f"[not a message on its standard output: {line[:100]!r}]\n")
        else:
            await send(SessionMessage(message))


def _parse_message(line: bytes) -> Any:  # Any: a type of the mcp package
    """The message of a line, None where it is none; what answers a request and cannot be read
    becomes an error, so that nobody waits for it."""
    try:
        return jsonrpc_message_adapter.validate_json(line, by_name=False)
    except ValueError:
        with suppress(ValueError):  # it may be too deep for that parser
            return jsonrpc_message_adapter.validate_python(orjson.loads(line), by_name=False)
    found = _RESPONSE.match(line)
    if found is None:
        return None
    words = f"the answer is not JSON: {line[:100]!r}"
    return JSONRPCError(
        jsonrpc="2.0", id=int(found[1]), error=ErrorData(code=PARSE_ERROR, message=words)
    )


async def _write_messages(process: Process, asked: Any, said: Any, flow: _MessageCounter) -> None:
    stdin = cast("asyncio.StreamWriter", process.stdin)
    try:
        async with asked:
            async for each in asked:
                flow.note_sent(each.message)
                text: str = each.message.model_dump_json(by_alias=True, exclude_unset=True)
                stdin.write(text.encode("utf-8", "replace") + b"\n")
                await stdin.drain()
    except (OSError, anyio.BrokenResourceError, anyio.ClosedResourceError):
        await said.aclose()  # nobody reads there any more, so nothing will be answered


async def _log_stderr(process: Process, log: LogWriter) -> None:
    errors = cast("asyncio.StreamReader", process.stderr)
    while piece := await errors.read(_CHUNK_BYTES):
        log.write(piece.decode("utf-8", "replace"))


async def _stop_process(process: Process) -> None:
    """Ends the command with its session, whatever happens meanwhile."""
    cast("asyncio.StreamWriter", process.stdin).close()
    try:
        if not await _wait_for_exit(process):
            _send_signal(process, signal.SIGTERM)
            await _wait_for_exit(process)
    finally:
        _send_signal(process, signal.SIGKILL)
    await _wait_for_exit(process)
    transport: Any = getattr(process, "_transport", None)
    if transport is not None:  # a child of it that left the session may hold the pipes
        transport.close()


async def _wait_for_exit(process: Process) -> bool:
    """Whether it ends within some seconds; `wait` would wait for all who hold its pipes."""
    for _ in range(int(_EXIT_SECONDS / _POLL_SECONDS)):
        if process.returncode is not None:
            return True
        await asyncio.sleep(_POLL_SECONDS)
    return process.returncode is not None


def _send_signal(process: Process, number: int) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, number)
