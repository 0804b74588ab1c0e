"""A command that speaks MCP over its standard input and output, within limits.

Rules:
1. A message is a line of at most `MAX_MESSAGE_BYTES`. A longer one ends the connection, and so do
   more than `MAX_MESSAGES` between two of our requests, so that no server can fill our memory.
2. A line that is not a message is skipped and logged; a later error shows the log.
3. The command runs in its own process session, and all processes of the session are ended with it:
   by closing its input, and some seconds later by a signal.
"""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
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
"""Seconds that a server has to exit after its input is closed, and again after SIGTERM."""
_POLL_SECONDS = 0.01
_CHUNK_BYTES = 2**16
_RESPONSE = re.compile(
    rb'\s*\{(?:\s*"jsonrpc"\s*:\s*"2\.0"\s*,)?\s*"id"\s*:\s*(\d{1,15})\s*,\s*"result"'
)


class LogWriter(Protocol):
    """A log of output that may explain a failure."""

    def write(self, text: str, /) -> object: ...


@dataclass
class _MessageCounter:
    """The number of messages that a server has written since our last request."""

    messages: int = 0


@asynccontextmanager
async def open_process_streams(
    command: Sequence[str], env: Mapping[str, str], log: LogWriter
) -> AsyncGenerator[Any, None]:  # Any: streams of anyio, in the types of the mcp package
    """Start a command; yield the stream of its messages and the stream of messages to it."""
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=PIPE,
        stdout=PIPE,
        stderr=PIPE,
        env={**get_default_environment(), **env},
        start_new_session=True,
        limit=MAX_MESSAGE_BYTES,
    )
    incoming_in, incoming = anyio.create_memory_object_stream[Any](0)
    outgoing, outgoing_out = anyio.create_memory_object_stream[Any](0)
    counter = _MessageCounter()
    tasks = [
        asyncio.ensure_future(_read_messages(process, incoming_in, counter, log)),
        asyncio.ensure_future(_write_messages(process, outgoing_out, incoming_in, counter)),
        asyncio.ensure_future(_log_stderr(process, log)),
    ]
    try:
        yield incoming, outgoing
    finally:
        try:
            incoming.close()
            await _stop_process(process)
        finally:
            for task in tasks:
                task.cancel()
            for stream in (outgoing, incoming_in, outgoing_out):
                stream.close()


async def _read_messages(
    process: Process, incoming: Any, counter: _MessageCounter, log: LogWriter
) -> None:
    """Forward the command's messages until it closes its output or exceeds a limit."""
    output = cast("asyncio.StreamReader", process.stdout)
    async with incoming:
        with suppress(anyio.BrokenResourceError, anyio.ClosedResourceError, OSError):
            await _forward_messages(output, incoming.send, counter, log)
    with suppress(OSError):  # keep reading, as a command that blocks on its output cannot exit
        while await output.read(_CHUNK_BYTES):
            pass


async def _forward_messages(
    output: asyncio.StreamReader,
    send: Callable[[SessionMessage], Any],
    counter: _MessageCounter,
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
        counter.messages += 1
        if counter.messages > MAX_MESSAGES:
            log.write(f"[over {MAX_MESSAGES} messages to one request]\n")
            return
        message = _parse_message(line)
        if message is None:
            log.write(f"[not a message on its standard output: {line[:100]!r}]\n")
        else:
            await send(SessionMessage(message))


def _parse_message(line: bytes) -> Any:  # Any: a type of the mcp package
    """Return the message of a line, or None if it isn't one.

    An unreadable response to a request becomes an error message, so that nobody waits for it.
    """
    try:
        return jsonrpc_message_adapter.validate_json(line, by_name=False)
    except ValueError:
        with suppress(ValueError):  # pydantic's parser refuses deep nesting, orjson allows more
            return jsonrpc_message_adapter.validate_python(orjson.loads(line), by_name=False)
    match = _RESPONSE.match(line)
    if match is None:
        return None
    error = ErrorData(code=PARSE_ERROR, message=f"the answer is not JSON: {line[:100]!r}")
    return JSONRPCError(jsonrpc="2.0", id=int(match[1]), error=error)


async def _write_messages(
    process: Process, outgoing: Any, incoming: Any, counter: _MessageCounter
) -> None:
    stdin = cast("asyncio.StreamWriter", process.stdin)
    try:
        async with outgoing:
            async for item in outgoing:
                if isinstance(item.message, JSONRPCRequest):
                    counter.messages = 0
                text: str = item.message.model_dump_json(by_alias=True, exclude_unset=True)
                stdin.write(text.encode("utf-8", "replace") + b"\n")
                await stdin.drain()
    except (OSError, anyio.BrokenResourceError, anyio.ClosedResourceError):
        await incoming.aclose()  # the command reads no more, so it will not answer either


async def _log_stderr(process: Process, log: LogWriter) -> None:
    errors = cast("asyncio.StreamReader", process.stderr)
    while chunk := await errors.read(_CHUNK_BYTES):
        log.write(chunk.decode("utf-8", "replace"))


async def _stop_process(process: Process) -> None:
    """End the command and its process session, even if this task is cancelled."""
    cast("asyncio.StreamWriter", process.stdin).close()
    try:
        if not await _wait_for_exit(process):
            _send_signal(process, "SIGTERM")
            await _wait_for_exit(process)
    finally:
        _send_signal(process, "SIGKILL")
    await _wait_for_exit(process)
    transport: Any = getattr(process, "_transport", None)
    if transport is not None:  # a descendant outside the session may hold the pipes open
        transport.close()


async def _wait_for_exit(process: Process) -> bool:
    """Return whether the command exits in time; `wait` would wait for its pipes, too."""
    for _ in range(int(_EXIT_SECONDS / _POLL_SECONDS)):
        if process.returncode is not None:
            return True
        await asyncio.sleep(_POLL_SECONDS)
    return process.returncode is not None


def _send_signal(process: Process, name: str) -> None:
    with suppress(ProcessLookupError, PermissionError):
        if sys.platform == "win32":  # no process groups there: only the command itself is ended
            process.kill()
        else:
            os.killpg(process.pid, getattr(signal, name))
