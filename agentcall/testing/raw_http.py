"""A minimal HTTP/1.1 server side: `RecordedRequest` in, `FakeResponse` out.

A response is a value: its head, the pieces of its body, the delays, and where it breaks off. A
fault is a change of that value, so that faults compose. Only `read_request` and `send_response` use
a socket.
"""

from __future__ import annotations

import asyncio
import json
import math
import socket
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

JSONFields = dict[str, Any]  # Any: a client's JSON object, which tests index freely
BreakKind = Literal["reset", "close", "hang"]

_POLL = 0.01
_PHRASES = {200: "OK", 400: "Bad Request", 404: "Not Found", 429: "Too Many Requests"}


def encode_json(value: object) -> bytes:
    """Encode a value as compact UTF-8 JSON; lone surrogates are escaped."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return text.encode("utf-8", "backslashreplace")


def count_tokens(value: object) -> int:
    """Return a simple token count: one token per 4 bytes of the value's JSON."""
    return math.ceil(len(encode_json(value)) / 4)


@dataclass(frozen=True, slots=True)
class RecordedRequest:
    """A request as it was received.

    `number` counts the chat requests from 1 (0: another page, or a probe), `headers` have
    lower-case names, `body` is the parsed JSON object (empty if it is not one), `raw` its bytes.
    """

    method: str
    path: str
    headers: Mapping[str, str]
    raw: bytes
    body: JSONFields
    number: int = 0

    @property
    def messages(self) -> list[JSONFields]:
        """The conversation that the client sent."""
        return list(self.body.get("messages") or ())

    @property
    def tools(self) -> list[JSONFields]:
        """The tools that the client offered."""
        return list(self.body.get("tools") or ())

    @property
    def stream(self) -> bool:
        """Whether the client asked for a stream."""
        return bool(self.body.get("stream"))

    @property
    def is_probe(self) -> bool:
        """Whether the client asked for one token, as probes of a server's capabilities do."""
        return self.body.get("max_tokens") == 1

    @property
    def includes_usage(self) -> bool:
        """Whether the client asked for a usage chunk at the end of its stream."""
        options: JSONFields = self.body.get("stream_options") or {}
        return bool(options.get("include_usage"))

    @property
    def prompt_tokens(self) -> int:
        """The size of messages and tools: one token per 4 bytes of their JSON."""
        return count_tokens(self.messages) + (count_tokens(self.tools) if self.tools else 0)


@dataclass(frozen=True, slots=True)
class ConnectionBreak:
    """Where a response breaks off, and how.

    `after` is the share of the body's bytes that is sent: 0 is only the headers, None nothing.
    "reset" is a TCP RST, "close" a FIN before the end that the headers announce, "hang" is silence
    on an open connection until the client disconnects.
    """

    how: BreakKind
    after: float | None = None


@dataclass(frozen=True, slots=True)
class FakeResponse:
    """A response as it is sent.

    `pieces` is the body, one write each. `events` is whether it is an SSE stream, which is sent
    chunked, one HTTP chunk per piece; other bodies have a Content-Length. `latency` is in seconds
    before the first byte, `delay` in seconds after each piece. `head` replaces status line and
    headers with raw bytes; the pieces are then sent unframed.
    """

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    pieces: tuple[bytes, ...] = ()
    events: bool = False
    latency: float = 0.0
    delay: float = 0.0
    stop: ConnectionBreak | None = None
    head: bytes | None = None

    def build_head(self) -> bytes:
        """Return the status line and the headers."""
        if self.head is not None:
            return self.head
        if self.events:
            headers = {"content-type": "text/event-stream", "transfer-encoding": "chunked"}
        else:
            length = str(sum(map(len, self.pieces)))
            headers = {"content-type": "application/json", "content-length": length}
        headers |= {name.lower(): value for name, value in self.headers.items()}
        lines = [f"HTTP/1.1 {self.status} {_PHRASES.get(self.status, 'Status')}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")

    def iter_frames(self) -> Iterator[bytes]:
        """Yield the body as it is sent, up to the break."""
        chunked = self.events and self.head is None
        share = 1.0 if self.stop is None else self.stop.after or 0.0
        remaining = int(sum(map(len, self.pieces)) * share)
        for piece in self.pieces:
            if data := piece[:remaining]:
                yield b"%x\r\n%b\r\n" % (len(data), data) if chunked else data
            remaining -= len(data)
        if chunked and self.stop is None:
            yield b"0\r\n\r\n"


def make_json_response(body: object, *, status: int = 200) -> FakeResponse:
    """Return a response with one JSON value."""
    return FakeResponse(status=status, pieces=(encode_json(body),))


async def read_request(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> RecordedRequest | None:
    """Return the next request of a connection; None at its end, or if it is not HTTP."""
    try:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        first, *lines = head.rstrip("\r\n").split("\r\n")
        method, target, _ = first.split(" ", 2)
        pairs = (line.partition(":") for line in lines)
        headers = {name.strip().lower(): value.strip() for name, _, value in pairs}
        if headers.get("expect", "").lower() == "100-continue":
            writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        raw = await _read_body(reader, headers)
    except (asyncio.IncompleteReadError, asyncio.LimitOverrunError, ConnectionError, ValueError):
        return None
    if "://" in target:  # the absolute form that a proxy gets, and every server accepts
        target = "/" + target.partition("://")[2].partition("/")[2]
    return RecordedRequest(method, target.partition("?")[0], headers, raw, _parse_body(raw))


async def _read_body(reader: asyncio.StreamReader, headers: Mapping[str, str]) -> bytes:
    if "chunked" not in headers.get("transfer-encoding", "").lower():
        return await reader.readexactly(int(headers.get("content-length", "0")))
    body = bytearray()
    while size := int((await reader.readuntil(b"\r\n")).split(b";")[0], 16):
        body += await reader.readexactly(size)
        await reader.readexactly(2)
    while await reader.readuntil(b"\r\n") != b"\r\n":
        pass
    return bytes(body)


def _parse_body(raw: bytes) -> JSONFields:
    try:
        body: object = json.loads(raw)
    except (ValueError, RecursionError):
        return {}
    return body if isinstance(body, dict) else {}  # pyright: ignore[reportUnknownVariableType]  # JSON


async def send_response(
    response: FakeResponse, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> bool:
    """Send a response; return whether the connection can be used for another request.

    Raises:
        ConnectionError: the client disconnected before the end of the response.
    """
    await _pause(response.latency, reader, writer)
    if response.stop is None or response.stop.after is not None:
        await _write(response.build_head(), reader, writer)
        for frame in response.iter_frames():
            await _write(frame, reader, writer)
            await _pause(response.delay, reader, writer)
    if response.stop is None:
        return True
    if response.stop.how == "hang":
        await _pause(math.inf, reader, writer)
    if response.stop.how == "reset":
        await _pause(2 * _POLL, reader, writer)  # the client's kernel drops unread bytes on a reset
        # With a linger time of zero, close() sends RST instead of FIN.
        linger = struct.pack("ii", 1, 0)
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        writer.transport.abort()
    return False


async def _write(data: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    _require_connection(reader, writer)
    writer.write(data)
    await writer.drain()


async def _pause(
    seconds: float, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    clock = asyncio.get_running_loop().time
    end = clock() + seconds
    while (remaining := end - clock()) > 0:
        _require_connection(reader, writer)
        await asyncio.sleep(min(remaining, _POLL))


def _require_connection(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    if reader.at_eof() or writer.is_closing():
        raise ConnectionResetError("the client disconnected")
