"""HTTP servers of a test's own on loopback."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from aiohttp import web

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Site:
    """A server on one loopback address that answers every path by one handler."""

    def __init__(self, address: str, port: int) -> None:
        self.address = address
        self.port = port
        self.requests: list[web.Request] = []

    def url(self, path: str = "/") -> str:
        return f"http://{self.address}:{self.port}{path}"


@asynccontextmanager
async def serving(
    handler: Handler, address: str = "127.0.0.1", tls: ssl.SSLContext | None = None
) -> AsyncIterator[Site]:
    site = Site(address, 0)

    async def answer(request: web.Request) -> web.StreamResponse:
        site.requests.append(request)
        return await handler(request)

    app = web.Application()
    app.router.add_get("/{path:.*}", answer)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, address, 0, ssl_context=tls).start()
    site.port = runner.addresses[0][1]
    try:
        yield site
    finally:
        await runner.cleanup()


def saying(text: str | bytes, content_type: str = "text/plain", **headers: str) -> Handler:
    async def handler(request: web.Request) -> web.StreamResponse:
        body = text.encode() if isinstance(text, str) else text
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return web.Response(body=body, headers={"Content-Type": content_type, **named})

    return handler
