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
from agentcall.mcp.transport import MCPTransport, ServerLog, import_optional
from agentcall.runtime.runner import get_background_loop

_PING_TIMEOUT = 5.0
_IDLE_SECONDS = 1.0
"""Seconds after which a command is asked whether it is still there before it gets a call."""
_CLOSING = 10.0
"""Seconds that closing takes at most; a command is killed before."""

Client = Any  # Any: a type of the mcp package, which is imported when first needed
T = TypeVar("T")


class MCPConnectionError(ToolError):
    """The server cannot be started or reached, or does not answer; says what it wrote last."""


class MCPConnection:
    """Asks one server: what `ask` is given gets an open client, in the link's own loop.

    starting: seconds that the server has until it is open.
    """

    def __init__(self, transport: MCPTransport, start_timeout: float) -> None:
        self.transport = transport
        self._start_timeout = start_timeout
        self._session: _MCPSession | None = None
        self._last_used = 0.0
        self._close_tasks: set[asyncio.Future[None]] = set()

    def submit(
        self, operation: Callable[[Client], Awaitable[T]], method: str, timeout: float | None
    ) -> Future[T]:
        """What the question gives within so many seconds. Raises LinkBroken, in the future.

        request: its name in the protocol, for messages.
        """
        return asyncio.run_coroutine_threadsafe(self._run(operation, method, timeout), _get_loop())

    def close(self) -> Future[None]:
        """Ends the connection, and the server if it was started for it."""
        return asyncio.run_coroutine_threadsafe(self._close(), _get_loop())

    async def _run(
        self, operation: Callable[[Client], Awaitable[T]], method: str, timeout: float | None
    ) -> T:
        session, client = await self._wait_for(self._open_client(), INITIALIZE, self._start_timeout)
        try:
            return await self._wait_for(operation(client), method, timeout)
        except Exception as error:  # whatever the mcp package raises
            if method != CALL or _is_connection_closed(error):  # the next one begins anew
                self._close_soon()
            raise self._translate_error(error, method, session.format_log()) from error
        finally:
            self._last_used = monotonic()

    async def _open_client(self) -> tuple[_MCPSession, Client]:
        session = await self._get_session()
        return session, await session.client()

    async def _wait_for(self, awaitable: Awaitable[T], method: str, timeout: float | None) -> T:
        task = asyncio.ensure_future(awaitable)
        try:
            await asyncio.wait({task}, timeout=timeout)
            if task.done():
                return task.result()
        finally:
            task.cancel()
        log = self._session.format_log() if self._session else ""
        if method == INITIALIZE:
            self._close_soon()
        raise MCPConnectionError(
            f"the MCP server {self.transport.label} did not answer {method} within {timeout:g} "
            f"seconds{log}"
        )

    async def _get_session(self) -> _MCPSession:
        """A connection that is open, or opening."""
        session = self._session
        if session is not None and not session.has_ended and await self._is_responsive(session):
            return session
        if self._session is None or self._session is session:  # nobody else has opened it meanwhile
            self._session = _MCPSession(self.transport)
        return self._session

    async def _is_responsive(self, session: _MCPSession) -> bool:
        """Whether a command that was idle is still there."""
        if self.transport.url or monotonic() - self._last_used < _IDLE_SECONDS:
            return True
        client = await session.client()
        try:
            types = import_optional("mcp_types")
            ping = client.session.send_request(types.PingRequest(), types.EmptyResult)
            await asyncio.wait_for(ping, _PING_TIMEOUT)
        except Exception as error:  # newer servers know no ping; all that counts is an answer
            if _is_connection_closed(error):
                await session.close()
                return False
        return True

    def _translate_error(self, error: Exception, method: str, said: str) -> AgentCallError:
        """The error for what went wrong with a request."""
        place = self.transport.label
        if isinstance(error, AgentCallError):
            return error
        if _is_connection_closed(error):
            is_call = method == CALL
            what = "whether the call was carried out is not known" if is_call else "try again"
            return MCPConnectionError(f"the MCP server {place} ended during {method}; {what}{said}")
        words = str(error).strip().replace("\n", " ")[:300] or type(error).__name__
        if isinstance(error, import_optional("mcp").MCPError):
            return MCPConnectionError(f"the MCP server {place} refused {method}: {words}")
        return MCPConnectionError(
            f"the answer of the MCP server {place} to {method} cannot be read: {words}"
        )

    def _close_soon(self) -> None:
        """Closes the connection; nobody waits for that."""
        closing = asyncio.ensure_future(self._close())
        self._close_tasks.add(closing)
        closing.add_done_callback(self._close_tasks.discard)

    async def _close(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            await session.close()


CALL, INITIALIZE = "tools/call", "initialize"


class _MCPSession:
    """One life of a connection, held by a task."""

    def __init__(self, transport: MCPTransport) -> None:
        self._transport = transport
        self._log = ServerLog()
        self._stop = asyncio.Event()
        self._ready: asyncio.Future[Client] = asyncio.get_running_loop().create_future()
        self._task = asyncio.ensure_future(self._run())

    @property
    def has_ended(self) -> bool:
        return self._task.done()

    async def client(self) -> Client:
        """The open client. Raises LinkBroken."""
        await asyncio.wait({self._ready, self._task}, return_when=asyncio.FIRST_COMPLETED)
        if self._ready.done():
            return self._ready.result()
        raise MCPConnectionError(
            f"the MCP server {self._transport.label} was closed meanwhile{self.format_log()}"
        )

    async def close(self) -> None:
        self._stop.set()
        if not self._ready.done():
            self._task.cancel()
        with suppress(asyncio.CancelledError):
            await asyncio.wait({self._task}, timeout=_CLOSING)
            if not self._task.done():  # an HTTP server that does not answer
                self._task.cancel()
                await asyncio.wait({self._task}, timeout=_CLOSING)

    def format_log(self) -> str:
        """The end of what a command wrote to its standard error, as the end of a sentence."""
        text = self._log.tail.strip()
        return f"; it wrote:\n{text}" if text else ""

    async def _run(self) -> None:
        try:
            await self._keep_open()
        except Exception as error:  # whatever a server or its transport does wrong
            if not self._ready.done():
                self._ready.set_exception(self._make_unreachable_error(error))

    async def _keep_open(self) -> None:
        async with import_optional("mcp").Client(self._transport.open(self._log)) as client:
            self._ready.set_result(client)
            await self._stop.wait()

    def _make_unreachable_error(self, error: BaseException) -> MCPConnectionError:
        while inner := getattr(error, "exceptions", ()):  # a group, as anyio raises them
            error = inner[0]
        words = str(error) or type(error).__name__
        place = self._transport.label
        return MCPConnectionError(
            f"the MCP server {place} cannot be used: {words}{self.format_log()}"
        )


def _is_connection_closed(error: Exception) -> bool:
    closed: int = import_optional("mcp_types").CONNECTION_CLOSED
    return getattr(error, "code", None) == closed


def _get_loop() -> asyncio.AbstractEventLoop:
    return get_background_loop("agentcall mcp")
