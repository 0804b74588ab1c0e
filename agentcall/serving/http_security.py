"""ASGI middleware that checks the host, origin, body and API key of each request.

Rules (from the MCP specification and OWASP, for servers on a loopback address, which any page in
the user's browser can send requests to):
1. A request that repeats a header which must be unique is refused with 400, as two parsers could
   each believe another value.
2. A Host that isn't ours is refused with 403: it is a page whose DNS name was rebound to this
   machine.
3. A page may send requests only to the server that it came from, port included, unless it is one
   of `origins`; others are refused with 403. A browser names the page in Origin, or says that it
   is another one in Sec-Fetch-Site.
4. A body of more than `limit` bytes is refused with 413, whether or not its length was declared,
   and one of a wrong type or with a content coding with 415. The rest of it is read and discarded
   within limits, so that the client can read the refusal.
5. A JSON body of more than `depth` levels or `values` values is refused with 400 before it is
   parsed.
6. If there are keys, a request without one is refused with 401. It is sent as `Authorization:
   Bearer KEY`. An address that other machines can reach must have keys.

Parsing JSON is fast, but handling a million values or ten thousand levels is not. So depth and
values are counted while a body arrives, without parsing it, and it is refused at the first chunk
that exceeds a limit.
"""

from __future__ import annotations

import asyncio
import hmac
import re
import secrets
from collections.abc import Awaitable, Callable, Iterable, Mapping, MutableMapping
from dataclasses import dataclass, field
from time import monotonic
from typing import Any, TypeAlias
from urllib.parse import urlsplit

import orjson

from agentcall.errors import UsageError

_BRACKETS = b"[]{}"
_NOT_BRACKETS = bytes(code for code in range(256) if code not in _BRACKETS)


class JSONLimits:
    """Counts the levels and values of one JSON text."""

    def __init__(self, *, depth: int, values: int) -> None:
        self._depth = depth
        self._values = values
        self._level = self._deepest = 0
        self._quotes = self._commas = self._brackets = 0
        self._is_string = False
        self._escape = b""

    def find_excess(self, chunk: bytes) -> str:
        """Return which limit the text exceeds with this chunk, or "".

        The count of a text that isn't JSON has no meaning; its parser will refuse it.
        """
        if b"\0" in chunk:
            return "the body is not JSON in UTF-8: it has a byte 0"
        plain = (self._escape + chunk).replace(b"\\\\", b"").replace(b'\\"', b"")
        self._escape = (
            b"\\" if plain.endswith(b"\\") else b""
        )  # the escaped byte is in the next chunk
        parts = plain.split(b'"')
        outside = b"".join(parts[self._is_string :: 2])
        self._is_string ^= len(parts) % 2 == 0
        brackets = outside.translate(None, _NOT_BRACKETS)
        self._quotes += len(parts) - 1
        self._commas += outside.count(b",")
        self._brackets += len(brackets)
        # A value ends at a comma or a closing bracket. Four quotes are a name and a string.
        if self._commas + self._brackets // 2 > self._values or self._quotes > 4 * self._values:
            return f"the body has more than {self._values:,} values"
        for bracket in brackets:
            self._level += 1 if bracket in b"[{" else -1
            self._deepest = max(self._deepest, self._level)
        is_too_deep = self._deepest > self._depth
        return f"the body is more than {self._depth} levels deep" if is_too_deep else ""


LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})
DEFAULT_BODY_LIMIT = 10 * 2**20
_SINGLE_HEADERS = frozenset(
    {
        *(b"host", b"origin", b"authorization", b"content-length", b"content-type"),
        *(b"content-encoding", b"sec-fetch-site", b"sec-fetch-mode"),
    }
)
_HOST_HEADER = re.compile(r"(?P<name>[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(?::\d{1,5})?")
_MAX_LENGTH_DIGITS = 18
_LINGER_BYTES, _LINGER_SECONDS, _LINGER_PAUSE = 2**28, 30.0, 2.0
"""How much of a refused body is read, for how long, and the longest pause in it."""
USER_SCOPE_KEY = "agentcall.user"
"""The key in an ASGI scope under which the user of the request's API key is found."""

# The types of the ASGI specification (asgi.readthedocs.io).
Scope: TypeAlias = MutableMapping[str, Any]
ASGIMessage: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[ASGIMessage]]
Send: TypeAlias = Callable[[ASGIMessage], Awaitable[None]]
ASGIApp: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class AccessPolicy:
    """Which requests are accepted.

    hosts: the names of this server, without ports; "*" for any.
    keys: API keys, each with the name of its user. A request must carry one, unless there are none.
    limit: the largest body in bytes.
    open_paths: paths that need no key, such as a health check.
    origins: other origins whose pages may send requests, such as "https://chat.example".
    pages: paths that a link on a page of another origin may open.
    types: the accepted content types of a body; any if empty. A page of another origin can send
        the types of a form without a CORS preflight, but not JSON.
    depth, values: the deepest nesting and the largest number of values of a JSON body.
    """

    hosts: frozenset[str] = LOOPBACK
    keys: Mapping[str, str] = field(default_factory=dict[str, str], repr=False)
    limit: int = DEFAULT_BODY_LIMIT
    open_paths: frozenset[str] = frozenset()
    origins: frozenset[str] = frozenset()
    pages: frozenset[str] = frozenset()
    types: frozenset[str] = frozenset()
    depth: int = 64
    values: int = 100_000


def build_access_policy(
    address: str, keys: Mapping[str, str], origins: Iterable[str] = ()
) -> AccessPolicy:
    """Return the policy of a server that listens at an address.

    An address that other machines can reach accepts any host name and needs a key.

    Raises:
        UsageError: if such an address has no key, or an origin cannot be parsed.
    """
    allowed_origins = frozenset(map(_parse_origin, origins))
    if address in LOOPBACK:
        return AccessPolicy(keys=keys, origins=allowed_origins)
    if not keys:
        raise UsageError(
            f"{address} can be reached from other machines: set a key, or listen at 127.0.0.1"
        )
    return AccessPolicy(frozenset({"*"}), keys, origins=allowed_origins)


def _parse_origin(text: str) -> str:
    """Return an origin as browsers write it. Raise UsageError if it isn't one."""
    url = urlsplit(text)
    if url.scheme not in ("http", "https") or not url.netloc or url.path not in ("", "/"):
        raise UsageError(
            f"the origin {text!r} is not a scheme, a name and a port; write it as "
            "https://chat.example or http://localhost:3000"
        )
    return f"{url.scheme}://{url.netloc}".lower()


def generate_key() -> str:
    """Return a random API key."""
    return secrets.token_urlsafe(24)


class SecurityMiddleware:
    """Passes the requests that an `AccessPolicy` accepts to an ASGI application."""

    def __init__(self, app: ASGIApp, access: AccessPolicy) -> None:
        self._app = app
        self._access = access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        refusal = self._find_refusal(scope)
        if refusal is not None:
            await _send_refusal(scope, receive, send, *refusal)
            return
        if scope["type"] == "websocket":
            await self._app(scope, receive, send)
        elif _is_form(scope):
            await _FormLimiter(scope, receive, send, self._access.limit).run(self._app)
        elif (body := await self._read_body(scope, receive, send)) is not None:
            await self._app(scope, _replay_body(body, receive), send)

    async def _read_body(self, scope: Scope, receive: Receive, send: Send) -> bytes | None:
        """Return the whole body, or None if it was refused or the client disconnected."""
        access, chunks, received = self._access, list[bytes](), 0
        limits = JSONLimits(depth=access.depth, values=access.values)
        more = True
        while more:
            message = await receive()
            if message["type"] != "http.request":
                return None
            chunk, more = message.get("body") or b"", message.get("more_body", False)
            received += len(chunk)
            if received > access.limit:
                reason = _format_too_large(access.limit)
                await _send_refusal(scope, receive if more else None, send, 413, reason)
                return None
            if problem := limits.find_excess(chunk):
                await _send_refusal(scope, receive if more else None, send, 400, problem)
                return None
            chunks.append(chunk)
        return b"".join(chunks)

    def _find_refusal(self, scope: Scope) -> tuple[int, str] | None:
        names = [name.lower() for name, _ in scope["headers"] if name.lower() in _SINGLE_HEADERS]
        if len(names) != len(set(names)):
            return 400, "a header that must be unique is repeated"
        headers = {name.lower(): value for name, value in scope["headers"]}
        return (
            self._check_host(headers)
            or self._check_origin(scope, headers)
            or self._check_body(headers)
            or self._check_key(scope, headers)
        )

    def _check_host(self, headers: Mapping[bytes, bytes]) -> tuple[int, str] | None:
        host = headers.get(b"host", b"").decode("latin-1")
        match = _HOST_HEADER.fullmatch(host)
        name = match["name"].strip("[]").lower() if match else ""
        if name and ("*" in self._access.hosts or name in self._access.hosts):
            return None
        return 403, f"this server is not called {host!r:.100}"

    def _check_origin(self, scope: Scope, headers: Mapping[bytes, bytes]) -> tuple[int, str] | None:
        """Refuse requests by pages of another origin, except a link to one of `pages`."""
        origin = headers.get(b"origin", b"").decode("latin-1")
        if origin.lower() in self._access.origins:
            return None
        if b"origin" in headers and not _is_same_origin(origin, headers.get(b"host", b"")):
            return 403, f"pages of {origin!r:.100} may not send requests to this server"
        site = headers.get(b"sec-fetch-site", b"none")
        opens = headers.get(b"sec-fetch-mode") == b"navigate" and scope.get("method") == "GET"
        if site in (b"same-origin", b"none") or (opens and scope.get("path") in self._access.pages):
            return None
        return 403, "pages of another origin may not send requests to this server"

    def _check_body(self, headers: Mapping[bytes, bytes]) -> tuple[int, str] | None:
        length = headers.get(b"content-length", b"0")
        if length.isdigit() and (
            len(length) > _MAX_LENGTH_DIGITS or int(length) > self._access.limit
        ):
            return 413, _format_too_large(self._access.limit)
        coding = headers.get(b"content-encoding", b"identity").decode("latin-1")
        if coding.strip().lower() not in ("identity", ""):
            return 415, f"the body has the content encoding {coding!r:.40}; send it unencoded"
        kind = headers.get(b"content-type", b"").partition(b";")[0].strip().lower()
        content_type = kind.decode("latin-1")
        if content_type and self._access.types and content_type not in self._access.types:
            return (
                415,
                f"the body is {content_type!r:.60}; send {' or '.join(sorted(self._access.types))}",
            )
        return None

    def _check_key(self, scope: Scope, headers: Mapping[bytes, bytes]) -> tuple[int, str] | None:
        """Refuse a request without a valid key, if one is needed; record the key's user."""
        if not self._access.keys or scope.get("path") in self._access.open_paths:
            return None
        scheme, _, credential = headers.get(b"authorization", b"").partition(b" ")
        for key, user in self._access.keys.items():
            expected = key.encode("utf-8", "surrogateescape")
            if scheme.lower() == b"bearer" and hmac.compare_digest(credential.strip(), expected):
                scope[USER_SCOPE_KEY] = user
                return None
        return 401, "a key is needed: Authorization: Bearer KEY"


def _is_same_origin(origin: str, host: bytes) -> bool:
    """Whether a page comes from this server; schemes differ if a proxy has terminated TLS."""
    try:
        return urlsplit(origin).netloc.lower().encode("latin-1") == host.lower()
    except ValueError:
        return False


def _replay_body(body: bytes, receive: Receive) -> Receive:
    """Return a `receive` that yields the body first, then the messages after it."""
    first: list[ASGIMessage] = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive_next() -> ASGIMessage:
        return first.pop() if first else await receive()

    return receive_next


class _FormLimiter:
    """Streams a form to the application; over the limit, refuses it and ends the request."""

    def __init__(self, scope: Scope, receive: Receive, send: Send, limit: int) -> None:
        self._scope = scope
        self._receive = receive
        self._send = send
        self._limit = limit
        self._received_bytes = 0
        self._has_answered = False
        self._is_over = False

    async def run(self, app: ASGIApp) -> None:
        """Run the application."""
        try:
            await app(self._scope, self.receive, self.send)
        except Exception:
            if not self._is_over:  # an application may fail when its request is cut off
                raise

    async def receive(self) -> ASGIMessage:
        """Return the next message; a disconnect if the form is too large."""
        message = await self._receive()
        if message["type"] != "http.request":
            self._is_over = self._is_over or not self._has_answered
            return message
        self._received_bytes += len(message.get("body") or b"")
        if self._received_bytes <= self._limit:
            return message
        if not (self._is_over or self._has_answered):
            self._is_over = True
            rest = self._receive if message.get("more_body", False) else None
            reason = _format_too_large(self._limit)
            await _send_refusal(self._scope, rest, self._send, 413, reason)
        return {"type": "http.disconnect"}

    async def send(self, message: ASGIMessage) -> None:
        """Send a message of the application, unless the request has ended."""
        if not self._is_over:
            self._has_answered = True
            await self._send(message)


def _is_form(scope: Scope) -> bool:
    types = [value for name, value in scope["headers"] if name.lower() == b"content-type"]
    return any(value.strip().lower().startswith(b"multipart/form-data") for value in types)


def _format_too_large(limit: int) -> str:
    return f"the body is larger than {limit:,} bytes"


async def _send_refusal(
    scope: Scope, receive: Receive | None, send: Send, status: int, message: str
) -> None:
    """Refuse a request, and read the rest of its body if `receive` is given."""
    if scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": 1008, "reason": message})
        return
    body = orjson.dumps({"error": {"message": message, "type": "refused", "code": status}})
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
        (b"connection", b"close"),
    ]
    if status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": True})
    # The end of the response closes the connection. With unread data that resets it, and the client
    # loses the response that it has not read yet. nginx lingers in the same way.
    if receive is not None:
        await _discard_body(scope, receive)
    await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _discard_body(scope: Scope, receive: Receive) -> None:
    """Read the rest of a body until its end or until a limit; return if the client is gone."""
    if any(name.lower() == b"expect" for name, _ in scope["headers"]):
        return  # the client waits for `100 Continue` and sends nothing without it
    received, end = 0, monotonic() + _LINGER_SECONDS
    while received < _LINGER_BYTES:
        seconds = min(_LINGER_PAUSE, end - monotonic())
        try:
            message = await asyncio.wait_for(receive(), seconds)
        except asyncio.TimeoutError:
            return
        if message["type"] != "http.request" or not message.get("more_body", False):
            return
        received += len(message.get("body") or b"")
