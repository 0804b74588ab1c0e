"""A connection to an MCP server, opened when it is first needed, and reopened when it has ended.

Rules:
1. It lives in a background event loop, in one task that opens and closes it, as the mcp package
   requires. So it serves sync code, any event loop, and many runs at once.
2. Opening, each request and closing have time limits. An error names the server, the request and
   the limit.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import Future
from contextlib import suppress
from time import monotonic
from typing import Any, TypeVar, cast

from agentcall.errors import AgentCallError, ToolError
from agentcall.mcp.transport import MCPTransport, ServerLog, import_optional
from agentcall.runtime.runner import get_background_loop

_PING_TIMEOUT = 5.0
_IDLE_SECONDS = 1.0
"""Seconds of idleness after which a command is pinged before its next call."""
_MAX_LISTENS, _LISTEN_PAUSE = 100, 5.0
"""How often changes are listened to anew when a server has ended that, after how many seconds."""
_CLOSE_SECONDS = 10.0
"""The time limit for closing; a command is killed before that."""
CALL, INITIALIZE, LIST_TOOLS = "tools/call", "initialize", "tools/list"

Client = Any  # Any: a type of the mcp package, which is imported when first needed
T = TypeVar("T")


class MCPConnectionError(ToolError):
    """The server cannot be started or reached, or does not answer; includes its last output."""


class ConnectionReplaced(MCPConnectionError):
    """The connection was closed while a call waited for its turn: nothing was sent."""


class MCPConnection:
    """A connection to one server, which runs operations on an open client.

    start_timeout: seconds that the server has to start and answer `initialize`.
    client_options: returns keyword arguments of the client, such as what answers the server; and
        `modes`, ways to negotiate the protocol: the first that works is taken.
    """

    def __init__(
        self,
        transport: MCPTransport,
        start_timeout: float,
        client_options: Callable[[], dict[str, Any]],
    ) -> None:
        self.transport = transport
        self._start_timeout = start_timeout
        self._client_options = client_options
        self._session: _MCPSession | None = None
        self._last_used = 0.0
        self._close_tasks: set[asyncio.Future[None]] = set()

    def submit(
        self, operation: Callable[[Client], Awaitable[T]], method: str, timeout: float | None
    ) -> Future[T]:
        """Run an operation in the background loop; return the future of its result.

        The future raises `MCPConnectionError`, also after `timeout` seconds.

        method: the request's name in the protocol, for messages.
        """
        return asyncio.run_coroutine_threadsafe(self._run(operation, method, timeout), _get_loop())

    def close(self) -> Future[None]:
        """Close the connection, and end the server if it was started for it."""
        return asyncio.run_coroutine_threadsafe(self._close(), _get_loop())

    async def _run(
        self, operation: Callable[[Client], Awaitable[T]], method: str, timeout: float | None
    ) -> T:
        session, client = await self._wait_for(self._open_client(), INITIALIZE, self._start_timeout)
        try:
            return await self._wait_for(operation(client), method, timeout)
        except Exception as error:  # the mcp package raises errors of many types
            if method == LIST_TOOLS or _is_connection_closed(error):  # reconnect for the next one
                self.close_soon()
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
            self.close_soon()
        raise MCPConnectionError(
            f"the MCP server {self.transport.label} did not answer {method} within {timeout:g} "
            f"seconds{log}"
        )

    async def _get_session(self) -> _MCPSession:
        """Return a session that is open, or opening."""
        session = self._session
        if session is not None and not session.has_ended and await self._is_responsive(session):
            return session
        if self._session is None or self._session is session:  # not reopened meanwhile
            self._session = _MCPSession(self.transport, self._client_options)
        return self._session

    async def _is_responsive(self, session: _MCPSession) -> bool:
        """Return whether a command that was idle still answers."""
        if self.transport.url or monotonic() - self._last_used < _IDLE_SECONDS:
            return True
        client = await session.client()
        try:
            types = import_optional("mcp_types")
            ping = client.session.send_request(types.PingRequest(), types.EmptyResult)
            await asyncio.wait_for(ping, _PING_TIMEOUT)
        except Exception as error:  # any answer will do: newer servers have no ping
            if _is_connection_closed(error):
                await session.close()
                return False
        return True

    def _translate_error(self, error: Exception, method: str, log: str) -> AgentCallError:
        server = f"the MCP server {self.transport.label}"
        if isinstance(error, AgentCallError):
            return error
        if _is_connection_closed(error):
            is_call = method == CALL
            advice = "whether the call was carried out is not known" if is_call else "try again"
            return MCPConnectionError(f"{server} ended during {method}; {advice}{log}")
        message = str(error).strip().replace("\n", " ")[:300] or type(error).__name__
        if isinstance(error, import_optional("mcp").MCPError):
            return MCPConnectionError(f"{server} refused {method}: {message}{_hint(error)}")
        return MCPConnectionError(f"the answer of {server} to {method} cannot be read: {message}")

    def is_current(self, client: Client) -> bool:
        """Whether the next request goes to this client."""
        return self._session is not None and self._session.has_client(client)

    def close_soon(self) -> None:
        """Close the connection in a background task; the next request opens another one."""
        session, self._session = self._session, None
        if session is None:
            return
        task = asyncio.ensure_future(session.close())
        self._close_tasks.add(task)
        task.add_done_callback(self._close_tasks.discard)

    async def _close(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            await session.close()


class _MCPSession:
    """One session with the server, which a task opens and closes."""

    def __init__(
        self, transport: MCPTransport, client_options: Callable[[], dict[str, Any]]
    ) -> None:
        self._transport = transport
        self._client_options = client_options
        self._log = ServerLog()
        self._stop = asyncio.Event()
        self._ready: asyncio.Future[Client] = asyncio.get_running_loop().create_future()
        self._task = asyncio.ensure_future(self._run())

    @property
    def has_ended(self) -> bool:
        return self._task.done()

    def has_client(self, client: Client) -> bool:
        """Whether this is the open client."""
        return self._ready.done() and not self._ready.exception() and self._ready.result() is client

    async def client(self) -> Client:
        """Wait for the open client. Raise MCPConnectionError if it cannot be opened."""
        await asyncio.wait({self._ready, self._task}, return_when=asyncio.FIRST_COMPLETED)
        if self._ready.done():
            return self._ready.result()
        raise MCPConnectionError(
            f"the MCP server {self._transport.label} was closed{self.format_log()}"
        )

    async def close(self) -> None:
        self._stop.set()
        if not self._ready.done():
            self._task.cancel()
        with suppress(asyncio.CancelledError):
            await asyncio.wait({self._task}, timeout=_CLOSE_SECONDS)
            if not self._task.done():  # an HTTP server that does not answer
                self._task.cancel()
                await asyncio.wait({self._task}, timeout=_CLOSE_SECONDS)

    def format_log(self) -> str:
        """Return the last output of a command to its standard error, to append to a message."""
        text = self._log.tail.strip()
        return f"; it wrote:\n{text}" if text else ""

    async def _run(self) -> None:
        try:
            await self._keep_open()
        except Exception as error:  # a server or its transport may fail in any way
            if not self._ready.done():
                self._ready.set_exception(self._make_unreachable_error(error))

    async def _keep_open(self) -> None:
        mcp, options = import_optional("mcp"), self._client_options()
        for mode in options.pop("modes"):
            try:
                transport = self._transport.open(self._log)
                async with mcp.Client(transport, mode=mode, **options) as client:
                    self._ready.set_result(client)
                    listener = asyncio.ensure_future(_listen(client))
                    try:
                        await self._stop.wait()
                    finally:
                        listener.cancel()
                        await asyncio.gather(listener, return_exceptions=True)
                    return
            except mcp.MCPError as error:
                if self._ready.done() or mode == "auto" or _is_connection_closed(error):
                    raise

    def _make_unreachable_error(self, error: BaseException) -> MCPConnectionError:
        while inner := getattr(error, "exceptions", ()):  # anyio raises exception groups
            error = inner[0]
        message = str(error) or type(error).__name__
        return MCPConnectionError(
            f"the MCP server {self._transport.label} cannot be used: {message}{self.format_log()}"
        )


async def _listen(client: Client) -> None:
    """Ask a server of the newest protocol to report changes, which older ones do unasked."""
    modern = import_optional("mcp_types.version").MODERN_PROTOCOL_VERSIONS
    tools = client.server_capabilities.tools
    if client.protocol_version not in modern or tools is None or not tools.list_changed:
        return
    for _ in range(_MAX_LISTENS):
        with suppress(Exception):  # the mcp package raises errors of many types
            async with client.listen(tools_list_changed=True) as changes:
                async for _change in changes:  # the client's message handler gets them, too
                    pass
        await asyncio.sleep(_LISTEN_PAUSE)


def _is_connection_closed(error: Exception) -> bool:
    closed: int = import_optional("mcp_types").CONNECTION_CLOSED
    return getattr(error, "code", None) == closed


def _hint(error: Any) -> str:  # Any: a type of the mcp package
    """Return what to do about an error that our side has caused, or the user has to act on."""
    if error.code == import_optional("mcp_types").URL_ELICITATION_REQUIRED:
        data = cast("Mapping[str, Any]", error.error.data or {})
        urls = [str(item.get("url"))[:500] for item in data.get("elicitations", ())]
        return f"; the user has to visit {', '.join(urls[:5])} first" if urls else ""
    message = str(error)
    if "Sampling not supported" in message or "'sampling/createMessage'" in message:
        return "; it asks a model, which MCPTools(sampling=) allows"
    if "'elicitation/create'" in message:
        return "; it asks the user, which MCPTools(on_elicit=) allows"
    return ""


def _get_loop() -> asyncio.AbstractEventLoop:
    return get_background_loop("agentcall mcp")
