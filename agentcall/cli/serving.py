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
from agentcall.serving.http_security import (
    LOOPBACK,
    AccessPolicy,
    ASGIApp,
    build_access_policy,
    generate_key,
)

KEYS_VARIABLE = "AGENTCALL_SERVE_KEYS"


@runtime_checkable
class SupportsShutdown(Protocol):
    """An application that keeps connections open, and is to end them before its server can end."""

    async def shutdown(self) -> None:
        """The server is about to end."""
        ...


class ListenAddress(NamedTuple):
    """Where to listen; port 0 takes one that is free."""

    host: str
    port: int


def parse_address(text: str) -> ListenAddress:
    """HOST:PORT, PORT or [IPv6]:PORT. Raises UsageError."""
    host, _, port = text.rpartition(":")
    if not port.isdigit() or int(port) > 65535:
        raise UsageError(f"{text!r} is no HOST:PORT, such as 127.0.0.1:8765")
    return ListenAddress(host.strip("[]") or "127.0.0.1", int(port))


def serve_app(
    make_app: Callable[[AccessPolicy], ASGIApp],
    address: ListenAddress,
    *,
    path: str,
    title: str,
    key_query: str = "",
    origins: Sequence[str] = (),
) -> None:
    """Serves what is made for the terms of an address, and says where. Raises UsageError.

    ticket: what stands before a key at the end of the address, where one may stand there.
    origins: pages of other servers that may ask, besides those of this one.
    """
    try:
        connection: Any = import_module(
            "agentcall.serving.http_connection"
        )  # Any: it needs an extra
    except ImportError as error:
        raise MissingExtra("this needs uvicorn: pip install 'agentcall[serve]'") from error
    keys = _read_keys(address)
    terms = build_access_policy(address.host, keys, origins)
    listening = _open_socket(address)
    host, port = listening.getsockname()[:2]
    app = make_app(terms)
    shown = f"[{host}]" if ":" in host else host
    end = f"{path}{key_query}{_get_link_key(keys)}" if key_query and keys else path
    sys.stderr.write(f"{title} at http://{shown}:{port}{end} (Ctrl-C ends it)\n")
    sys.stderr.flush()
    server = connection.create_server(_add_cors(app, terms) if terms.origins else app)
    if isinstance(app, SupportsShutdown):
        server.handle_exit = _notify_before_exit(app, server.handle_exit)
    server.run(sockets=[listening])


def _add_cors(app: ASGIApp, terms: AccessPolicy) -> ASGIApp:
    """The application, which tells browsers that pages of these origins may read its answers."""
    cors: Any = import_module("starlette.middleware.cors")  # Any: an optional package
    shared: ASGIApp = cors.CORSMiddleware(
        app,
        allow_origins=sorted(terms.origins),
        allow_methods=("GET", "POST", "DELETE"),
        allow_headers=("*",),
        expose_headers=("Mcp-Session-Id", "Retry-After"),
    )
    return shared


def _notify_before_exit(app: SupportsShutdown, stop: Callable[..., None]) -> Callable[..., None]:
    """The handler of a signal that ends the server; the application is told first."""

    def handle(*signal: object) -> None:
        loop = asyncio.get_running_loop()  # as a signal comes in the thread of the server
        loop.call_soon_threadsafe(lambda: tasks.append(loop.create_task(app.shutdown())))
        stop(*signal)

    tasks: list[asyncio.Task[None]] = []
    return handle


def _read_keys(address: ListenAddress) -> Mapping[str, str]:
    """The keys of AGENTCALL_SERVE_KEYS, `KEY` or `NAME=KEY` with commas between, or a new one."""
    given = [word.strip() for word in os.environ.get(KEYS_VARIABLE, "").split(",") if word.strip()]
    if not given and address.host not in LOOPBACK:
        given = [generate_key()]
        sys.stderr.write(f"{KEYS_VARIABLE} is not set; the key of this server is {given[0]}\n")
    pairs = [word.rpartition("=") for word in given]
    return {key: name or f"key {place}" for place, (name, _, key) in enumerate(pairs, 1)}


def _get_link_key(keys: Mapping[str, str]) -> str:
    """The key that was made; those that were given are not told."""
    return "KEY" if os.environ.get(KEYS_VARIABLE) else next(iter(keys))


def _open_socket(address: ListenAddress) -> socket.socket:
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
