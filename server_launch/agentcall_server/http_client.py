"""HTTP requests to a model server or LMDeploy's proxy, past any proxy in the environment."""

from __future__ import annotations

import json
import ssl
from dataclasses import dataclass
from http.client import HTTPException
from typing import cast
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import HTTPSHandler, ProxyHandler, Request, build_opener

from agentcall_server.errors import BadValue

_HEALTH_SECONDS = 5.0
_MAX_BYTES = 1 << 22
"""Bytes of a response that are read."""


@dataclass(frozen=True, slots=True)
class HTTPReply:
    """A response of any status."""

    status: int
    body: bytes

    def json(self) -> object:
        """Return the body as JSON. Raises ValueError."""
        return json.loads(self.body)

    @property
    def fields(self) -> dict[str, object]:
        """The JSON object in the body; empty if there is none."""
        try:
            value = self.json()
        except ValueError:
            return {}
        return cast("dict[str, object]", value) if isinstance(value, dict) else {}

    @property
    def model_ids(self) -> tuple[str, ...]:
        """The model IDs in a response of `/v1/models`."""
        cards = self.fields.get("data")
        if not isinstance(cards, list):
            return ()
        ids = [
            cast("dict[str, object]", card).get("id")
            for card in cast("list[object]", cards)
            if isinstance(card, dict)
        ]
        return tuple(str(model_id) for model_id in ids if model_id)

    @property
    def summary(self) -> str:
        """The beginning of the body on one line, for messages."""
        return " ".join(self.body[:300].decode("utf-8", "replace").split()) or "(nothing)"


def send_request(
    url: str,
    payload: object = None,
    *,
    api_key: str = "",
    timeout: float = 10.0,
    verify: bool = True,
) -> HTTPReply:
    """Send a GET, or a POST of the payload as JSON. Raises OSError if no server answers.

    `verify` is False for a server on this machine, whose certificate may be self-signed.
    """
    handlers: list[ProxyHandler | HTTPSHandler] = [ProxyHandler({})]
    if not verify and url.startswith("https:"):
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        handlers.append(HTTPSHandler(context=context))
    headers = {"Accept": "application/json", "Content-Type": "application/json"}
    if api_key:
        headers["Authorization"] = f"Bearer {api_key}"
    data = None if payload is None else json.dumps(payload).encode()
    request = Request(url, data=data, headers=headers)  # noqa: S310  (http and https only)
    try:
        with build_opener(*handlers).open(request, timeout=timeout) as response:
            return HTTPReply(int(response.status), response.read(_MAX_BYTES))
    except HTTPError as error:
        with error:
            return HTTPReply(error.code, error.read(_MAX_BYTES))
    except URLError as error:
        raise error.reason if isinstance(error.reason, OSError) else error from None
    except HTTPException as error:
        raise OSError(f"{type(error).__name__}: {error}") from error


def parse_server_url(url: str) -> str:
    """Return `http://host:port` of a URL with or without scheme and /v1. Raises BadValue."""
    try:
        parts = urlsplit(url if "://" in url else f"http://{url}")
        if parts.scheme in ("http", "https") and parts.hostname and parts.port != 0:
            path = parts.path.rstrip("/").removesuffix("/v1")
            return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{path}"
    except ValueError:
        pass
    raise BadValue(f"{url!r} is not the address of a server; write http://host:port")


@dataclass(frozen=True, slots=True, repr=False)
class ServerEndpoint:
    """The address of a server on this machine, without `/v1`, and its API key.

    A server is ready when `/health` answers 200 and `/v1/models` lists a model. LMDeploy 0.5.3
    answers `/health` with an empty 200; later releases answer with a JSON status, and with 503
    while they load, sleep or are unhealthy (v0.18.0 serve/openai/endpoints/management.py), as
    llama.cpp's server does.
    """

    root: str
    key: str = ""

    @property
    def served_models(self) -> tuple[str, ...]:
        """The names of its models if it is ready, else none."""
        health = self._get("/health")
        models = self._get("/v1/models") if health is not None and health.status == 200 else None
        return models.model_ids if models is not None and models.status == 200 else ()

    @property
    def is_answering(self) -> bool:
        """Whether any server answers there."""
        return self._get("/health") is not None

    @property
    def engine_error(self) -> str:
        """The error with which the server reports that its engine is dead; '' if it does not."""
        health = self._get("/health")
        fields = health.fields if health is not None else {}
        if fields.get("status") != "unhealthy":
            return ""
        return str(fields.get("message") or fields.get("reason") or "no reason given")

    def _get(self, path: str) -> HTTPReply | None:
        try:
            return send_request(
                self.root + path, api_key=self.key, timeout=_HEALTH_SECONDS, verify=False
            )
        except OSError:
            return None
