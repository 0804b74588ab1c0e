"""A connection of uvicorn's that ends: each wait for a client has a limit, and so has their number.

uvicorn waits without end for the rest of a request and for a client that does not read; a few
hundred such clients use up its descriptors before any key is asked for. Rules:
1. The head of a request comes within `head` seconds, its body within `body` seconds and one more
   for each `rate` bytes of it. Otherwise the connection ends, as with Apache's mod_reqtimeout.
2. What is written to a client, which then reads nothing of it for `write` seconds, is dropped, and
   so is the connection. A stream whose client keeps up may last as long as it does.
3. There are at most `most` connections. A new one takes the place of the oldest that still owes its
   request, so a client that sends its request at once is served while others stall. Where all have
   sent theirs, the new one gets 503.

For a server of your own:
`uvicorn.Config(app, http="agentcall.serving.http_connection:LimitedConnection")`.
"""

from __future__ import annotations

import socket
import sys
from asyncio import BaseTransport, TimerHandle, Transport
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, TypeAlias, cast

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol, RequestResponseCycle

ExpectedAction: TypeAlias = Literal["head", "body", "write", ""]
"""What a client has to do next: send one of these or read; nothing where it is our turn."""

MAX_CONNECTIONS = 1000
ACCEPT_BATCH = 16
"""Connections that are accepted at a time; those above `most` are dropped before the next ones."""

_LISTEN_BACKLOG = 1024
"""Connections that the system keeps until they are accepted."""

_CHECK_INTERVAL = 1.0
"""Seconds between two looks at a connection."""

_BUSY_RESPONSE = (
    b"HTTP/1.1 503 Service Unavailable\r\nconnection: close\r\nretry-after: 1\r\n"
    b"content-type: text/plain\r\ncontent-length: 28\r\n\r\nthere are too many requests\n"
)


@dataclass(frozen=True, slots=True)
class ConnectionLimits:
    """How long a client is waited for, in seconds, and how many at a time; `rate` in bytes."""

    head: float = 10.0
    body: float = 20.0
    rate: int = 16_384
    write: float = 30.0
    max_connections: int = MAX_CONNECTIONS


def compute_max_connections() -> int:
    """How many connections the descriptors of this process are enough for, with half to spare."""
    if sys.platform == "win32":
        return MAX_CONNECTIONS
    from resource import RLIMIT_NOFILE, getrlimit

    return max(16, min(MAX_CONNECTIONS, getrlimit(RLIMIT_NOFILE)[0] // 2))


class LimitedConnection(H11Protocol):
    """Speaks HTTP/1.1 with one client."""

    limits: ClassVar[ConnectionLimits] = ConnectionLimits(max_connections=compute_max_connections())

    def __init__(self, *args: Any, **more: Any) -> None:  # Any: uvicorn's own arguments
        super().__init__(*args, **more)
        self._timer: TimerHandle | None = None
        self._last_state: tuple[object, ...] = ()
        self._pauses = 0
        self._waiting_since = 0.0
        self._received = 0

    def connection_made(self, transport: BaseTransport) -> None:
        """A client has connected."""
        super().connection_made(cast("Transport", transport))
        self._waiting_since = self.loop.time()
        self._timer = self.loop.call_later(_CHECK_INTERVAL, self._check_timeout)
        if len(self.connections) <= self.limits.max_connections:
            return
        others = [each for each in self._list_others() if not each.transport.is_closing()]
        if len(others) < self.limits.max_connections:
            return
        # one that has not asked at all, else one that is idle or within a body
        owing = [each for each in others if not each.has_request] or [
            each for each in others if each.expected_action in ("head", "body")
        ]
        if owing:
            min(owing, key=LimitedConnection.rank_for_eviction).drop()
        else:
            self.transport.write(_BUSY_RESPONSE)
            self.transport.close()

    def _list_others(self) -> list[LimitedConnection]:
        return [
            each
            for each in self.connections
            if isinstance(each, LimitedConnection) and each != self
        ]

    def rank_for_eviction(self) -> tuple[bool, float]:
        """Which of two that owe a request is kept: one that is idle, else the younger one."""
        return self.has_request and self.expected_action == "head", self._waiting_since

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection has ended."""
        if self._timer is not None:
            self._timer.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """The client has sent something."""
        if not self.transport.is_closing():
            self._received += len(data)
            super().data_received(data)

    def pause_writing(self) -> None:
        """The client does not read as fast as is written."""
        self._pauses += 1
        super().pause_writing()

    @property
    def has_request(self) -> bool:
        """Whether the head of a request has come."""
        return cast("RequestResponseCycle | None", self.cycle) is not None

    @property
    def expected_action(self) -> ExpectedAction:
        """What the client has to do next."""
        if self.transport.is_closing() or self.flow.write_paused:
            return "write"
        if not self.has_request or self.cycle.response_complete:
            return "write" if self.transport.get_write_buffer_size() else "head"
        sends = self.conn.their_state is h11.SEND_BODY and not self.flow.read_paused
        return "body" if sends else ""

    def _check_timeout(self) -> None:
        """Ends the connection if the client has let us wait too long."""
        self._timer = self.loop.call_later(_CHECK_INTERVAL, self._check_timeout)
        turn = self.expected_action
        state = (turn, self.cycle, self._pauses)
        if state != self._last_state:
            if turn != "head" or self._last_state:  # the first head counts from the beginning
                self._waiting_since, self._received = self.loop.time(), 0
            self._last_state = state
        elif turn and self.loop.time() - self._waiting_since > self._get_time_limit(turn):
            self.drop()

    def _get_time_limit(self, action: ExpectedAction) -> float:
        given = self.limits
        if action == "body":
            return given.body + self._received / given.rate
        return given.head if action == "head" else given.write

    def drop(self) -> None:
        """Ends the connection at once."""
        self.transport.abort()


class LimitedServer(uvicorn.Server):
    """Accepts so few connections at a time (`BATCH`) that their number stays in its bound."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begins to listen."""
        await super().startup(sockets=sockets)
        for each in sockets or ():
            each.listen(_LISTEN_BACKLOG)


def create_server(
    app: Any,
) -> LimitedServer:  # Any: an ASGI application, whose types uvicorn has of its own
    """A server whose clients are not waited for without end."""
    config = uvicorn.Config(
        app,
        http=LimitedConnection,
        ws="none",
        backlog=ACCEPT_BATCH,
        log_level="warning",
        access_log=False,
    )
    return LimitedServer(config)
