"""Isolation of users: one user cannot reach the streams, events and uploads of another.

Gradio gives a stream to any request that names its session, and a file to any request that names
its path. This middleware appends a suffix of the user to each session name in a request, so that
no user can name another's session, and serves a file only to the user who uploaded it. The page
never sees the suffixes.
"""

from __future__ import annotations

import hashlib
from typing import cast
from urllib.parse import parse_qsl, urlencode

import orjson
from starlette.exceptions import HTTPException

from agentcall.serving.http_security import (
    USER_SCOPE_KEY,
    ASGIApp,
    ASGIMessage,
    Receive,
    Scope,
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
