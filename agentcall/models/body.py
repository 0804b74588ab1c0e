"""The bytes of a chat completion request.

`messages` comes last and only grows at its end, so a request's bytes begin with those of the
request before it. What does not change within a run is encoded once.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from typing import TypeAlias

import orjson

from agentcall.dialects.protocol import Dialect, JSONObject, PromptSpec, ToolChoice
from agentcall.messages import JSON
from agentcall.models.protocol import ModelRequest, ModelSettings

_HeadKey: TypeAlias = "tuple[str, Dialect, PromptSpec, ToolChoice, bool, bool]"


class RequestEncoder:
    """Writes request bodies; keeps the encoded heads of the last few offers.

    `counts_streams` says whether a stream is asked for its usage, which old servers refuse.
    """

    def __init__(self, settings: ModelSettings, capacity: int = 16) -> None:
        self.asks_stream_usage = True
        self._settings = settings
        self._capacity = capacity
        self._heads: OrderedDict[_HeadKey, tuple[bytes, bytes]] = OrderedDict()

    def encode(self, model: str, dialect: Dialect, request: ModelRequest) -> bytes:
        """The whole request, as JSON."""
        head, opening = self._encode_head(model, dialect, request)
        said = request.transcript.encode(dialect, dialect.render)
        between = b"," if opening and said else b""
        return b'%b"messages":[%b%b%b]}' % (head, opening, between, said)

    def _encode_head(
        self, model: str, dialect: Dialect, request: ModelRequest
    ) -> tuple[bytes, bytes]:
        """All before the messages, and the messages that the dialect opens with."""
        stream, counted = request.stream, self.asks_stream_usage
        key = (model, dialect, request.prompt, request.tool_choice, stream, counted)
        head = self._heads.get(key)
        if head is None:
            opening = dialect.create_prelude(request.prompt, request.tool_choice)
            fields = {"model": model, **_merge_fields(opening.fields, self._settings.to_fields())}
            if stream:
                fields["stream"] = True
                if counted:
                    fields["stream_options"] = {"include_usage": True}
            messages = b",".join(map(orjson.dumps, opening.messages))
            head = self._heads[key] = (orjson.dumps(fields)[:-1] + b",", messages)
            if len(self._heads) > self._capacity:
                self._heads.popitem(last=False)
        return head


def _merge_fields(dialect: Mapping[str, JSON], settings: Mapping[str, JSON]) -> JSONObject:
    """Both sets of fields; stop words add up, as a client's replace the template's."""
    stops: list[JSON] = list(dict.fromkeys([*_get_stops(dialect), *_get_stops(settings)]))
    return {**dialect, **settings, **({"stop": stops} if stops else {})}


def _get_stops(fields: Mapping[str, JSON]) -> list[str]:
    stop = fields.get("stop")
    if isinstance(stop, str):
        return [stop]
    return [word for word in stop if isinstance(word, str)] if isinstance(stop, list) else []
