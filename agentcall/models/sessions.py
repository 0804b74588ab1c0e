"""One aiohttp session an event loop, for all servers; closed when its loop shuts down.

A session cannot be shared between loops, and nobody is there to close it. So an async generator
holds it: `asyncio.run`, pytest-asyncio and `run_sync` close these at their loop's end. A loop that
was closed without that (`run_until_complete`, then `close`) is noticed when the next session is
made, or when the interpreter ends.
"""

from __future__ import annotations

import asyncio
import atexit
from collections.abc import AsyncGenerator
from dataclasses import dataclass

import aiohttp

_KEPT_ALIVE = 4.0
"""Seconds: uvicorn, under LMDeploy and vLLM, closes an idle connection after five."""


@dataclass(frozen=True, slots=True)
class _Held:
    session: aiohttp.ClientSession
    holder: AsyncGenerator[None, None]


_held: dict[asyncio.AbstractEventLoop, _Held] = {}


async def shared_session() -> aiohttp.ClientSession:
    """The session of the running event loop."""
    loop = asyncio.get_running_loop()
    held = _held.get(loop)
    if held is None or held.session.closed:
        _drop_dead()
        session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                limit=_connections(), ttl_dns_cache=300, keepalive_timeout=_KEPT_ALIVE
            ),
            cookie_jar=aiohttp.DummyCookieJar(),
            read_bufsize=2**18,
        )
        held = _held[loop] = _Held(session, _holding(session, loop))
        await held.holder.__anext__()
    return held.session


async def _holding(
    session: aiohttp.ClientSession, loop: asyncio.AbstractEventLoop
) -> AsyncGenerator[None, None]:
    """Holds a session open until the loop closes its async generators, as it does at its end."""
    try:
        yield
    finally:
        _held.pop(loop, None)
        await session.close()


def _connections() -> int:
    """How many connections we open at most: three quarters of the files we may have open."""
    try:
        from resource import RLIM_INFINITY, RLIMIT_NOFILE, getrlimit
    except ImportError:  # Windows has no such limit
        return 0
    files = getrlimit(RLIMIT_NOFILE)[0]
    return 0 if files == RLIM_INFINITY else max(64, files * 3 // 4)


def _drop_dead() -> None:
    """Lets go of the sessions whose loop was closed under them."""
    for loop in list(_held):
        if loop.is_closed():
            session = _held.pop(loop).session
            connector = session.connector
            session.detach()
            if connector is not None:
                # Nothing can be awaited any more; the first step is all that needs no loop.
                next(connector.close().__await__(), None)


@atexit.register
def _close_rest() -> None:
    """Closes the sessions of loops that nobody closed."""
    for loop, held in list(_held.items()):
        if not loop.is_running() and not loop.is_closed():
            loop.run_until_complete(held.holder.aclose())
    _drop_dead()
