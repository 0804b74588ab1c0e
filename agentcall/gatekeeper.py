"""Who may ask a server of ours: an ASGI application that lets through what it should.

Rules (those of MCP's and OWASP's guidance for servers on a loopback address, where any page in the
user's browser can send requests):
1. A Host that is not ours is refused with 403: a page whose name was rebound to this machine.
2. An Origin that is not ours is refused with 403: a page of somebody else.
3. Where there is a token, a request without it is refused with 401. It travels as `Authorization:
   Bearer TOKEN`; a wide-open address has to have one.
4. A body of more than `limit` bytes is refused with 413, whether its length was told or not.
"""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from dataclasses import dataclass
from typing import Any, TypeAlias
from urllib.parse import urlsplit

import orjson

from agentcall.errors import UsageError

LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})
BODY = 10 * 2**20

# The types of the ASGI specification (asgi.readthedocs.io).
Scope: TypeAlias = MutableMapping[str, Any]
Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
App: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Terms:
    """On which terms requests are taken.

    hosts: the names, without ports, by which this server is called; "*" for any.
    token: what a request has to bring, or nothing.
    limit: bytes of a body.
    open_paths: those that need no token, such as a health check.
    """

    hosts: frozenset[str] = LOOPBACK
    token: str = ""
    limit: int = BODY
    open_paths: frozenset[str] = frozenset()


def terms_for(address: str, *, token: str | None, hosts: frozenset[str] = frozenset()) -> Terms:
    """The terms of a server that listens at an address.

    Beyond this machine it needs a token, and is called by any name unless `hosts` says by which.
    Raises UsageError.
    """
    if address in LOOPBACK:
        return Terms(LOOPBACK | hosts, token or "")
    if not token:
        raise UsageError(
            f"{address} can be reached from other machines: set a token, or listen at 127.0.0.1"
        )
    return Terms(hosts or frozenset({"*"}), token)


def new_token() -> str:
    """A token that nobody can guess."""
    return secrets.token_urlsafe(24)


class Gatekeeper:
    """Lets requests through to an ASGI application on the terms above."""

    def __init__(self, app: App, terms: Terms) -> None:
        self._app = app
        self._terms = terms

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        refusal = self._refusal(scope)
        if refusal is not None:
            await _refused(scope, send, *refusal)
            return
        meter = _Meter(receive, send, self._terms.limit)
        try:
            await self._app(scope, meter.receive, meter.send)
        except _TooLarge:
            if not meter.has_answered:
                await _refused(scope, send, 413, _large(self._terms.limit))

    def _refusal(self, scope: Scope) -> tuple[int, str] | None:
        headers = {key.decode("latin-1").lower(): value for key, value in scope["headers"]}
        host = headers.get("host", b"").decode("latin-1")
        if not self._is_ours(f"//{host}"):
            return 403, f"this server is not called {host!r}"
        origin = headers.get("origin", b"").decode("latin-1")
        if origin and not self._is_ours(origin):
            return 403, f"pages of {origin!r} may not ask this server"
        if not self._is_known(scope, headers):
            return 401, "a token is needed: Authorization: Bearer TOKEN"
        length = headers.get("content-length", b"0")
        if length.isdigit() and int(length) > self._terms.limit:
            return 413, _large(self._terms.limit)
        return None

    def _is_ours(self, url: str) -> bool:
        try:
            name = urlsplit(url).hostname
        except ValueError:
            return False
        return name is not None and ("*" in self._terms.hosts or name in self._terms.hosts)

    def _is_known(self, scope: Scope, headers: Mapping[str, bytes]) -> bool:
        if not self._terms.token or scope.get("path") in self._terms.open_paths:
            return True
        kind, _, given = headers.get("authorization", b"").partition(b" ")
        is_right = hmac.compare_digest(given.strip(), self._terms.token.encode())
        return kind.lower() == b"bearer" and is_right


class _TooLarge(Exception):
    pass


class _Meter:
    """Counts what comes in, and knows whether an answer has begun."""

    def __init__(self, receive: Receive, send: Send, limit: int) -> None:
        self._receive = receive
        self._send = send
        self._left = limit
        self.has_answered = False

    async def receive(self) -> Message:
        message = await self._receive()
        self._left -= len(message.get("body") or b"")
        if self._left < 0:
            raise _TooLarge
        return message

    async def send(self, message: Message) -> None:
        self.has_answered = True
        await self._send(message)


def _large(limit: int) -> str:
    return f"the body is larger than {limit:,} bytes"


async def _refused(scope: Scope, send: Send, status: int, words: str) -> None:
    if scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": 1008, "reason": words})
        return
    body = orjson.dumps({"error": {"message": words, "type": "refused", "code": status}})
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
        (b"connection", b"close"),
    ]
    if status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
