"""The transport of an MCP server: a command to start, or a URL."""

from __future__ import annotations

import shlex
import shutil
import sys
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from importlib import import_module
from subprocess import DEVNULL
from typing import Any, cast
from urllib.parse import urlsplit

from agentcall.errors import MissingExtra, UsageError
from agentcall.models.http_proxy import is_loopback

_LOG_CHARS = 1000


@dataclass(frozen=True, slots=True)
class MCPTransport:
    """A command with its arguments and environment, or a URL with headers."""

    command: tuple[str, ...] = ()
    url: str = ""
    env: Mapping[str, str] = field(default_factory=dict[str, str], repr=False)
    headers: Mapping[str, str] = field(default_factory=dict[str, str], repr=False)

    @property
    def label(self) -> str:
        """How messages name the server: the command's first words, or the URL without secrets."""
        if self.command:
            return " ".join(self.command[:3]) + (" ..." if len(self.command) > 3 else "")
        from yarl import URL

        return str(URL(self.url).with_user(None).with_query(None))

    def open(self, log: ServerLog) -> Any:  # Any: a type of the mcp package
        """Return the transport as a context manager, as the mcp package takes it.

        The standard error of a command and the HTTP errors of a URL are written to `log`.
        """
        if not self.command:
            return self._open_http(log)
        if sys.platform != "win32":
            return import_optional("agentcall.mcp.stdio").open_process_streams(
                self.command, self.env, log
            )
        stdio = import_optional("mcp.client.stdio")
        parameters = stdio.StdioServerParameters(
            command=self.command[0], args=list(self.command[1:]), env=dict(self.env)
        )
        return stdio.stdio_client(parameters, errlog=DEVNULL)

    @asynccontextmanager
    async def _open_http(self, log: ServerLog) -> AsyncGenerator[Any, None]:
        limits = import_optional("agentcall.mcp.response_limits")

        async def check_response(response: Any) -> None:  # Any: httpx2's, a dependency of mcp
            if response.status_code >= 400:
                log.write(f"HTTP {response.status_code} {response.reason_phrase}\n")
            try:
                await limits.limit_response(response)
            except Exception as error:
                log.write(f"{error}\n")
                raise

        connect = import_optional("mcp.client.streamable_http").streamable_http_client
        defaults = import_optional("mcp.shared._httpx_utils")
        httpx = import_optional("httpx2")
        async with (
            httpx.AsyncClient(
                headers={"Accept-Encoding": "identity", **self.headers},
                timeout=httpx.Timeout(
                    defaults.MCP_DEFAULT_TIMEOUT, read=defaults.MCP_DEFAULT_SSE_READ_TIMEOUT
                ),
                event_hooks={"response": [check_response]},
                # The environment's proxy, but never for this machine, which it cannot reach.
                trust_env=not is_loopback(urlsplit(self.url).hostname or ""),
            ) as client,
            connect(self.url, http_client=client) as streams,
        ):
            yield streams


class ServerLog:
    """The last characters that a server wrote beside its messages."""

    def __init__(self) -> None:
        self.tail = ""

    def write(self, text: str) -> None:
        """Append text, and keep only the end."""
        self.tail = (self.tail + text)[-_LOG_CHARS:]


def parse_transport(
    server: str, env: Mapping[str, str] | None, headers: Mapping[str, str] | None
) -> MCPTransport:
    """Return the transport for a command or URL. Raise UsageError if it is neither."""
    if not isinstance(cast("object", server), str):
        raise UsageError(
            f"MCPTools({server!r:.100}): it has to be one text, the URL of a server or a command "
            'with its arguments, such as "npx my-server --read-only"'
        )
    if server.startswith(("http://", "https://")):
        if env:
            raise UsageError(f"env= goes with a command, and {server!r} is a URL; use headers=")
        return MCPTransport(url=server, headers=dict(headers or {}))
    words = tuple(shlex.split(server, posix=sys.platform != "win32"))
    if headers:
        raise UsageError(f"headers= goes with a URL, and {server!r} is a command; use env=")
    if not words:
        raise UsageError("an MCP server is a command that starts it, or its http(s) URL")
    if shutil.which(words[0]) is None:
        raise UsageError(f"{words[0]!r} is neither an executable program nor an http(s) URL")
    return MCPTransport(words, env=dict(env or {}))


def import_optional(module: str) -> Any:  # Any: a module of an optional package
    """Import a module of the mcp package. Raise MissingExtra if it isn't installed."""
    try:
        return import_module(module)
    except ImportError as error:
        raise MissingExtra.for_feature("MCP", "mcp", error) from None
