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

For a server of your own: `uvicorn.Config(app, http="agentcall.connection:Connection")`.
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

Turn: TypeAlias = Literal["head", "body", "write", ""]
"""What a client has to do next: send one of these or read; nothing where it is our turn."""

MOST = 1000
BATCH = 16
"""Connections that are accepted at a time; those above `most` are dropped before the next ones."""

_QUEUE = 1024
"""Connections that the system keeps until they are accepted."""

_LOOK = 1.0
"""Seconds between two looks at a connection."""

_BUSY = (
    b"HTTP/1.1 503 Service Unavailable\r\nconnection: close\r\nretry-after: 1\r\n"
    b"content-type: text/plain\r\ncontent-length: 28\r\n\r\nthere are too many requests\n"
)


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a client is waited for, in seconds, and how many at a time; `rate` in bytes."""

    head: float = 10.0
    body: float = 20.0
    rate: int = 16_384
    write: float = 30.0
    most: int = MOST


def most_connections() -> int:
    """How many connections the descriptors of this process are enough for, with half to spare."""
    if sys.platform == "win32":
        return MOST
    from resource import RLIMIT_NOFILE, getrlimit

    return max(16, min(MOST, getrlimit(RLIMIT_NOFILE)[0] // 2))


class Connection(H11Protocol):
    """Speaks HTTP/1.1 with one client."""

    patience: ClassVar[Patience] = Patience(most=most_connections())

    def __init__(self, *args: Any, **more: Any) -> None:  # Any: uvicorn's own arguments
        super().__init__(*args, **more)
        self._timer: TimerHandle | None = None
        self._state: tuple[object, ...] = ()
        self._pauses = 0
        self._since = 0.0
        self._received = 0

    def connection_made(self, transport: BaseTransport) -> None:
        """A client has connected."""
        super().connection_made(cast("Transport", transport))
        self._since = self.loop.time()
        self._timer = self.loop.call_later(_LOOK, self._look)
        if len(self.connections) <= self.patience.most:
            return
        others = [each for each in self._others() if not each.transport.is_closing()]
        if len(others) < self.patience.most:
            return
        # one that has not asked at all, else one that is idle or within a body
        owing = [each for each in others if not each.has_asked] or [
            each for each in others if each.turn in ("head", "body")
        ]
        if owing:
            min(owing, key=Connection.worth).drop()
        else:
            self.transport.write(_BUSY)
            self.transport.close()

    def _others(self) -> list[Connection]:
        return [each for each in self.connections if isinstance(each, Connection) and each != self]

    def worth(self) -> tuple[bool, float]:
        """Which of two that owe a request is kept: one that is idle, else the younger one."""
        return self.has_asked and self.turn == "head", self._since

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
    def has_asked(self) -> bool:
        """Whether the head of a request has come."""
        return cast("RequestResponseCycle | None", self.cycle) is not None

    @property
    def turn(self) -> Turn:
        """What the client has to do next."""
        if self.transport.is_closing() or self.flow.write_paused:
            return "write"
        if not self.has_asked or self.cycle.response_complete:
            return "write" if self.transport.get_write_buffer_size() else "head"
        sends = self.conn.their_state is h11.SEND_BODY and not self.flow.read_paused
        return "body" if sends else ""

    def _look(self) -> None:
        """Ends the connection if the client has let us wait too long."""
        self._timer = self.loop.call_later(_LOOK, self._look)
        turn = self.turn
        state = (turn, self.cycle, self._pauses)
        if state != self._state:
            if turn != "head" or self._state:  # the first head counts from the beginning
                self._since, self._received = self.loop.time(), 0
            self._state = state
        elif turn and self.loop.time() - self._since > self._limit(turn):
            self.drop()

    def _limit(self, turn: Turn) -> float:
        given = self.patience
        if turn == "body":
            return given.body + self._received / given.rate
        return given.head if turn == "head" else given.write

    def drop(self) -> None:
        """Ends the connection at once."""
        self.transport.abort()


class Server(uvicorn.Server):
    """Accepts so few connections at a time (`BATCH`) that their number stays in its bound."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begins to listen."""
        await super().startup(sockets=sockets)
        for each in sockets or ():
            each.listen(_QUEUE)


def server_of(app: Any) -> Server:  # Any: an ASGI application, whose types uvicorn has of its own
    """A server whose clients are not waited for without end."""
    config = uvicorn.Config(
        app, http=Connection, ws="none", backlog=BATCH, log_level="warning", access_log=False
    )
    return Server(config)
