"""The bytes of a chat completion request.

`messages` comes last and only grows at its end, so a request's bytes begin with those of the
request before it. What does not change within a run is encoded once.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from typing import TypeAlias

import orjson

from agentcall.dialects.protocol import Choice, Dialect, Offer, Wire
from agentcall.messages import JSON
from agentcall.models.protocol import Request, Settings

_Key: TypeAlias = "tuple[str, Offer, Choice, bool]"


class BodyWriter:
    """Writes request bodies for one model; keeps the encoded heads of the last few offers."""

    def __init__(self, settings: Settings, kept: int = 16) -> None:
        self._settings = settings
        self._kept = kept
        self._heads: OrderedDict[_Key, tuple[bytes, bytes]] = OrderedDict()

    def body(self, model: str, dialect: Dialect, request: Request) -> bytes:
        """The whole request, as JSON."""
        fields, opening = self._head(dialect, request)
        said = request.transcript.encoded(dialect.name, dialect.render)
        between = b"," if opening and said else b""
        name = orjson.dumps(model)
        return b'{"model":%b,%b"messages":[%b%b%b]}' % (name, fields, opening, between, said)

    def _head(self, dialect: Dialect, request: Request) -> tuple[bytes, bytes]:
        key = (dialect.name, request.offer, request.choice, request.stream)
        head = self._heads.get(key)
        if head is None:
            opening = dialect.offer(request.offer, request.choice)
            fields = _merged(opening.fields, self._settings.fields())
            if request.stream:
                fields = {**fields, "stream": True, "stream_options": {"include_usage": True}}
            head = (_opened(fields), b",".join(map(orjson.dumps, opening.messages)))
            self._heads[key] = head
            if len(self._heads) > self._kept:
                self._heads.popitem(last=False)
        return head


def _merged(dialect: Mapping[str, JSON], settings: Mapping[str, JSON]) -> Wire:
    """Both sets of fields; stop words add up, as a client's replace the template's."""
    stops = [*_stops(dialect), *_stops(settings)]
    return {**dialect, **settings, **({"stop": stops} if stops else {})}


def _stops(fields: Mapping[str, JSON]) -> list[JSON]:
    stop = fields.get("stop")
    return list(stop) if isinstance(stop, list) else []


def _opened(fields: Wire) -> bytes:
    """The fields as the inside of an object, with a comma behind."""
    inside = orjson.dumps(fields)[1:-1]
    return inside + b"," if inside else b""
