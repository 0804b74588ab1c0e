"""An application served at an address, until Ctrl-C."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import Any, NamedTuple, Protocol, runtime_checkable

from agentcall.errors import MissingExtra, UsageError
from agentcall.gatekeeper import LOOPBACK, App, Terms, new_key, terms_for

KEYS = "AGENTCALL_SERVE_KEYS"


@runtime_checkable
class Leaving(Protocol):
    """An application that keeps connections open, and is to end them before its server can end."""

    async def leave(self) -> None:
        """The server is about to end."""
        ...


class Address(NamedTuple):
    """Where to listen; port 0 takes one that is free."""

    host: str
    port: int


def address_of(word: str) -> Address:
    """HOST:PORT, PORT or [IPv6]:PORT. Raises UsageError."""
    host, _, port = word.rpartition(":")
    if not port.isdigit() or int(port) > 65535:
        raise UsageError(f"{word!r} is no HOST:PORT, such as 127.0.0.1:8765")
    return Address(host.strip("[]") or "127.0.0.1", int(port))


def serve(
    make: Callable[[Terms], App],
    address: Address,
    *,
    path: str,
    what: str,
    ticket: str = "",
    origins: Sequence[str] = (),
) -> None:
    """Serves what is made for the terms of an address, and says where. Raises UsageError.

    ticket: what stands before a key at the end of the address, where one may stand there.
    origins: pages of other servers that may ask, besides those of this one.
    """
    try:
        connection: Any = import_module("agentcall.connection")  # Any: it needs an extra
    except ImportError as error:
        raise MissingExtra("this needs uvicorn: pip install 'agentcall[serve]'") from error
    keys = _keys(address)
    terms = terms_for(address.host, keys, origins)
    listening = _listening(address)
    host, port = listening.getsockname()[:2]
    app = make(terms)
    shown = f"[{host}]" if ":" in host else host
    end = f"{path}{ticket}{_told(keys)}" if ticket and keys else path
    sys.stderr.write(f"{what} at http://{shown}:{port}{end} (Ctrl-C ends it)\n")
    sys.stderr.flush()
    server = connection.server_of(_shared(app, terms) if terms.origins else app)
    if isinstance(app, Leaving):
        server.handle_exit = _told_first(app, server.handle_exit)
    server.run(sockets=[listening])


def _shared(app: App, terms: Terms) -> App:
    """The application, which tells browsers that pages of these origins may read its answers."""
    cors: Any = import_module("starlette.middleware.cors")  # Any: an optional package
    shared: App = cors.CORSMiddleware(
        app,
        allow_origins=sorted(terms.origins),
        allow_methods=("GET", "POST", "DELETE"),
        allow_headers=("*",),
        expose_headers=("Mcp-Session-Id", "Retry-After"),
    )
    return shared


def _told_first(app: Leaving, stop: Callable[..., None]) -> Callable[..., None]:
    """The handler of a signal that ends the server; the application is told first."""

    def handle(*signal: object) -> None:
        loop = asyncio.get_running_loop()  # as a signal comes in the thread of the server
        loop.call_soon_threadsafe(lambda: tasks.append(loop.create_task(app.leave())))
        stop(*signal)

    tasks: list[asyncio.Task[None]] = []
    return handle


def _keys(address: Address) -> Mapping[str, str]:
    """The keys of AGENTCALL_SERVE_KEYS, `KEY` or `NAME=KEY` with commas between, or a new one."""
    given = [word.strip() for word in os.environ.get(KEYS, "").split(",") if word.strip()]
    if not given and address.host not in LOOPBACK:
        given = [new_key()]
        sys.stderr.write(f"{KEYS} is not set; the key of this server is {given[0]}\n")
    pairs = [word.rpartition("=") for word in given]
    return {key: name or f"key {place}" for place, (name, _, key) in enumerate(pairs, 1)}


def _told(keys: Mapping[str, str]) -> str:
    """The key that was made; those that were given are not told."""
    return "KEY" if os.environ.get(KEYS) else next(iter(keys))


def _listening(address: Address) -> socket.socket:
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind(tuple(address))
        listening.listen()  # who reads the address may ask at once, and is answered in a moment
    except OSError as error:
        listening.close()
        place = f"{address.host}:{address.port}"
        raise UsageError(f"cannot listen at {place}: {error.strerror}; choose another") from error
    return listening
