"""Whether a server has held an answer to the JSON Schema that it was asked to hold it to."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping

from agentcall.dialects.answer_parts import TextPart
from agentcall.dialects.parsers.response_parser import RetractedPart
from agentcall.messages import JSON
from agentcall.models.model import ResponseEnd, ResponseEvent


class AnswerCheck:
    """Observes one answer to a request with a `response_format`.

    Only what no grammar lets through counts: text that is not JSON, or not the object that was
    asked for. Whether its values are right is not the server's business.
    """

    def __init__(self, schema: Mapping[str, JSON]) -> None:
        self._schema = schema
        self._texts: list[str] = []
        self._is_complete = False

    def observe(self, part: ResponseEvent) -> None:
        """Observe the next part of the answer."""
        match part:
            case TextPart(text):
                self._texts.append(text)
            case RetractedPart():
                self._texts = [part.kept_text]
            case ResponseEnd(finish_reason):
                self._is_complete = self._is_complete or finish_reason == "stop"
            case _:
                pass

    async def observe_stream(
        self, parts: AsyncIterator[ResponseEvent]
    ) -> AsyncIterator[ResponseEvent]:
        """Yield the parts of a streamed answer."""
        async for part in parts:
            self.observe(part)
            yield part

    def find_violation(self) -> str | None:
        """Return the text of a complete answer that the schema does not allow; None if it does."""
        text = "".join(self._texts).strip()
        if not text or not self._is_complete:
            return None
        try:
            value: JSON = json.loads(text)
        except (ValueError, RecursionError):
            return text
        if self._schema.get("type") != "object":
            return None
        required = self._schema.get("required", [])
        names = required if isinstance(required, list) else []
        is_allowed = isinstance(value, dict) and all(name in value for name in names)
        return None if is_allowed else text
