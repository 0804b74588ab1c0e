"""HTTP/1.1 by hand: what a client asked (`Request`) and what goes back over the wire (`Answer`).

An answer is a value: a head, the pieces of its body, the pauses, and where it breaks off. A fault
is then a change of the value, and faults compose. Only `read_request` and `play` touch a socket.
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

JSONFields = dict[str, Any]  # Any: a client's JSON object, which a test looks into as it likes
BreakKind = Literal["reset", "close", "hang"]

_POLL = 0.01
_PHRASES = {200: "OK", 400: "Bad Request", 404: "Not Found", 429: "Too Many Requests"}


def encode_json(value: object) -> bytes:
    """The value as compact UTF-8 JSON; a lone surrogate becomes its escape."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return text.encode("utf-8", "backslashreplace")


def count_tokens(value: object) -> int:
    """A token count that is simple and steady: a token for every 4 bytes of the value's JSON."""
    return math.ceil(len(encode_json(value)) / 4)


@dataclass(frozen=True, slots=True)
class RecordedRequest:
    """One request as it came in.

    `number` counts from 1 over the chat requests (0: another page, or a probe), `headers` have
    lower-case names, `body` is the parsed JSON object (empty when it was none), `raw` its bytes.
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
        """Whether the client asked for one token: it wants to know something, not to talk."""
        return self.body.get("max_tokens") == 1

    @property
    def includes_usage(self) -> bool:
        """Whether the client asked for a usage chunk at the end of its stream."""
        options: JSONFields = self.body.get("stream_options") or {}
        return bool(options.get("include_usage"))

    @property
    def prompt_tokens(self) -> int:
        """The size of messages and tools: a token for every 4 bytes of their JSON."""
        return count_tokens(self.messages) + (count_tokens(self.tools) if self.tools else 0)


@dataclass(frozen=True, slots=True)
class ConnectionBreak:
    """Where an answer breaks off, and how.

    `after` is the share of the body's bytes that still goes out: 0 is the headers alone, None not
    even those. "reset" is a TCP RST, "close" a plain FIN before the end that the headers promised,
    "hang" is silence on an open connection until the client goes.
    """

    how: BreakKind
    after: float | None = None


@dataclass(frozen=True, slots=True)
class FakeResponse:
    """What goes over the wire.

    `pieces` is the body, one write each. `events` says that it is an SSE stream, which goes out
    chunked, one HTTP chunk a piece; other bodies have a Content-Length. `latency` is in seconds
    before the first byte, `delay` in seconds after each piece. `head` replaces the head made of
    `status` and `headers` by raw bytes, and the pieces then go out unframed.
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
        """The status line and the headers, as bytes."""
        if self.head is not None:
            return self.head
        kind = "text/event-stream" if self.events else "application/json"
        length = str(sum(map(len, self.pieces)))
        frame = ("transfer-encoding", "chunked") if self.events else ("content-length", length)
        own = {name.lower(): value for name, value in self.headers.items()}
        headers = {"content-type": kind, frame[0]: frame[1], **own}
        lines = [f"HTTP/1.1 {self.status} {_PHRASES.get(self.status, 'Status')}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")

    def iter_frames(self) -> Iterator[bytes]:
        """The body as it goes out, up to where it breaks off."""
        chunked = self.events and self.head is None
        for piece in self._iter_sent_pieces():
            if piece:
                yield b"%x\r\n%b\r\n" % (len(piece), piece) if chunked else piece
        if chunked and self.stop is None:
            yield b"0\r\n\r\n"

    def _iter_sent_pieces(self) -> Iterator[bytes]:
        if self.stop is None:
            yield from self.pieces
            return
        left = int(sum(map(len, self.pieces)) * (self.stop.after or 0.0))
        for piece in self.pieces:
            yield piece[:left]
            left = max(0, left - len(piece))


def make_json_response(body: object, *, status: int = 200) -> FakeResponse:
    """An answer whose body is one JSON value."""
    return FakeResponse(status=status, pieces=(encode_json(body),))


async def read_request(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> RecordedRequest | None:
    """The next request of a connection; None when there is none, or when it is not HTTP."""
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
    return body if isinstance(body, dict) else {}  # pyright: ignore[reportUnknownVariableType]


async def send_response(
    answer: FakeResponse, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> bool:
    """Sends the answer; says whether the connection may carry another request.

    Raises:
        ConnectionError: the client went away before the answer's end.
    """
    await _pause(answer.latency, reader, writer)
    if answer.stop is None or answer.stop.after is not None:
        await _write(answer.build_head(), reader, writer)
        for frame in answer.iter_frames():
            await _write(frame, reader, writer)
            await _pause(answer.delay, reader, writer)
    if answer.stop is None:
        return True
    if answer.stop.how == "hang":
        await _pause(math.inf, reader, writer)
    if answer.stop.how == "reset":
        await _pause(2 * _POLL, reader, writer)  # a reset may overtake bytes that are still unread
        _reset_connection(writer)
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
    while (left := end - clock()) > 0:
        _require_connection(reader, writer)
        await asyncio.sleep(min(left, _POLL))


def _require_connection(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    if reader.at_eof() or writer.is_closing():
        raise ConnectionResetError("the client went away")


def _reset_connection(writer: asyncio.StreamWriter) -> None:
    # Lingering for no time makes close() send RST instead of FIN.
    linger = struct.pack("ii", 1, 0)
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    writer.transport.abort()
