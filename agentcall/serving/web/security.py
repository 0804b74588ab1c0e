"""ASGI middleware with the browser's side of security: login, cookies, security headers.

Rules (OWASP's for CSRF, CSP and session cookies; Jupyter's link for a key in a browser):
1. If there are keys, the link `/?token=KEY` logs a browser in. It gets a cookie and a redirect to
   the address without the key. The cookie (HttpOnly, SameSite=Strict) is an HMAC of the key, not
   the key itself, as browsers send cookies to every port of a machine.
2. Only the page itself may send requests, which `SecurityMiddleware` checks; a link on another page
   may open it.
3. A Content-Security-Policy forbids to load anything from other servers, and to run any script but
   the page's own, which carry a nonce.
4. Only the paths that the page needs are served.

Isolation of users: one user cannot reach the streams, events and uploads of another.

Gradio gives a stream to any request that names its session, and a file to any request that names
its path. This middleware appends a suffix of the user to each session name in a request, so that
no user can name another's session, and serves a file only to the user who uploaded it. The page
never sees the suffixes.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import re
import secrets
from collections.abc import Mapping
from typing import cast
from urllib.parse import parse_qs, parse_qsl, quote, urlencode

import orjson
from starlette.exceptions import HTTPException

from agentcall.serving.http_security import (
    USER_SCOPE_KEY,
    AccessPolicy,
    ASGIApp,
    ASGIMessage,
    Receive,
    Scope,
    SecurityMiddleware,
    Send,
)
from agentcall.serving.web.uploads import Uploads

_SCOPED_NAMES = ("session_hash", "upload_id")
_HEARTBEAT = "/gradio_api/heartbeat/"
_FILE = "/gradio_api/file="
_UPLOAD = "/gradio_api/upload"


class UserIsolationMiddleware:
    """Wraps Gradio's application, so that each user has separate sessions and files."""

    def __init__(self, app: ASGIApp, uploads: Uploads) -> None:
        self._app = app
        self._uploads = uploads

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        user, path = str(scope.get(USER_SCOPE_KEY, "")), str(scope["path"])
        if path.startswith(_FILE) and not self._uploads.has(user, path.removeprefix(_FILE)):
            await _send_not_found(send)
            return
        if path.rstrip("/") == _UPLOAD:
            send = _UploadRecorder(send, self._uploads, user).send
            headers = [pair for pair in scope["headers"] if pair[0].lower() != b"accept-encoding"]
            scope = {**scope, "headers": headers}  # the recorder reads the response
        suffix = hashlib.sha256(user.encode("utf-8", "replace")).hexdigest()[:32] if user else ""
        if suffix:
            scope = _scope_request(scope, path, suffix)
            receive = _ScopedBody(receive, suffix).receive if _has_json(scope) else receive
        try:
            await self._app(scope, receive, send)
        except RuntimeError as error:
            if not isinstance(error.__cause__, HTTPException):
                raise
            # Gradio has reported that the stream's session doesn't exist; only end the response.
            await send({"type": "http.response.body", "body": b""})


def _scope_request(scope: Scope, path: str, suffix: str) -> Scope:
    query = parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)
    pairs = [(name, value + suffix if name in _SCOPED_NAMES else value) for name, value in query]
    if path.startswith(_HEARTBEAT):
        path = path.rstrip("/") + suffix
    headers = scope["headers"]
    if _has_json(scope):  # the suffixes make the body longer
        headers = [pair for pair in headers if pair[0].lower() != b"content-length"]
    return {**scope, "path": path, "query_string": urlencode(pairs).encode(), "headers": headers}


def _has_json(scope: Scope) -> bool:
    types = [value for name, value in scope["headers"] if name.lower() == b"content-type"]
    return not any(value.lower().startswith(b"multipart/") for value in types)


class _ScopedBody:
    """The JSON body of a request, which `SecurityMiddleware` passes on as one message."""

    def __init__(self, receive: Receive, suffix: str) -> None:
        self._receive = receive
        self._suffix = suffix

    async def receive(self) -> ASGIMessage:
        message = await self._receive()
        if message["type"] == "http.request" and message.get("body"):
            return {**message, "body": self._scope_body(message["body"])}
        return message

    def _scope_body(self, body: bytes) -> bytes:
        try:
            value: object = orjson.loads(body)
        except ValueError:
            return body  # the application will refuse it
        if not isinstance(value, dict):
            return body
        fields = cast("dict[str, object]", value)
        scoped = {
            name: f"{fields[name]}{self._suffix}" for name in _SCOPED_NAMES if fields.get(name)
        }
        return orjson.dumps({**fields, **scoped})


class _UploadRecorder:
    """Records the paths of uploaded files, which Gradio's response lists."""

    def __init__(self, send: Send, uploads: Uploads, user: str) -> None:
        self._send = send
        self._uploads = uploads
        self._user = user
        self._is_success = False
        self._body = b""

    async def send(self, message: ASGIMessage) -> None:
        if message["type"] == "http.response.start":
            self._is_success = message["status"] == 200
        elif self._is_success:
            self._body += message.get("body", b"")
            if not message.get("more_body"):
                self._uploads.add(self._user, orjson.loads(self._body))
        await self._send(message)


async def _send_not_found(send: Send) -> None:
    headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"cache-control", b"no-store")]
    await send({"type": "http.response.start", "status": 404, "headers": headers})
    await send({"type": "http.response.body", "body": b"not found\n"})


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
<body><h1>A key is needed</h1><p>It is printed in the terminal where <code>agentcall web</code>
runs. If you don't run it yourself, ask the person who does.</p>
<form><input name="token" type="password" autocomplete="current-password" autofocus required>
<button>Enter</button></form></body></html>
"""


class WebSecurityMiddleware:
    """Passes the browser requests that an `AccessPolicy` accepts to the page's application."""

    def __init__(self, app: ASGIApp, access: AccessPolicy) -> None:
        self._app = app
        self._keys = tuple(access.keys)
        self._middleware = SecurityMiddleware(self._serve, access)
        self._ending = asyncio.Event()

    def end_streams(self) -> None:
        """End all open responses, as a page never closes its stream itself."""
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
        if response.is_open:  # the stream was cut off by `end_streams`
            await send({"type": "http.response.body", "body": b""})

    def _find_key(self, scope: Scope) -> str | None:
        """Return the key from the address or the cookie, or None if a header may have one."""
        if not self._keys:
            return None
        token = _read_token(scope)
        if token is not None:
            return token
        cookie = _read_cookie(scope)
        matches = (
            key for key in self._keys if hmac.compare_digest(_sign_key(key).encode(), cookie)
        )
        return next(matches, None)

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request that `SecurityMiddleware` has accepted."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        token = _read_token(scope)
        if not _ALLOWED_PATHS.fullmatch(scope["path"]):
            await _send_response(send, 404, b"not found\n")
        elif token is not None and self._keys:
            await _send_response(send, 303, b"", _build_login_headers(scope, token))
        elif scope["path"] == "/":
            # `_SecurePageResponse` edits the body, so it must not be compressed.
            scope = {**scope, "headers": _drop_header(scope, b"accept-encoding")}
            await self._app(scope, receive, _SecurePageResponse(send).send)
        else:
            await self._app(scope, receive, _SecureResponse(send).send)


class _SecureResponse:
    """Adds the security headers to a response."""

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
    """Adds the security headers to the page, and the policy's nonce to its scripts."""

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
        # Gradio escapes `<` in the values of its page, so `<script` is always a tag.
        script = f'<script nonce="{self._response.nonce}"'.encode()
        body = re.sub(rb"<script\b", script, self._body)
        length = (b"content-length", str(len(body)).encode())
        headers = [*_drop_header(self._start, b"content-length"), length]
        await self._response.send({**self._start, "headers": headers})
        await self._response.send({"type": "http.response.body", "body": body})


class _LoginResponse:
    """Sends a response; a person without a key gets the login page instead of a 401.

    is_open: whether the response has begun but not ended.
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
    """Return a `receive` that reports a disconnect once the event is set."""

    async def receive_or_disconnect() -> ASGIMessage:
        message, end = asyncio.ensure_future(receive()), asyncio.ensure_future(ending.wait())
        try:
            await asyncio.wait({message, end}, return_when=asyncio.FIRST_COMPLETED)
            return message.result() if message.done() else {"type": "http.disconnect"}
        finally:
            message.cancel()
            end.cancel()

    return receive_or_disconnect


def _build_login_headers(scope: Scope, token: str) -> list[tuple[bytes, bytes]]:
    """Return the headers that set the cookie of a key, and redirect to the page without it."""
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
    location = f"./?{rest}" if rest else "./"
    return [(b"location", location.encode()), (b"set-cookie", cookie.encode())]


def _sign_key(key: str) -> str:
    """Return the HMAC of a key for its cookie, from which the key cannot be recovered."""
    return hmac.new(key.encode("utf-8", "replace"), b"agentcall web", hashlib.sha256).hexdigest()


def _get_cookie_name(scope: Scope) -> str:
    _, port = scope.get("server") or ("", 0)
    return f"agentcall-{port}"


def _read_cookie(scope: Scope) -> bytes:
    """Return this server's cookie, among those of other servers on the machine, or b""."""
    expected = _get_cookie_name(scope).encode()
    for header, value in scope["headers"]:
        for part in value.split(b";") if header.lower() == b"cookie" else ():
            name, _, signature = part.strip().partition(b"=")
            if name == expected:
                return bytes(signature.strip(b'"'))
    return b""


def _read_token(scope: Scope) -> str | None:
    if scope["method"] != "GET" or scope["path"] != "/":
        return None
    tokens = parse_qs(scope["query_string"].decode("latin-1")).get("token")
    return tokens[0] if tokens else None


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
