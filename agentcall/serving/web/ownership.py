"""What a page names is of its owner: streams, events and uploads of one key are not another's.

Gradio hands a stream to whoever names its session, and a file to whoever names its path. Here each
such name gets a mark of the user behind it, on its way in, so that nobody can name another's; and a
file is handed only to who has uploaded it. The page does not see the marks.
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
    """Gradio's application, in which each user has names and files of their own."""

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
            plain = [pair for pair in scope["headers"] if pair[0].lower() != b"accept-encoding"]
            scope = {**scope, "headers": plain}  # the answer is read here
        mark = hashlib.sha256(user.encode("utf-8", "replace")).hexdigest()[:32] if user else ""
        if mark:
            scope = _scope_request(scope, path, mark)
            receive = _ScopedBody(receive, mark).receive if _has_json(scope) else receive
        try:
            await self._app(scope, receive, send)
        except RuntimeError as error:
            if not isinstance(error.__cause__, HTTPException):
                raise
            # a stream of a session that is not there has said so, and only has to end
            await send({"type": "http.response.body", "body": b""})


def _scope_request(scope: Scope, path: str, mark: str) -> Scope:
    query = parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)
    pairs = [(name, value + mark if name in _SCOPED_NAMES else value) for name, value in query]
    if path.startswith(_HEARTBEAT):
        path = path.rstrip("/") + mark
    lengthless = [pair for pair in scope["headers"] if pair[0].lower() != b"content-length"]
    headers = lengthless if _has_json(scope) else scope["headers"]
    return {**scope, "path": path, "query_string": urlencode(pairs).encode(), "headers": headers}


def _has_json(scope: Scope) -> bool:
    types = [value for name, value in scope["headers"] if name.lower() == b"content-type"]
    return not any(value.lower().startswith(b"multipart/") for value in types)


class _ScopedBody:
    """The body of a request, which the gatekeeper hands on whole."""

    def __init__(self, receive: Receive, mark: str) -> None:
        self._receive = receive
        self._mark = mark

    async def receive(self) -> ASGIMessage:
        message = await self._receive()
        if message["type"] == "http.request" and message.get("body"):
            return {**message, "body": self._scope_body(message["body"])}
        return message

    def _scope_body(self, body: bytes) -> bytes:
        try:
            value: object = orjson.loads(body)
        except ValueError:
            return body  # it is not JSON, and is refused behind this
        if not isinstance(value, dict):
            return body
        fields = cast("dict[str, object]", value)
        named = {name: f"{fields[name]}{self._mark}" for name in _SCOPED_NAMES if fields.get(name)}
        return orjson.dumps({**fields, **named})


class _UploadRecorder:
    """The answer to an upload, in which the paths of its files stand."""

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
    await send({"type": "http.response.body", "body": b"there is nothing here\n"})
