"""Makes a conversation that is too long fit: the largest tool results are shortened.

Rules:
1. Only tool results are shortened, the largest first, to their beginning and a note; a result of
   fewer than `SMALL` characters stays.
2. The full text is kept for the rest of the run, and the model may read it in pages with the tool
   `read_result`.
3. A shortened conversation is a new one for the server: it starts a new prefix.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from agentcall.errors import ModelRetry
from agentcall.events import ContextTrimmed
from agentcall.messages import Message, ToolResult, Untrusted
from agentcall.tools.tool import Tool, tool

MIN_SHORTENED_CHARS = 400
"""Characters below which a result is not worth shortening."""

PAGE_CHARS = 4_000
"""Characters of a page of `read_result`."""


class OffloadedResults:
    """The full texts of results that were shortened in a run."""

    def __init__(self) -> None:
        self._full_results: dict[str, ToolResult] = {}
        self._page_chars = PAGE_CHARS

    def shorten(self, messages: Sequence[Message]) -> tuple[list[Message], list[ContextTrimmed]]:
        """The messages with about half of the text of their tool results, and what was cut.

        Nothing was cut, and nothing can be, if the second list is empty.
        """
        results = [
            m for m in messages if isinstance(m, ToolResult) and len(m.text) > MIN_SHORTENED_CHARS
        ]
        goal = sum(len(result.text) for result in results) // 2
        cuts: dict[str, int] = {}
        for result in sorted(results, key=lambda r: len(r.text), reverse=True):
            if goal <= 0:
                break
            cuts[result.call_id] = max(MIN_SHORTENED_CHARS // 2, len(result.text) // 4)
            goal -= len(result.text) - cuts[result.call_id]
        return (
            [self._shorten_result(m, cuts) for m in messages],
            [
                ContextTrimmed(r.call_id, len(r.text), cuts[r.call_id])
                for r in results
                if r.call_id in cuts
            ],
        )

    def restore(self, messages: Iterable[Message]) -> tuple[Message, ...]:
        """The messages with the full texts back in their places."""
        if not self._full_results:
            return tuple(messages)
        return tuple(
            self._full_results.get(m.call_id, m) if isinstance(m, ToolResult) else m
            for m in messages
        )

    def create_reader_tool(self) -> Tool:
        """The tool with which the model reads what was cut."""

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
            known = ", ".join(self._full_results)
            raise ModelRetry(f"no shortened result has the id {call_id!r}; there are: {known}")
        text, pages = full.text, -(-len(full.text) // self._page_chars)
        if not 1 <= page <= pages:
            raise ModelRetry(f"the result has the pages 1 to {pages}, not {page}")
        start = (page - 1) * self._page_chars
        shown = f"[page {page} of {pages}]\n{text[start : start + self._page_chars]}"
        return Untrusted(shown) if full.untrusted else shown

    def _shorten_result(self, message: Message, cuts: dict[str, int]) -> Message:
        if not isinstance(message, ToolResult) or message.call_id not in cuts:
            return message
        full = self._full_results.setdefault(message.call_id, message).text
        kept = cuts[message.call_id]
        self._page_chars = max(MIN_SHORTENED_CHARS, min(self._page_chars, kept * 2))
        note = (
            f"\n[shortened: the first {kept} of {len(full)} characters; "
            f'read on with read_result(call_id="{message.call_id}", page=1)]'
        )
        return replace(message, text=full[:kept] + note)
