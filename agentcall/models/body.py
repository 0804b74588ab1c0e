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

_Key: TypeAlias = "tuple[str, Dialect, Offer, Choice, bool, bool]"


class BodyWriter:
    """Writes request bodies; keeps the encoded heads of the last few offers.

    `counts_streams` says whether a stream is asked for its usage, which old servers refuse.
    """

    def __init__(self, settings: Settings, kept: int = 16) -> None:
        self.counts_streams = True
        self._settings = settings
        self._kept = kept
        self._heads: OrderedDict[_Key, tuple[bytes, bytes]] = OrderedDict()

    def body(self, model: str, dialect: Dialect, request: Request) -> bytes:
        """The whole request, as JSON."""
        head, opening = self._head(model, dialect, request)
        said = request.transcript.encoded(dialect, dialect.render)
        between = b"," if opening and said else b""
        return b'%b"messages":[%b%b%b]}' % (head, opening, between, said)

    def _head(self, model: str, dialect: Dialect, request: Request) -> tuple[bytes, bytes]:
        """All before the messages, and the messages that the dialect opens with."""
        stream, counted = request.stream, self.counts_streams
        key = (model, dialect, request.offer, request.choice, stream, counted)
        head = self._heads.get(key)
        if head is None:
            opening = dialect.offer(request.offer, request.choice)
            fields = {"model": model, **_merged(opening.fields, self._settings.fields())}
            if stream:
                fields["stream"] = True
                if counted:
                    fields["stream_options"] = {"include_usage": True}
            messages = b",".join(map(orjson.dumps, opening.messages))
            head = self._heads[key] = (orjson.dumps(fields)[:-1] + b",", messages)
            if len(self._heads) > self._kept:
                self._heads.popitem(last=False)
        return head


def _merged(dialect: Mapping[str, JSON], settings: Mapping[str, JSON]) -> Wire:
    """Both sets of fields; stop words add up, as a client's replace the template's."""
    stops: list[JSON] = list(dict.fromkeys([*_stops(dialect), *_stops(settings)]))
    return {**dialect, **settings, **({"stop": stops} if stops else {})}


def _stops(fields: Mapping[str, JSON]) -> list[str]:
    stop = fields.get("stop")
    if isinstance(stop, str):
        return [stop]
    return [word for word in stop if isinstance(word, str)] if isinstance(stop, list) else []
