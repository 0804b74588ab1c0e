"""Trims a conversation that is longer than the model's window, by its largest tool results.

Rules:
1. Only tool results are shortened, the largest first, to their beginning and a note; a result of
   fewer than `MIN_SHORTENED_CHARS` characters stays as it is.
2. The full text is kept for the rest of the run, and the model may read it in pages with the tool
   `read_result`.
3. A trimmed conversation starts a new prefix in the server's cache.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from agentcall.errors import ModelRetry
from agentcall.events import ContextTrimmed
from agentcall.messages import Message, ToolResult, Untrusted
from agentcall.runtime.prompts import (
    format_page,
    format_shortened_result,
    format_unknown_page,
    format_unknown_result,
)
from agentcall.tools.tool import Tool, tool

MIN_SHORTENED_CHARS = 400
"""Characters below which a result is not worth shortening."""

PAGE_CHARS = 4_000
"""Characters of a page of `read_result`."""


class OffloadedResults:
    """The full texts of the results that were shortened in a run."""

    def __init__(self) -> None:
        self._full_results: dict[str, ToolResult] = {}
        self._page_chars = PAGE_CHARS

    def shorten(self, messages: Sequence[Message]) -> tuple[list[Message], list[ContextTrimmed]]:
        """Return the messages with about half of the text of their tool results, and the cuts.

        The second list is empty if nothing can be shortened.
        """
        results = [
            m for m in messages if isinstance(m, ToolResult) and len(m.text) > MIN_SHORTENED_CHARS
        ]
        goal = sum(len(result.text) for result in results) // 2
        lengths: dict[str, int] = {}
        for result in sorted(results, key=lambda r: len(r.text), reverse=True):
            if goal <= 0:
                break
            lengths[result.call_id] = max(MIN_SHORTENED_CHARS // 2, len(result.text) // 4)
            goal -= len(result.text) - lengths[result.call_id]
        return (
            [self._shorten_message(message, lengths) for message in messages],
            [
                ContextTrimmed(r.call_id, len(r.text), lengths[r.call_id])
                for r in results
                if r.call_id in lengths
            ],
        )

    def _shorten_message(self, message: Message, lengths: dict[str, int]) -> Message:
        if not isinstance(message, ToolResult) or message.call_id not in lengths:
            return message
        # A result that is shortened again is cut from its full text.
        full = self._full_results.setdefault(message.call_id, message).text
        length = lengths[message.call_id]
        self._page_chars = max(MIN_SHORTENED_CHARS, min(self._page_chars, length * 2))
        text = format_shortened_result(full[:length], len(full), message.call_id)
        return replace(message, text=text)

    def restore(self, messages: Iterable[Message]) -> tuple[Message, ...]:
        """Return the messages with the full texts of their results."""
        if not self._full_results:
            return tuple(messages)
        return tuple(
            self._full_results.get(m.call_id, m) if isinstance(m, ToolResult) else m
            for m in messages
        )

    def create_reader_tool(self) -> Tool:
        """Create the tool with which the model reads the shortened results."""

        @tool(name="read_result", idempotent=True, read_only=True)
        def read_result(call_id: str, page: int = 1) -> str | Untrusted:
            """Read a page of a tool result that was shortened.

            Args:
                call_id: The id in the note of the shortened result.
                page: Which page, from 1.
            """
            return self._read_page(call_id, page)

        return read_result

    def _read_page(self, call_id: str, page: int) -> str | Untrusted:
        full = self._full_results.get(call_id)
        if full is None:
            raise ModelRetry(format_unknown_result(call_id, self._full_results))
        pages = -(-len(full.text) // self._page_chars)
        if not 1 <= page <= pages:
            raise ModelRetry(format_unknown_page(page, pages))
        start = (page - 1) * self._page_chars
        text = format_page(full.text[start : start + self._page_chars], page, pages)
        return Untrusted(text) if full.untrusted else text
