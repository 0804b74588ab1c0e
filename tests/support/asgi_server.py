"""An ASGI application behind our server, on a free port, and clients that write bytes."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from typing import Any

from agentcall.serving.http_connection import (
    ConnectionLimits,
    LimitedConnection,
    LimitedServer,
    create_server,
)


@contextmanager
def standing(app: Any, patience: ConnectionLimits | None = None) -> Iterator[int]:
    """The port at which it listens; `patience` that of its connections."""
    listening = socket.create_server(("127.0.0.1", 0))
    server = create_server(app)
    if patience is not None:
        kind = type("Kind", (LimitedConnection,), {"limits": patience})
        server.config.http = kind
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    _started(server)
    try:
        yield listening.getsockname()[1]
    finally:
        for connection in list(server.server_state.connections):
            with suppress(RuntimeError):  # its loop has ended
                connection.loop.call_soon_threadsafe(connection.transport.abort)
        server.should_exit = True
        server.force_exit = True
        thread.join(10)


def _started(server: LimitedServer) -> None:
    while not server.started:
        time.sleep(0.01)


def connected(port: int) -> socket.socket:
    """A connection whose reads end after a while, at the latest."""
    return socket.create_connection(("127.0.0.1", port), timeout=30)


def head(port: int, method: str = "GET", path: str = "/", *lines: str, host: str = "") -> bytes:
    """The head of a request."""
    named = host or f"127.0.0.1:{port}"
    return "\r\n".join([f"{method} {path} HTTP/1.1", f"Host: {named}", *lines, "", ""]).encode(
        "latin-1"
    )


def asked(port: int, request: bytes) -> bytes:
    """All that comes back for a request, until the connection ends or is left idle."""
    with closing(connected(port)) as client:
        client.sendall(request)
        return until_end(client)


def until_end(client: socket.socket) -> bytes:
    """What comes until the server ends the connection."""
    came = b""
    try:
        while piece := client.recv(65536):
            came += piece
    except ConnectionResetError:
        pass
    return came


def status(answer: bytes) -> int:
    """The status of an answer; 0 where there is none."""
    return int(answer[9:12]) if answer.startswith(b"HTTP/1.1 ") else 0
