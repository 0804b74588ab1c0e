"""A uvicorn connection with time limits, and a limit on the number of connections.

uvicorn waits forever for the rest of a request, and for a client that does not read. A few hundred
such clients exhaust its file descriptors before any key is checked. Rules:
1. The head of a request must arrive within `head` seconds, and its body within `body` seconds plus
   one for each `rate` bytes. Otherwise the connection is dropped, as Apache's mod_reqtimeout does.
2. A client that reads nothing for `write` seconds while data waits for it is dropped. A stream
   whose client keeps reading may last as long as it needs.
3. There are at most `max_connections` connections. A new one replaces the oldest that has not sent
   its request, so a client that sends its request at once is served while others stall. If all
   have sent theirs, the new one gets a 503.

To use it in your own server:
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
"""What a client has to do next: send the head or the body, or read; "" if it is our turn."""

MAX_CONNECTIONS = 1000
ACCEPT_BATCH = 16
"""Connections accepted at once; those above the limit are dropped before the next batch."""

_LISTEN_BACKLOG = 1024
"""Connections that the operating system queues until they are accepted."""

_BUSY_RESPONSE = (
    b"HTTP/1.1 503 Service Unavailable\r\nconnection: close\r\nretry-after: 1\r\n"
    b"content-type: text/plain\r\ncontent-length: 28\r\n\r\nthere are too many requests\n"
)


@dataclass(frozen=True, slots=True)
class ConnectionLimits:
    """Time limits in seconds, the smallest rate of a body in bytes per second, and the number."""

    head: float = 10.0
    body: float = 20.0
    rate: int = 16_384
    write: float = 30.0
    max_connections: int = MAX_CONNECTIONS

    @property
    def check_interval(self) -> float:
        """Seconds between two checks of a connection."""
        return min(1.0, self.head, self.body, self.write)


def compute_max_connections() -> int:
    """Return how many connections fit into half of this process's file descriptors."""
    if sys.platform == "win32":
        return MAX_CONNECTIONS
    from resource import RLIMIT_NOFILE, getrlimit

    return max(16, min(MAX_CONNECTIONS, getrlimit(RLIMIT_NOFILE)[0] // 2))


class LimitedConnection(H11Protocol):
    """An HTTP/1.1 connection with one client."""

    limits: ClassVar[ConnectionLimits] = ConnectionLimits(max_connections=compute_max_connections())

    def __init__(self, *args: Any, **more: Any) -> None:  # Any: uvicorn's own arguments
        super().__init__(*args, **more)
        self._timer: TimerHandle | None = None
        self._last_state: tuple[object, ...] = ()
        self._pauses = 0
        self._waiting_since = 0.0
        self._received = 0

    def connection_made(self, transport: BaseTransport) -> None:
        """Start the timer, and make room or refuse if there are too many connections."""
        super().connection_made(cast("Transport", transport))
        self._waiting_since = self.loop.time()
        self._timer = self.loop.call_later(self.limits.check_interval, self._check_timeout)
        if len(self.connections) <= self.limits.max_connections:
            return
        others: list[LimitedConnection] = [
            other
            for other in self.connections
            if isinstance(other, LimitedConnection)
            and other != self
            and not other.transport.is_closing()
        ]
        if len(others) < self.limits.max_connections:
            return
        # Prefer one that has sent no request at all, then one that is idle or sending a body.
        candidates = [other for other in others if not other.has_request] or [
            other for other in others if other.expected_action in ("head", "body")
        ]
        if candidates:
            min(candidates, key=LimitedConnection.get_eviction_key).drop()
        else:
            self.transport.write(_BUSY_RESPONSE)
            self.transport.close()

    def get_eviction_key(self) -> tuple[bool, float]:
        """Return the sort key for eviction: idle connections last, then the oldest first."""
        return self.has_request and self.expected_action == "head", self._waiting_since

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the timer."""
        if self._timer is not None:
            self._timer.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Count the received bytes, and pass them on unless the connection is closing."""
        if not self.transport.is_closing():
            self._received += len(data)
            super().data_received(data)

    def pause_writing(self) -> None:
        """Note that the client reads more slowly than we write."""
        self._pauses += 1
        super().pause_writing()

    @property
    def has_request(self) -> bool:
        """Whether the head of a request has arrived."""
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
        """Drop the connection if the client has exceeded its time limit."""
        self._timer = self.loop.call_later(self.limits.check_interval, self._check_timeout)
        action = self.expected_action
        state = (action, self.cycle, self._pauses)
        if state != self._last_state:
            if action != "head" or self._last_state:  # the first head counts from the connection
                self._waiting_since, self._received = self.loop.time(), 0
            self._last_state = state
        elif action and self.loop.time() - self._waiting_since > self._get_time_limit(action):
            self.drop()

    def _get_time_limit(self, action: ExpectedAction) -> float:
        limits = self.limits
        if action == "body":
            return limits.body + self._received / limits.rate
        return limits.head if action == "head" else limits.write

    def drop(self) -> None:
        """Close the connection at once."""
        self.transport.abort()


class LimitedServer(uvicorn.Server):
    """A server that accepts few connections at once (`ACCEPT_BATCH`), so that the limit holds."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start to listen, with a longer queue of connections on the given sockets."""
        await super().startup(sockets=sockets)
        for listener in sockets or ():
            listener.listen(_LISTEN_BACKLOG)


def create_server(app: Any) -> LimitedServer:  # Any: an ASGI application, in uvicorn's types
    """Return a server of the application whose clients have time limits."""
    config = uvicorn.Config(
        app,
        http=LimitedConnection,
        ws="none",
        backlog=ACCEPT_BATCH,
        log_level="warning",
        access_log=False,
    )
    return LimitedServer(config)
