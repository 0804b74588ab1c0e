"""Who may ask a server of ours: an ASGI application that lets through what it should.

Rules (those of MCP's and OWASP's guidance for servers on a loopback address, where any page in the
user's browser can send requests):
1. A Host that is not ours is refused with 403: a page whose name was rebound to this machine.
2. An Origin that is not ours is refused with 403: a page of somebody else.
3. Where there are keys, a request without one is refused with 401. It travels as `Authorization:
   Bearer KEY`; an address that other machines reach has to have one.
4. A body of more than `limit` bytes is refused with 413, whether its length was told or not.
"""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias
from urllib.parse import urlsplit

import orjson

from agentcall.errors import UsageError

LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})
BODY = 10 * 2**20
USER = "agentcall.user"
"""Where in an ASGI scope stands whose key a request brought."""

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
    keys: one of which a request has to bring, each with the name of whom it was given to; none
        where everybody on this machine may ask.
    limit: bytes of a body.
    open_paths: those that need no key, such as a health check.
    """

    hosts: frozenset[str] = LOOPBACK
    keys: Mapping[str, str] = field(default_factory=dict[str, str], repr=False)
    limit: int = BODY
    open_paths: frozenset[str] = frozenset()


def terms_for(address: str, keys: Mapping[str, str]) -> Terms:
    """The terms of a server that listens at an address.

    Beyond this machine it needs a key, and may be called by any name. Raises UsageError.
    """
    if address in LOOPBACK:
        return Terms(keys=keys)
    if not keys:
        raise UsageError(
            f"{address} can be reached from other machines: set a key, or listen at 127.0.0.1"
        )
    return Terms(frozenset({"*"}), keys)


def new_key() -> str:
    """A key that nobody can guess."""
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
        meter = _Meter(scope, receive, send, self._terms.limit)
        try:
            await self._app(scope, meter.receive, meter.send)
        except Exception:
            if not meter.is_over:  # else it is only that the application could not go on
                raise

    def _refusal(self, scope: Scope) -> tuple[int, str] | None:
        headers = {key.decode("latin-1").lower(): value for key, value in scope["headers"]}
        host = headers.get("host", b"").decode("latin-1")
        if not self._is_ours(f"//{host}"):
            return 403, f"this server is not called {host!r}"
        origin = headers.get("origin", b"").decode("latin-1")
        if origin and not self._is_ours(origin):
            return 403, f"pages of {origin!r} may not ask this server"
        if not self._is_known(scope, headers):
            return 401, "a key is needed: Authorization: Bearer KEY"
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
        """Whether a request brings a key, where it has to; puts down whose it is."""
        if not self._terms.keys or scope.get("path") in self._terms.open_paths:
            return True
        kind, _, given = headers.get("authorization", b"").partition(b" ")
        for key, user in self._terms.keys.items():
            if kind.lower() == b"bearer" and hmac.compare_digest(given.strip(), key.encode()):
                scope[USER] = user
                return True
        return False


class _Meter:
    """Counts what comes in; when that is over the limit it answers itself and ends the request."""

    def __init__(self, scope: Scope, receive: Receive, send: Send, limit: int) -> None:
        self._scope = scope
        self._receive = receive
        self._send = send
        self._limit = limit
        self._came = 0
        self._has_answered = False
        self.is_over = False

    async def receive(self) -> Message:
        message = await self._receive()
        self._came += len(message.get("body") or b"")
        if self._came <= self._limit:
            return message
        if not (self.is_over or self._has_answered):
            self.is_over = True
            await _refused(self._scope, self._send, 413, _large(self._limit))
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        if not self.is_over:
            self._has_answered = True
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
