"""`agentcall serve`: an agent behind an OpenAI-compatible endpoint; serves an app until Ctrl-C."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Annotated, Any, NamedTuple, Protocol, runtime_checkable

import typer

from agentcall.cli.command import make_app
from agentcall.cli.errors import log_to_stderr
from agentcall.cli.options import (
    HostOption,
    LaunchOptions,
    MaxRunningOption,
    OriginsOption,
    PortOption,
)
from agentcall.errors import MissingExtra, UsageError
from agentcall.serving.http_security import (
    LOOPBACK,
    AccessPolicy,
    ASGIApp,
    build_access_policy,
    generate_key,
)

SERVE_HELP = """Serve an agent to clients that speak OpenAI's API.

The agent's tools are called here; clients get plain completions.

\b
  agentcall serve -a my_agents.py:agent
  agentcall serve -m embedded -t calculator --port 8001
  curl http://127.0.0.1:8001/v1/models

\b
Environment:
  AGENTCALL_SERVE_KEYS  the API keys of clients, NAME=KEY,NAME=KEY. Beyond this machine
                        (--host 0.0.0.0) a key is required; without any, one is generated and
                        printed.
"""

KEYS_VARIABLE = "AGENTCALL_SERVE_KEYS"


@dataclass(frozen=True, slots=True)
class ServeOptions(LaunchOptions):
    """Options of `agentcall serve`."""

    name: Annotated[
        str | None,
        typer.Option("--name", help="The model name for clients. Default: the agent's name."),
    ] = None
    host: HostOption = "127.0.0.1"
    port: PortOption = 8001
    origins: OriginsOption = None
    running: MaxRunningOption = 32
    waiting: Annotated[
        int, typer.Option("--waiting", min=0, help="Maximum number of runs that wait for a place.")
    ] = 256
    per_key: Annotated[
        int | None,
        typer.Option("--per-key", min=1, help="Maximum number of runs of one key at a time."),
    ] = None


def serve_endpoint(options: ServeOptions) -> None:
    """Serve until stopped."""
    from agentcall.cli.load import build_agent
    from agentcall.cli.model_server import ensure_server, prepare_in_background
    from agentcall.serving.openai_api import Capacity, OpenAIEndpoint

    agent = build_agent(options)
    if options.launch:
        ensure_server(options.model)
    prepare_in_background(agent)
    capacity = Capacity(options.running, options.waiting, options.per_key)

    def make_endpoint(access: AccessPolicy) -> ASGIApp:
        return OpenAIEndpoint(agent, name=options.name, access=access, capacity=capacity)

    serve_app(
        make_endpoint,
        ListenAddress(options.host, options.port),
        path="/v1",
        title=options.name or agent.name,
        origins=options.origins or (),
    )


@runtime_checkable
class SupportsShutdown(Protocol):
    """An application that has to close its open connections before the server can end."""

    async def shutdown(self) -> None:
        """Close the connections."""
        ...


class ListenAddress(NamedTuple):
    """An address to listen on; port 0 chooses a free one."""

    host: str
    port: int


def parse_address(text: str) -> ListenAddress:
    """Parse HOST:PORT, PORT or [IPv6]:PORT. Raises UsageError."""
    host, _, port = text.rpartition(":")
    if not port.isdigit() or int(port) > 65535:
        raise UsageError(f"{text!r} is not HOST:PORT, such as 127.0.0.1:8765")
    return ListenAddress(host.strip("[]") or "127.0.0.1", int(port))


def serve_app(
    make: Callable[[AccessPolicy], ASGIApp],
    address: ListenAddress,
    *,
    path: str,
    title: str,
    key_query: str = "",
    origins: Sequence[str] = (),
    extra: str = "serve",
) -> None:
    """Serve an application until Ctrl-C, and print its address. Raises UsageError.

    make: makes the application for the access policy of the address.
    key_query: what precedes the key at the end of the printed address; "" prints no key.
    origins: origins of pages on other servers that may send requests too.
    extra: the extra of the command, which has the same name.
    """
    try:
        from agentcall.serving.http_connection import create_server
    except ImportError as error:
        raise MissingExtra.for_feature(f"agentcall {extra}", extra, error) from None
    log_to_stderr()
    listener = _open_socket(address)
    keys = _read_keys(address)
    access = build_access_policy(address.host, keys, origins)
    host, port = listener.getsockname()[:2]
    app = make(access)
    shown_host = f"[{host}]" if ":" in host else host
    if key_query and keys:  # a key of the user's own is not printed
        path += key_query + ("KEY" if os.environ.get(KEYS_VARIABLE) else next(iter(keys)))
    sys.stderr.write(f"{title} at http://{shown_host}:{port}{path} (Ctrl-C stops it)\n")
    sys.stderr.flush()
    server = create_server(_add_cors(app, access) if access.origins else app)
    if isinstance(app, SupportsShutdown):
        server.handle_exit = _shut_down_before_exit(app, server.handle_exit)
    server.run(sockets=[listener])


def _add_cors(app: ASGIApp, access: AccessPolicy) -> ASGIApp:
    """Wrap the application so that browsers let pages of these origins read its answers."""
    cors: Any = import_module("starlette.middleware.cors")  # Any: an optional package
    wrapped: ASGIApp = cors.CORSMiddleware(
        app,
        allow_origins=sorted(access.origins),
        allow_methods=("GET", "POST", "DELETE"),
        allow_headers=("*",),
        expose_headers=("Mcp-Session-Id", "Retry-After"),
    )
    return wrapped


def _shut_down_before_exit(app: SupportsShutdown, stop: Callable[..., None]) -> Callable[..., None]:
    """Return a signal handler that shuts the application down and then stops the server."""
    tasks: list[asyncio.Task[None]] = []

    def handle(*signal: object) -> None:
        loop = asyncio.get_running_loop()  # signals arrive in the thread of the server's loop
        loop.call_soon_threadsafe(lambda: tasks.append(loop.create_task(app.shutdown())))
        stop(*signal)

    return handle


def _read_keys(address: ListenAddress) -> Mapping[str, str]:
    """Return the names of the keys in AGENTCALL_SERVE_KEYS, or of a generated key.

    The variable holds `KEY` or `NAME=KEY`, separated by commas.
    """
    words = [word.strip() for word in os.environ.get(KEYS_VARIABLE, "").split(",") if word.strip()]
    if not words and address.host not in LOOPBACK:
        words = [generate_key()]
        sys.stderr.write(f"{KEYS_VARIABLE} is not set; the key of this server is {words[0]}\n")
    pairs = [word.rpartition("=") for word in words]
    return {key: name or f"key {number}" for number, (name, _, key) in enumerate(pairs, 1)}


def _open_socket(address: ListenAddress) -> socket.socket:
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    if sys.platform != "win32":  # there it would share the port with another program
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(tuple(address))
        listener.listen()  # a client that reads the printed address can connect at once
    except OSError as error:
        listener.close()
        raise UsageError(_explain_no_address(address, error)) from None
    return listener


def _explain_no_address(address: ListenAddress, error: OSError) -> str:
    """Describe why the address cannot be listened at, and what to choose instead."""
    shown = f"{address.host}:{address.port}"
    match error.errno:
        case errno.EADDRINUSE:
            return f"another program listens at {shown}; choose another port, or 0 for a free one"
        case errno.EACCES:
            return f"this user may not listen at {shown}; choose a port above 1023"
        case _:
            return (
                f"cannot listen at {shown}: {error.strerror}; the host has to be an address of "
                "this machine, such as 127.0.0.1, or 0.0.0.0 for all of them"
            )


app = make_app(ServeOptions, serve_endpoint, SERVE_HELP)
