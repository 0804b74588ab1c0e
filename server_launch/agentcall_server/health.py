"""Whether a server on this machine can be asked: `/health`, then `/v1/models`.

LMDeploy 0.5.3 answers `/health` with an empty 200; later ones with a JSON status, and with 503
while they load, sleep or are unwell (v0.18.0 serve/openai/endpoints/management.py). llama.cpp's
server does alike.
"""

from __future__ import annotations

import json
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from http.client import HTTPException
from typing import cast
from urllib.error import HTTPError
from urllib.request import HTTPSHandler, ProxyHandler, Request, build_opener

_SECONDS = 5.0


@dataclass(frozen=True, slots=True, repr=False)
class ServerEndpoint:
    """Where a server of ours answers: its root, without `/v1`, and the key that it asks for."""

    root: str
    key: str = ""

    @property
    def served_models(self) -> tuple[str, ...]:
        """The names of its models once it can be asked, else none."""
        health = self._get("/health")
        models = self._get("/v1/models") if health is not None and health.status == 200 else None
        if models is None or models.status != 200:
            return ()
        cards = models.json.get("data")
        found = (
            [_read_model_id(card) for card in cast("list[object]", cards)]
            if _is_list(cards)
            else []
        )
        return tuple(name for name in found if name)

    @property
    def is_answering(self) -> bool:
        """Whether anything at all answers there."""
        return self._get("/health") is not None

    @property
    def engine_error(self) -> str:
        """Why its engine is of no use any more, as it says itself; '' if it does not say so."""
        health = self._get("/health")
        if health is None or health.json.get("status") != "unhealthy":
            return ""
        return str(health.json.get("message") or health.json.get("reason") or "no reason given")

    def _get(self, path: str) -> _HealthReply | None:
        headers = {"Authorization": f"Bearer {self.key}"} if self.key else {}
        request = Request(self.root + path, headers=headers)  # noqa: S310  (our own address)
        # no proxy stands between a machine and itself, and its certificate is its own business
        unchecked = ssl.create_default_context()
        unchecked.check_hostname, unchecked.verify_mode = False, ssl.CERT_NONE
        opener = build_opener(ProxyHandler({}), HTTPSHandler(context=unchecked))
        try:
            with opener.open(request, timeout=_SECONDS) as response:
                return _HealthReply(int(response.status), response.read())
        except HTTPError as error:
            with error:
                return _HealthReply(error.code, error.read())
        except (OSError, HTTPException):
            return None


@dataclass(frozen=True, slots=True)
class _HealthReply:
    status: int
    body: bytes

    @property
    def json(self) -> Mapping[str, object]:
        """The object in it; empty if there is none."""
        try:
            found: object = json.loads(self.body)
        except ValueError:
            return {}
        return cast("dict[str, object]", found) if isinstance(found, dict) else {}


def _is_list(value: object) -> bool:
    return isinstance(value, list)


def _read_model_id(card: object) -> str:
    return str(cast("dict[str, object]", card).get("id", "")) if isinstance(card, dict) else ""
