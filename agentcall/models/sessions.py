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

_KEEPALIVE_SECONDS = 4.0
"""Seconds: uvicorn, under LMDeploy and vLLM, closes an idle connection after five."""


@dataclass(frozen=True, slots=True)
class _PooledSession:
    session: aiohttp.ClientSession
    closer: AsyncGenerator[None, None]


_sessions: dict[asyncio.AbstractEventLoop, _PooledSession] = {}


async def get_shared_session() -> aiohttp.ClientSession:
    """The session of the running event loop."""
    loop = asyncio.get_running_loop()
    pooled = _sessions.get(loop)
    if pooled is None or pooled.session.closed:
        _drop_orphans()
        session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                limit=_get_connection_limit(),
                ttl_dns_cache=300,
                keepalive_timeout=_KEEPALIVE_SECONDS,
            ),
            cookie_jar=aiohttp.DummyCookieJar(),
            read_bufsize=2**18,
        )
        pooled = _sessions[loop] = _PooledSession(session, _close_with_loop(session, loop))
        await pooled.closer.__anext__()
    return pooled.session


async def _close_with_loop(
    session: aiohttp.ClientSession, loop: asyncio.AbstractEventLoop
) -> AsyncGenerator[None, None]:
    """Holds a session open until the loop closes its async generators, as it does at its end."""
    try:
        yield
    finally:
        _sessions.pop(loop, None)
        await session.close()


def _get_connection_limit() -> int:
    """How many connections we open at most: three quarters of the files we may have open."""
    try:
        from resource import RLIM_INFINITY, RLIMIT_NOFILE, getrlimit
    except ImportError:  # Windows has no such limit
        return 0
    files = getrlimit(RLIMIT_NOFILE)[0]
    return 0 if files == RLIM_INFINITY else max(64, files * 3 // 4)


def _drop_orphans() -> None:
    """Lets go of the sessions whose loop was closed under them."""
    for loop in list(_sessions):
        if loop.is_closed():
            session = _sessions.pop(loop).session
            connector = session.connector
            session.detach()
            if connector is not None:
                # Nothing can be awaited any more; the first step is all that needs no loop.
                next(connector.close().__await__(), None)


@atexit.register
def _close_remaining() -> None:
    """Closes the sessions of loops that nobody closed."""
    for loop, pooled in list(_sessions.items()):
        if not loop.is_running() and not loop.is_closed():
            loop.run_until_complete(pooled.closer.aclose())
    _drop_orphans()
