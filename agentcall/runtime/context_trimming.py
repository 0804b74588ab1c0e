"""What the model gets of a conversation; the run's result, session and journal have all of it.

Rules:
1. A result of more than `Limits.result_chars` characters is sent as its beginning, its end and a
   note between them.
2. A conversation that is longer than the model's window is compacted by the rule of the session or
   the agent (`compaction.py`), if there is one.
3. If that is not enough, tool results are shortened, the largest first, to their beginning and a
   note; a result of fewer than `MIN_SHORTENED_CHARS` characters stays as it is.
4. If that is not enough, the oldest messages are left out: first those before the question of the
   run, then the oldest steps of the run, then a summary. A call is never separated from its
   results.
5. The full text of a result is kept. The model reads it in pages with the tool `read_result` and
   searches it with `search_result`.
6. A trimmed conversation starts a new prefix in the server's cache.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from agentcall.errors import ModelRetry
from agentcall.events import ContextTrimmed
from agentcall.messages import Assistant, Message, System, ToolResult, Untrusted, User
from agentcall.result import ContextCut
from agentcall.runtime.prompts import (
    format_page,
    format_search,
    format_shortened_result,
    format_unknown_page,
    format_unknown_result,
)
from agentcall.tools.tool import Tool, tool

MIN_SHORTENED_CHARS = 400
"""Characters below which a result is not worth shortening."""

_SHORTEST = MIN_SHORTENED_CHARS // 2, 0
"""The characters that are left of a result at its beginning and at its end, besides the note."""

PAGE_CHARS = 4_000
"""Characters of a page of `read_result`."""

_EXCERPT_CHARS = 150
"""Characters before and after a place that a search found."""


class ContextView:
    """What the model gets of the conversation of a run.

    cuts: the messages that are left out, in their order. lengths: by call id, how many characters
    at the beginning and at the end are sent of a result.
    """

    # Attributes of the class, as few conversations have others.
    cuts: tuple[ContextCut, ...] = ()
    _page_chars = PAGE_CHARS
    # The whole conversation when the view was last changed, and how many messages stand for it.
    _whole: tuple[Message, ...] = ()
    _viewed = 0

    def __init__(self) -> None:
        self.lengths: dict[str, tuple[int, int]] = {}
        self._full_results: dict[str, ToolResult] = {}

    @property
    def hidden_count(self) -> int:
        """How many messages the conversation has more than the model gets."""
        return len(self._whole) - self._viewed

    @property
    def viewed_count(self) -> int:
        """How many of the messages that the model gets the last change of the view has arranged."""
        return self._viewed

    @property
    def has_shortened_results(self) -> bool:
        """Whether there is something to read with `read_result`."""
        return bool(self._full_results)

    @property
    def is_partial(self) -> bool:
        """Whether the model gets less than the whole conversation."""
        return bool(self._full_results or self.cuts)

    def restore(self, messages: Iterable[Message]) -> tuple[Message, ...]:
        """Return the whole conversation of which the model gets these messages."""
        if not self.is_partial:
            return tuple(messages)
        new = tuple(messages)[self._viewed :]
        return (*self._whole, *map(self._get_full, new))

    def show(self, messages: Iterable[Message]) -> tuple[Message, ...]:
        """Return what the model gets of a whole conversation."""
        self._whole = tuple(messages)
        shown = tuple(self._iter_shown())
        self._viewed = len(shown)
        return shown

    def _iter_shown(self) -> Iterator[Message]:
        place = 0
        for cut in self.cuts:
            yield from map(self._shorten, self._whole[place : cut.start])
            yield from cut.head
            place = cut.end
        yield from map(self._shorten, self._whole[place:])

    def iter_visible(
        self, messages: Sequence[Message], first: int
    ) -> Iterator[tuple[Message, int | None]]:
        """Yield the full messages from `first` on, with their indexes; heads replace the cut."""
        place = first
        for cut in self.cuts:
            yield from ((messages[i], i) for i in range(place, cut.start))
            yield from ((message, None) for message in cut.head)
            place = cut.end
        yield from ((messages[i], i) for i in range(place, len(messages)))

    def _get_full(self, message: Message) -> Message:
        if not isinstance(message, ToolResult):
            return message
        return self._full_results.get(message.call_id, message)

    def _shorten(self, message: Message) -> Message:
        if not isinstance(message, ToolResult) or message.call_id not in self.lengths:
            return message
        # A result that is shortened again is cut from its full text.
        full = self._full_results.setdefault(message.call_id, message).text
        head, tail = self.lengths[message.call_id]
        if not tail:
            self._page_chars = max(MIN_SHORTENED_CHARS, min(self._page_chars, head * 2))
        end = full[len(full) - tail :]
        text = format_shortened_result(full[:head], len(full), message.call_id, end)
        return replace(message, text=text)

    def offload(self, result: ToolResult, limit: int) -> tuple[ToolResult, ContextTrimmed]:
        """Return a result with about `limit` characters of its text, and the event."""
        text = self._full_results.setdefault(result.call_id, result).text
        tail = limit // 5
        self.lengths[result.call_id] = limit - tail, tail
        shortened = format_shortened_result(
            text[: limit - tail], len(text), result.call_id, text[len(text) - tail :]
        )
        return replace(result, text=shortened), ContextTrimmed(result.call_id, len(text), limit)

    def omit(self, messages: Sequence[Message], question: int) -> int:
        """Leave out the older half of what may be left out of a whole conversation.

        question: the index of the message that the run answers, which stays. Returns how many
            messages were left out, 0 if none may be.
        """
        first = next((i for i, m in enumerate(messages) if not isinstance(m, System)), 0)
        history = next((cut for cut in self.cuts if cut.start == first), ContextCut(first, first))
        steps = next(
            (cut for cut in self.cuts if cut.start == question + 1),
            ContextCut(question + 1, question + 1),
        )
        if history.end < question:
            users = range(history.end + 1, question)
            borders = [i for i in users if isinstance(messages[i], User)]
            cut, borders = history, [*borders, question]
        else:
            later = range(steps.end + 1, len(messages))
            cut, borders = steps, [i for i in later if isinstance(messages[i], Assistant)]
        if not borders:
            heads = sum(len(each.head) for each in self.cuts)
            self.cuts = tuple(each._replace(head=()) for each in self.cuts)
            return heads
        sizes = [_measure(self._shorten(message)) for message in messages[cut.end : borders[-1]]]
        half = sum(sizes) // 2
        end = next((i for i in borders if sum(sizes[: i - cut.end]) >= half), borders[-1])
        others = (each for each in self.cuts if each.start != cut.start)
        self.cuts = tuple(sorted((*others, cut._replace(end=end))))
        return end - cut.end

    def shorten(self, shown: Sequence[Message]) -> list[ContextTrimmed]:
        """Leave about half of the text of the tool results that the model gets.

        Returns an event for each result; none if nothing can be shortened.
        """
        results = [
            m
            for m in shown
            if isinstance(m, ToolResult)
            and len(m.text) > MIN_SHORTENED_CHARS
            and self.lengths.get(m.call_id) != _SHORTEST
        ]
        goal = sum(len(result.text) for result in results) // 2
        lengths: dict[str, int] = {}
        for result in sorted(results, key=lambda r: len(r.text), reverse=True):
            if goal <= 0:
                break
            lengths[result.call_id] = max(_SHORTEST[0], len(result.text) // 4)
            goal -= len(result.text) - lengths[result.call_id]
        self.lengths |= {call_id: (length, 0) for call_id, length in lengths.items()}
        return [
            ContextTrimmed(r.call_id, len(r.text), lengths[r.call_id])
            for r in results
            if r.call_id in lengths
        ]

    def create_reader_tools(self) -> tuple[Tool, ...]:
        """Create the tools with which the model reads and searches the shortened results."""

        @tool(name="read_result", idempotent=True, read_only=True)
        def read_result(call_id: str, page: int = 1) -> str | Untrusted:
            """Read a page of a tool result that was shortened.

            Args:
                call_id: The id in the note of the shortened result.
                page: Which page, from 1.
            """
            full = self._find_result(call_id)
            return _mark(self._read_page(full.text, page), full)

        @tool(name="search_result", idempotent=True, read_only=True)
        def search_result(call_id: str, query: str) -> str | Untrusted:
            """Search the whole text of a tool result that was shortened.

            Args:
                call_id: The id in the note of the shortened result.
                query: The text to search for.
            """
            full = self._find_result(call_id)
            return _mark(self._search(full.text, query), full)

        return read_result, search_result

    def _find_result(self, call_id: str) -> ToolResult:
        full = self._full_results.get(call_id)
        if full is None:
            raise ModelRetry(format_unknown_result(call_id, self._full_results))
        return full

    def _read_page(self, text: str, page: int) -> str:
        pages = -(-len(text) // self._page_chars)
        if not 1 <= page <= pages:
            raise ModelRetry(format_unknown_page(page, pages))
        start = (page - 1) * self._page_chars
        return format_page(text[start : start + self._page_chars], page, pages)

    def _search(self, text: str, query: str) -> str:
        """Return where a text contains another one, with what is around it, in one page."""
        excerpts: list[tuple[int, str]] = []
        end = size = 0
        for match in re.finditer(re.escape(query.strip()), text, re.IGNORECASE):
            if match.end() <= end:  # in the last excerpt
                continue
            start, end = max(match.start() - _EXCERPT_CHARS, end), match.end() + _EXCERPT_CHARS
            excerpts.append((match.start() // self._page_chars + 1, text[start:end]))
            size += end - start
            if size >= self._page_chars:
                break
        return format_search(query, excerpts, is_complete=size < self._page_chars)


def _mark(text: str, full: ToolResult) -> str | Untrusted:
    return Untrusted(text) if full.untrusted else text


def _measure(message: Message) -> int:
    """Return the approximate size of a message in characters."""
    calls = message.calls if isinstance(message, Assistant) else ()
    return len(message.text) + sum(len(call.arguments) for call in calls) + 1
