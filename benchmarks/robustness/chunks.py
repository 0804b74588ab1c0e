"""A reply whose stream is given delta by delta, as servers were observed to split calls."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from agentcall.testing import Completion, FakeResponse, RecordedRequest
from agentcall.testing.raw_http import encode_json

Piece = Mapping[str, object]
"""An entry of a delta's `tool_calls`."""


@dataclass(frozen=True, slots=True)
class ChunkedReply:
    """A completion that is sent as JSON, or as these deltas if a stream is requested.

    plain: the completion for a request without a stream.
    deltas: the entries of `tool_calls` of each delta.
    choice: the index of the only choice of a stream.
    """

    plain: Completion
    deltas: Sequence[Sequence[Piece]]
    choice: object = 0

    def answer(self, request: RecordedRequest) -> FakeResponse:
        """Return the completion as JSON, or the deltas as a stream."""
        if not request.stream:
            return self.plain.answer(request)
        events = (b"data: %b\n\n" % encode_json(chunk) for chunk in self._chunks(request))
        return FakeResponse(pieces=(*events, b"data: [DONE]\n\n"), events=True)

    def _chunks(self, request: RecordedRequest) -> Iterator[dict[str, object]]:
        yield self._chunk(request, {"role": "assistant", "content": None})
        for pieces in self.deltas:
            yield self._chunk(request, {"tool_calls": list(pieces)})
        yield self._chunk(request, {}, finish="tool_calls")
        if request.includes_usage:
            usage = {"prompt_tokens": 100, "completion_tokens": 20, "total_tokens": 120}
            yield {**self._head(request), "choices": [], "usage": usage}

    def _chunk(
        self, request: RecordedRequest, delta: Mapping[str, object], finish: str | None = None
    ) -> dict[str, object]:
        choice = {"index": self.choice, "delta": delta, "finish_reason": finish}
        return {**self._head(request), "choices": [choice]}

    def _head(self, request: RecordedRequest) -> dict[str, object]:
        model = request.body.get("model", "fake-model")
        kind = "chat.completion.chunk"
        return {
            "id": f"chatcmpl-{request.number}",
            "object": kind,
            "created": 0,
            "model": model,
        }


def make_piece(
    index: object = None,
    *,
    id: str | None = None,  # noqa: A002
    name: str | None = None,
    arguments: str | None = None,
) -> Piece:
    """Return an entry of a delta, without the fields that are None."""
    function = {"name": name, "arguments": arguments}
    fields = {"index": index, "id": id, "type": "function" if name else None}
    entry = {key: value for key, value in fields.items() if value is not None}
    return {**entry, "function": {k: v for k, v in function.items() if v is not None}}


def split_text(text: str, size: int = 4) -> list[str]:
    """Split a text into pieces of `size` characters."""
    return [text[start : start + size] for start in range(0, len(text), size)]
