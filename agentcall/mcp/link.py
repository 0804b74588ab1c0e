"""A connection to an MCP server, opened when it is first needed, and again when it has ended.

Rules:
1. It lives in an event loop of its own, in one task that opens and closes it, as the mcp package
   wants it; so it serves sync code and any event loop, and many runs at once.
2. Every wait has an end: opening it, a request, and closing it. An error says which server, which
   request, and how long was waited.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from contextlib import suppress
from time import monotonic
from typing import Any, TypeVar

from agentcall.errors import AgentCallError, ToolError
from agentcall.mcp.source import Log, Source, needed
from agentcall.sync import background

_PINGING = 5.0
_IDLE = 1.0
"""Seconds after which a command is asked whether it is still there before it gets a call."""
_CLOSING = 10.0
"""Seconds that closing takes at most; a command is killed before."""

Client = Any  # Any: a type of the mcp package, which is imported when first needed
T = TypeVar("T")


class LinkBroken(ToolError):
    """The server cannot be started or reached, or does not answer; says what it wrote last."""


class Link:
    """Asks one server: what `ask` is given gets an open client, in the link's own loop.

    starting: seconds that the server has until it is open.
    """

    def __init__(self, source: Source, starting: float) -> None:
        self.source = source
        self._starting = starting
        self._open: _Open | None = None
        self._used = 0.0
        self._closing: set[asyncio.Future[None]] = set()

    def ask(
        self, question: Callable[[Client], Awaitable[T]], request: str, seconds: float | None
    ) -> Future[T]:
        """What the question gives within so many seconds. Raises LinkBroken, in the future.

        request: its name in the protocol, for messages.
        """
        return asyncio.run_coroutine_threadsafe(self._asked(question, request, seconds), _loop())

    def close(self) -> Future[None]:
        """Ends the connection, and the server if it was started for it."""
        return asyncio.run_coroutine_threadsafe(self._closed(), _loop())

    async def _asked(
        self, question: Callable[[Client], Awaitable[T]], request: str, seconds: float | None
    ) -> T:
        here, client = await self._within(self._ready(), INITIALIZE, self._starting)
        try:
            return await self._within(question(client), request, seconds)
        except Exception as error:  # whatever the mcp package raises
            if request != CALL or _is_closed(error):  # the next one begins anew
                self._leave()
            raise self._explained(error, request, here.said()) from error
        finally:
            self._used = monotonic()

    async def _ready(self) -> tuple[_Open, Client]:
        here = await self._alive()
        return here, await here.client()

    async def _within(self, asked: Awaitable[T], request: str, seconds: float | None) -> T:
        task = asyncio.ensure_future(asked)
        try:
            await asyncio.wait({task}, timeout=seconds)
            if task.done():
                return task.result()
        finally:
            task.cancel()
        said = self._open.said() if self._open else ""
        if request == INITIALIZE:
            self._leave()
        raise LinkBroken(
            f"the MCP server {self.source.place} did not answer {request} within {seconds:g} "
            f"seconds{said}"
        )

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

    def _explained(self, error: Exception, request: str, said: str) -> AgentCallError:
        """The error for what went wrong with a request."""
        place = self.source.place
        if isinstance(error, AgentCallError):
            return error
        if _is_closed(error):
            is_call = request == CALL
            what = "whether the call was carried out is not known" if is_call else "try again"
            return LinkBroken(f"the MCP server {place} ended during {request}; {what}{said}")
        words = str(error).strip().replace("\n", " ")[:300] or type(error).__name__
        if isinstance(error, needed("mcp").MCPError):
            return LinkBroken(f"the MCP server {place} refused {request}: {words}")
        return LinkBroken(
            f"the answer of the MCP server {place} to {request} cannot be read: {words}"
        )

    def _leave(self) -> None:
        """Closes the connection; nobody waits for that."""
        closing = asyncio.ensure_future(self._closed())
        self._closing.add(closing)
        closing.add_done_callback(self._closing.discard)

    async def _closed(self) -> None:
        here, self._open = self._open, None
        if here is not None:
            await here.close()


CALL, INITIALIZE = "tools/call", "initialize"


class _Open:
    """One life of a connection, held by a task."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._log = Log()
        self._stop = asyncio.Event()
        self._ready: asyncio.Future[Client] = asyncio.get_running_loop().create_future()
        self._life = asyncio.ensure_future(self._live())

    @property
    def has_ended(self) -> bool:
        return self._life.done()

    async def client(self) -> Client:
        """The open client. Raises LinkBroken."""
        await asyncio.wait({self._ready, self._life}, return_when=asyncio.FIRST_COMPLETED)
        if self._ready.done():
            return self._ready.result()
        raise LinkBroken(f"the MCP server {self._source.place} was closed meanwhile{self.said()}")

    async def close(self) -> None:
        self._stop.set()
        if not self._ready.done():
            self._life.cancel()
        with suppress(asyncio.CancelledError):
            await asyncio.wait({self._life}, timeout=_CLOSING)
            if not self._life.done():  # an HTTP server that does not answer
                self._life.cancel()
                await asyncio.wait({self._life}, timeout=_CLOSING)

    def said(self) -> str:
        """The end of what a command wrote to its standard error, as the end of a sentence."""
        text = self._log.tail.strip()
        return f"; it wrote:\n{text}" if text else ""

    async def _live(self) -> None:
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


def _is_closed(error: Exception) -> bool:
    closed: int = needed("mcp_types").CONNECTION_CLOSED
    return getattr(error, "code", None) == closed


def _loop() -> asyncio.AbstractEventLoop:
    return background("agentcall mcp")
