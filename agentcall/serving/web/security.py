"""The door of the page: what a browser needs beside a gatekeeper, around an ASGI application.

Rules (OWASP's for CSRF, CSP and session cookies; Jupyter's link for a key in a browser):
1. Where there is a key, a link `/?token=KEY` lets a browser in: it gets a cookie, and the key
   leaves the address at once. The cookie (HttpOnly, SameSite=Strict) is a word made of the key, not
   the key itself: cookies go to every port of a machine.
2. Only the page itself may ask, which the gatekeeper sees to; a link may lead to the page.
3. Nothing is loaded from elsewhere: a Content-Security-Policy forbids it, and runs no script but
   the page's own, which carry a number used once.
4. Only the paths that the page needs are answered.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import re
import secrets
from collections.abc import Mapping
from urllib.parse import parse_qs, quote

from agentcall.serving.http_security import (
    AccessPolicy,
    ASGIApp,
    ASGIMessage,
    Receive,
    Scope,
    SecurityMiddleware,
    Send,
)

_CONTENT_SECURITY_POLICY = (
    "default-src 'self'; script-src 'self' 'nonce-{nonce}'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; font-src 'self' data:; connect-src 'self'; object-src 'none'; "
    "base-uri 'self'; form-action 'self'; frame-ancestors 'none'"
)
_SECURITY_HEADERS = {
    b"referrer-policy": b"no-referrer",
    b"x-content-type-options": b"nosniff",
    b"cross-origin-opener-policy": b"same-origin",
    b"cross-origin-resource-policy": b"same-origin",
}
_ALLOWED_PATHS = re.compile(
    r"/|/(?:export|chat\.js|theme\.css|config|favicon\.ico|manifest\.json|pwa_icon)"
    r"|/(?:assets|static|svelte)/.*"
    r"|/gradio_api/(?:queue/join|queue/data|upload|upload_progress|cancel|reset|startup-events"
    r"|theme\.css|info|app_id|heartbeat/\w+|file=.*)/?"
)
_LOGIN_PAGE = b"""<!doctype html>
<html><head><meta charset="utf-8"><title>agentcall</title>
<meta name="viewport" content="width=device-width">
<style>body { font: 16px/1.5 system-ui, sans-serif; max-width: 26rem; margin: 20vh auto;
padding: 0 1rem } input, button { font: inherit; padding: .4rem .8rem }
@media (prefers-color-scheme: dark) { body { color: #ddd; background: #111 } }</style></head>
<body><h1>A key is needed</h1><p>It stands in the terminal where <code>agentcall web</code>
runs, or is known to whoever runs it.</p>
<form><input name="token" type="password" autocomplete="current-password" autofocus required>
<button>Enter</button></form></body></html>
"""


class WebSecurityMiddleware:
    """Lets browsers through to the application of a page on the terms of a gatekeeper."""

    def __init__(self, app: ASGIApp, access: AccessPolicy) -> None:
        self._app = app
        self._keys = tuple(access.keys)
        self._middleware = SecurityMiddleware(self._serve_authorized, access)
        self._ending = asyncio.Event()

    def end_streams(self) -> None:
        """From now on whoever waits for more of an answer has gone away: a page never does."""
        self._ending.set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._middleware(scope, receive, send)
            return
        key = self._find_key(scope)
        if key is not None:
            bearer = (b"authorization", f"Bearer {key}".encode("utf-8", "surrogateescape"))
            scope = {**scope, "headers": [*_drop_header(scope, b"authorization"), bearer]}
        if scope["method"] == "GET":
            receive = _end_on_event(self._ending, receive)
        response = _LoginResponse(scope, send)
        await self._middleware(scope, receive, response.send)
        if response.is_open:  # a stream that was ended
            await send({"type": "http.response.body", "body": b""})

    def _find_key(self, scope: Scope) -> str | None:
        """The key that the address or the cookie stands for; None where a header may."""
        if not self._keys:
            return None
        token = _read_token(scope)
        if token is not None:
            return token
        given = _read_cookie(scope)
        found = (key for key in self._keys if hmac.compare_digest(_sign_key(key).encode(), given))
        return next(found, None)

    async def _serve_authorized(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Beyond the gatekeeper: whoever asks has a right to."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        token = _read_token(scope)
        if not _ALLOWED_PATHS.fullmatch(scope["path"]):
            await _send_response(send, 404, b"there is nothing here\n")
        elif token is not None and self._keys:
            await _send_response(send, 303, b"", _build_login_headers(scope, token))
        elif scope["path"] == "/":
            plain = {**scope, "headers": _drop_header(scope, b"accept-encoding")}
            await self._app(plain, receive, _SecurePageResponse(send).send)
        else:
            await self._app(scope, receive, _SecureResponse(send).send)


class _SecureResponse:
    """Sends an answer with headers by which a browser holds it to the rules."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self.nonce = secrets.token_urlsafe(16)

    async def send(self, message: ASGIMessage) -> None:
        if message["type"] == "http.response.start":
            policy = _CONTENT_SECURITY_POLICY.format(nonce=self.nonce).encode()
            security_headers = [*_SECURITY_HEADERS.items(), (b"content-security-policy", policy)]
            message = {**message, "headers": [*message.get("headers", ()), *security_headers]}
        await self._send(message)


class _SecurePageResponse:
    """The same for the page, whose scripts get the number that the policy names."""

    def __init__(self, send: Send) -> None:
        self._response = _SecureResponse(send)
        self._start: ASGIMessage = {}
        self._body = b""

    async def send(self, message: ASGIMessage) -> None:
        if message["type"] == "http.response.start":
            self._start = message
            return
        self._body += message.get("body", b"")
        if message.get("more_body"):
            return
        # what Gradio writes into its page has no `<` in it but in tags
        script = f'<script nonce="{self._response.nonce}"'.encode()
        body = re.sub(rb"<script\b", script, self._body)
        length = (b"content-length", str(len(body)).encode())
        headers = [*_drop_header(self._start, b"content-length"), length]
        await self._response.send({**self._start, "headers": headers})
        await self._response.send({"type": "http.response.body", "body": body})


class _LoginResponse:
    """Sends an answer; a person who has no key is shown where to put it.

    is_open: whether more of the answer is to come.
    """

    def __init__(self, scope: Scope, send: Send) -> None:
        self._send = send
        self._is_person = "text/html" in _decode_headers(scope).get("accept", "")
        self._is_refused = False
        self.is_open = False

    async def send(self, message: ASGIMessage) -> None:
        self.is_open = message["type"] == "http.response.start" or bool(message.get("more_body"))
        if message["type"] == "http.response.start":
            self._is_refused = message["status"] == 401 and self._is_person
            if self._is_refused:
                policy = b"default-src 'none'; style-src 'unsafe-inline'; form-action 'self'"
                headers = {b"content-type": b"text/html; charset=utf-8", **_SECURITY_HEADERS}
                headers[b"content-security-policy"] = policy
                message = {**message, "headers": [*headers.items()]}
        elif self._is_refused:
            message = {**message, "body": _LOGIN_PAGE}
        await self._send(message)


def _end_on_event(ending: asyncio.Event, receive: Receive) -> Receive:
    async def receive_or_disconnect() -> ASGIMessage:
        coming, end = asyncio.ensure_future(receive()), asyncio.ensure_future(ending.wait())
        try:
            await asyncio.wait({coming, end}, return_when=asyncio.FIRST_COMPLETED)
            return coming.result() if coming.done() else {"type": "http.disconnect"}
        finally:
            coming.cancel()
            end.cancel()

    return receive_or_disconnect


def _build_login_headers(scope: Scope, token: str) -> list[tuple[bytes, bytes]]:
    """The headers that give a cookie for a key, and lead to the same page without it."""
    query = parse_qs(scope["query_string"].decode("latin-1"), keep_blank_values=True)
    rest = "&".join(
        f"{quote(name)}={quote(value)}"
        for name, values in query.items()
        for value in values
        if name != "token"
    )
    secure = "; Secure" if scope.get("scheme") == "https" else ""
    cookie = (
        f"{_get_cookie_name(scope)}={_sign_key(token)}; HttpOnly; SameSite=Strict; Path=/{secure}"
    )
    place = f"./?{rest}" if rest else "./"
    return [(b"location", place.encode()), (b"set-cookie", cookie.encode())]


def _sign_key(key: str) -> str:
    """What stands for a key in a cookie; the key cannot be found from it."""
    return hmac.new(key.encode("utf-8", "replace"), b"agentcall web", hashlib.sha256).hexdigest()


def _get_cookie_name(scope: Scope) -> str:
    _, port = scope.get("server") or ("", 0)
    return f"agentcall-{port}"


def _read_cookie(scope: Scope) -> bytes:
    """The cookie of this server, whatever other servers of this machine have set besides."""
    wanted = _get_cookie_name(scope).encode()
    for name, value in scope["headers"]:
        for part in value.split(b";") if name.lower() == b"cookie" else ():
            given, _, word = part.strip().partition(b"=")
            if given == wanted:
                return bytes(word.strip(b'"'))
    return b""


def _read_token(scope: Scope) -> str | None:
    if scope["method"] != "GET" or scope["path"] != "/":
        return None
    found = parse_qs(scope["query_string"].decode("latin-1")).get("token")
    return found[0] if found else None


def _decode_headers(scope: Scope) -> Mapping[str, str]:
    return {name.decode("latin-1").lower(): v.decode("latin-1") for name, v in scope["headers"]}


def _drop_header(scope: Scope, name: bytes) -> list[tuple[bytes, bytes]]:
    return [(key, value) for key, value in scope["headers"] if key.lower() != name]


async def _send_response(
    send: Send, status: int, body: bytes, headers: list[tuple[bytes, bytes]] | None = None
) -> None:
    all_headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"cache-control", b"no-store")]
    all_headers += [*(headers or []), *_SECURITY_HEADERS.items()]
    await send({"type": "http.response.start", "status": status, "headers": all_headers})
    await send({"type": "http.response.body", "body": body})
