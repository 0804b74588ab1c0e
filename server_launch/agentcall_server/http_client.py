"""One HTTP exchange with a server of ours, past any proxy that the environment names."""

from __future__ import annotations

import json
from dataclasses import dataclass
from http.client import HTTPException
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import ProxyHandler, Request, build_opener

from agentcall_server.errors import BadValue

_OPENER = build_opener(ProxyHandler({}))
_MAX_BYTES = 1 << 22
"""Bytes of an answer that are read."""


@dataclass(frozen=True, slots=True)
class HTTPReply:
    """What a server answered, whatever the status."""

    status: int
    body: bytes

    def json(self) -> object:
        """The body as JSON. Raises ValueError."""
        return json.loads(self.body)

    @property
    def summary(self) -> str:
        """The beginning of the body on one line, for messages."""
        return " ".join(self.body[:300].decode("utf-8", "replace").split()) or "(nothing)"


def send_request(
    url: str, payload: object = None, *, api_key: str = "", timeout: float = 10.0
) -> HTTPReply:
    """GET, or POST of a payload as JSON. Raises OSError if nobody answers."""
    headers = {"Accept": "application/json", "Content-Type": "application/json"}
    if api_key:
        headers["Authorization"] = f"Bearer {api_key}"
    data = None if payload is None else json.dumps(payload).encode()
    request = Request(url, data=data, headers=headers)  # noqa: S310 - root_of lets only http pass
    try:
        with _OPENER.open(request, timeout=timeout) as answer:
            return HTTPReply(int(answer.status), answer.read(_MAX_BYTES))
    except HTTPError as error:
        with error:
            return HTTPReply(error.code, error.read(_MAX_BYTES))
    except URLError as error:
        raise error.reason if isinstance(error.reason, OSError) else error from None
    except HTTPException as error:
        raise OSError(f"{type(error).__name__}: {error}") from error


def parse_server_url(url: str) -> str:
    """`http://host:port` of a URL as people write it, with or without /v1. Raises BadValue."""
    try:
        parts = urlsplit(url if "://" in url else f"http://{url}")
        if parts.scheme in ("http", "https") and parts.hostname and parts.port != 0:
            path = parts.path.rstrip("/").removesuffix("/v1")
            return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{path}"
    except ValueError:
        pass
    raise BadValue(f"{url!r} is no address of a server; write http://host:port")
