"""A connection to an MCP server, opened when it is first needed, and again when it has ended.

It lives in an event loop of its own, in one task that opens and closes it, as the mcp package
wants it; so it serves sync code and any event loop, and many runs at once.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from contextlib import suppress
from time import monotonic
from typing import IO, Any, TypeVar

from agentcall.errors import ToolError
from agentcall.mcp.source import Source, needed
from agentcall.sync import background

_STARTING = 60.0
_PINGING = 5.0
_IDLE = 1.0
"""Seconds after which a command is asked whether it is still there before it gets a call."""
_LOG = 1000

Client = Any  # Any: a type of the mcp package, which is imported when first needed
T = TypeVar("T")


class LinkBroken(ToolError):
    """The server cannot be started or reached, or has ended; says what it wrote last."""


class Link:
    """Asks one server: what `ask` is given gets an open client, in the link's own loop."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self._open: _Open | None = None
        self._used = 0.0

    def ask(self, question: Callable[[Client], Awaitable[T]]) -> Future[T]:
        """What the question gives. Raises LinkBroken, in the future."""
        return asyncio.run_coroutine_threadsafe(self._asked(question), _loop())

    def close(self) -> Future[None]:
        """Ends the connection, and the server if it was started for it."""
        return asyncio.run_coroutine_threadsafe(self._closed(), _loop())

    async def _asked(self, question: Callable[[Client], Awaitable[T]]) -> T:
        here = await self._alive()
        client = await here.client()
        error_type: type[Exception] = needed("mcp").MCPError
        try:
            return await question(client)
        except error_type as error:
            if not _is_closed(error):
                raise
            said = here.said()
            await self._closed()
            raise self._ended(said) from error
        finally:
            self._used = monotonic()

    async def _alive(self) -> _Open:
        """A connection that is open, or opening."""
        here = self._open
        if here is not None and not here.has_ended and await self._answers(here):
            return here
        if self._open is None or self._open is here:  # nobody else has opened it meanwhile
            self._open = _Open(self.source)
        return self._open

    async def _answers(self, here: _Open) -> bool:
        """Whether a command that was idle is still there."""
        if self.source.url or monotonic() - self._used < _IDLE:
            return True
        client = await here.client()
        try:
            types = needed("mcp_types")
            asked = client.session.send_request(types.PingRequest(), types.EmptyResult)
            await asyncio.wait_for(asked, _PINGING)
        except Exception as error:  # newer servers know no ping; all that counts is an answer
            if _is_closed(error):
                await here.close()
                return False
        return True

    def _ended(self, said: str) -> LinkBroken:
        return LinkBroken(
            f"the MCP server {self.source.place} ended during this call; whether the call was "
            f"carried out is not known{said}"
        )

    async def _closed(self) -> None:
        here, self._open = self._open, None
        if here is not None:
            await here.close()


class _Open:
    """One life of a connection, held by a task."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._log: IO[str] = tempfile.TemporaryFile(  # noqa: SIM115 - closed when its life ends
            "w+", encoding="utf-8", errors="replace"
        )
        self._stop = asyncio.Event()
        self._ready: asyncio.Future[Client] = asyncio.get_running_loop().create_future()
        self._life = asyncio.ensure_future(self._live())

    @property
    def has_ended(self) -> bool:
        return self._life.done()

    async def client(self) -> Client:
        """The open client. Raises LinkBroken."""
        await asyncio.wait({self._ready, self._life}, timeout=_STARTING, return_when=_FIRST)
        if self._ready.done():
            return self._ready.result()
        await self.close()
        raise LinkBroken(
            f"the MCP server {self._source.place} did not answer within {_STARTING:g} seconds"
            f"{self.said()}"
        )

    async def close(self) -> None:
        self._stop.set()
        if not self._ready.done():
            self._life.cancel()
        with suppress(asyncio.CancelledError):
            await asyncio.wait({self._life})

    def said(self) -> str:
        """The end of what a command wrote to its standard error, as the end of a sentence."""
        if self._log.closed:
            return ""
        self._log.seek(0)
        text = self._log.read().strip()[-_LOG:]
        return f"; it wrote:\n{text}" if text else ""

    async def _live(self) -> None:
        with self._log:
            try:
                await self._hold()
            except Exception as error:  # whatever a server or its transport does wrong
                if not self._ready.done():
                    self._ready.set_exception(self._unreachable(error))

    async def _hold(self) -> None:
        async with needed("mcp").Client(self._source.transport(self._log)) as client:
            self._ready.set_result(client)
            await self._stop.wait()

    def _unreachable(self, error: BaseException) -> LinkBroken:
        while inner := getattr(error, "exceptions", ()):  # a group, as anyio raises them
            error = inner[0]
        words = str(error) or type(error).__name__
        place = self._source.place
        return LinkBroken(f"the MCP server {place} cannot be used: {words}{self.said()}")


_FIRST = asyncio.FIRST_COMPLETED


def _is_closed(error: Exception) -> bool:
    closed: int = needed("mcp_types").CONNECTION_CLOSED
    return getattr(error, "code", None) == closed


def _loop() -> asyncio.AbstractEventLoop:
    return background("agentcall mcp")
