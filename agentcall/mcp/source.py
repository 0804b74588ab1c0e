"""What an MCP server is reached by: a command that is started, or a URL."""

from __future__ import annotations

import os
import shlex
import shutil
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from importlib import import_module
from subprocess import DEVNULL
from typing import Any

from agentcall.errors import MissingExtra, UsageError

_LOG = 1000
"""Characters that are kept."""


@dataclass(frozen=True, slots=True)
class Source:
    """A command with its words, or a URL; `place` is how messages name it."""

    words: tuple[str, ...] = ()
    url: str = ""
    env: Mapping[str, str] = field(default_factory=dict[str, str], repr=False)
    headers: Mapping[str, str] = field(default_factory=dict[str, str], repr=False)

    @property
    def place(self) -> str:
        """The command's own name, or the URL without what may be secret in it."""
        if self.words:
            return " ".join(self.words[:3]) + (" ..." if len(self.words) > 3 else "")
        from yarl import URL

        return str(URL(self.url).with_user(None).with_query(None))

    def transport(self, log: Log) -> Any:  # Any: a type of the mcp package
        """What the mcp package connects by.

        What a command writes to its standard error goes to `log`, and what a URL refuses.
        """
        if not self.words:
            return self._http(log)
        if os.name == "posix":
            return needed("agentcall.mcp.pipes").piped(self.words, self.env, log)
        stdio = needed("mcp.client.stdio")
        words = stdio.StdioServerParameters(
            command=self.words[0], args=list(self.words[1:]), env=dict(self.env)
        )
        return stdio.stdio_client(words, errlog=DEVNULL)

    @asynccontextmanager
    async def _http(self, log: Log) -> AsyncGenerator[Any, None]:  # Any: as above
        bodies = needed("agentcall.mcp.bodies")

        async def note(response: Any) -> None:  # Any: a type of httpx2, which mcp brings along
            if response.status_code >= 400:
                log.write(f"HTTP {response.status_code} {response.reason_phrase}\n")
            try:
                await bodies.bound(response)
            except Exception as error:
                log.write(f"{error}\n")
                raise

        connect = needed("mcp.client.streamable_http").streamable_http_client
        headers = {"Accept-Encoding": "identity", **self.headers}
        async with needed("mcp.shared._httpx_utils").create_mcp_http_client(headers) as client:
            client.event_hooks = {"response": [note]}
            async with connect(self.url, http_client=client) as streams:
                yield streams


class Log:
    """The end of what a server wrote beside its messages."""

    def __init__(self) -> None:
        self.tail = ""

    def write(self, text: str) -> None:
        """Takes more; only the end is kept."""
        self.tail = (self.tail + text)[-_LOG:]


def source_of(
    given: str, env: Mapping[str, str] | None, headers: Mapping[str, str] | None
) -> Source:
    """The source that a text names. Raises UsageError."""
    if given.startswith(("http://", "https://")):
        if env:
            raise UsageError(f"env= goes with a command, and {given!r} is a URL; use headers=")
        return Source(url=given, headers=dict(headers or {}))
    words = tuple(shlex.split(given, posix=os.name == "posix"))
    if headers:
        raise UsageError(f"headers= goes with a URL, and {given!r} is a command; use env=")
    if not words:
        raise UsageError("an MCP server is a command that starts it, or its http(s) URL")
    if shutil.which(words[0]) is None:
        raise UsageError(f"{words[0]!r} is no program that can be run, nor an http(s) URL")
    return Source(words, env=dict(env or {}))


def needed(module: str) -> Any:  # Any: a module of an optional package
    """A module of the mcp package. Raises MissingExtra."""
    try:
        return import_module(module)
    except ImportError as error:
        raise MissingExtra("MCP needs its package: pip install 'agentcall[mcp]'") from error
