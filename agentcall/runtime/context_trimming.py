"""Trims what the model gets of a conversation; the result of the run has all of it.

Most servers refuse such a conversation. Some drop a part of it without a word: Ollama, KoboldCpp
and LM Studio. That is noticed by the prompt tokens that they report (`PromptMeter`).

Rules:
1. A result of more than `Limits.result_chars` characters is sent as its beginning, its end and a
   note between them.
2. In a conversation that is longer than the model's window, tool results are shortened, the largest
   first, to their beginning and a note; a result of fewer than `MIN_SHORTENED_CHARS` characters
   stays as it is.
3. If that is not enough, the oldest messages are left out: first those before the question of the
   run, then the oldest steps of the run. A call is never separated from its results.
4. The full text of a result is kept, and the model may read it in pages and search it with the tool
   `read_result`.
5. A trimmed conversation starts a new prefix in the server's cache.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import replace

from agentcall.errors import ModelRetry
from agentcall.events import ContextTrimmed
from agentcall.messages import (
    Assistant,
    Message,
    System,
    ToolResult,
    Transcript,
    Untrusted,
    Usage,
    User,
)
from agentcall.runtime.prompts import (
    format_page,
    format_search,
    format_shortened_result,
    format_unknown_page,
    format_unknown_result,
)
from agentcall.tools.tool import Tool, tool

_MIN_NEW_CHARS = 4_000
_MAX_CHARS_PER_TOKEN = 40
"""Far more than any text has: a prompt that grew by fewer tokens did not contain the new text."""

_MIN_WINDOW, _WINDOW_STEP, _WINDOW_SLACK = 512, 512, 8
"""In tokens: windows are multiples of the step, and a few tokens may be left for the answer."""

_CHARS_PER_TOKEN, _OTHER_CHARS_PER_TOKEN = 4, 3
"""Of ASCII text and of other text. Chinese has fewer, so that its tokens are underestimated."""

_EXCESS, _WINDOW_EXCESS = 1.25, 1.1
"""How much longer than the reported prompt, and than the window, an estimate has to be to count."""

MIN_SHORTENED_CHARS = 400
"""Characters below which a result is not worth shortening."""

PAGE_CHARS = 4_000
"""Characters of a page of `read_result`."""

_EXCERPT_CHARS = 150
"""Characters before and after a place that a search found."""


class PromptMeter:
    """Compares the prompt tokens that a server reports with the conversation that it was sent.

    Rules:
    1. A prompt with much new text has to cost more tokens than the prompt before it.
    2. A prompt that is much longer than its tokens, which are as many as a window has, was cut at
       the window.
    3. If the window is known, it decides: a conversation that fits it was not cut, and one that
       does not was cut. It is asked for only if a rule above applies or the prompt is much longer
       than its tokens.
    4. Counts that do not follow the conversation are not a sign: a count that never changes, that
       is smaller than any window, or that has only the new text (servers with a prefix cache).

    tokens: the prompt tokens of the last request. counted: the messages that it had.
    """

    def __init__(self) -> None:
        self.tokens = 0
        self.counted = 0
        self._estimated = 0
        self._estimate = 0

    def reset(self) -> None:
        """Forget the counts, as the conversation or the model is another one."""
        self.tokens = self._estimated = self._estimate = 0

    async def is_cut(
        self,
        messages: Transcript,
        usage: Usage,
        fetch_window: Callable[[], Awaitable[int | None]],
    ) -> bool:
        """Whether the server dropped a part of these messages; `usage` is that of the request."""
        tokens = usage.input_tokens // max(usage.requests, 1)
        size = len(messages)
        before, counted = self.tokens, self.counted
        self.tokens, self.counted = tokens, size
        if tokens < _MIN_WINDOW:
            return False
        new = sum(_count_result_characters(messages[i]) for i in range(counted, size))
        self._estimate += sum(_estimate_tokens(messages[i]) for i in range(self._estimated, size))
        self._estimated = size
        is_longer = self._estimate > tokens * _EXCESS
        is_short = new >= _MIN_NEW_CHARS and tokens - before < new // _MAX_CHARS_PER_TOKEN
        if not (is_longer or (before and is_short)):
            return False
        window = await fetch_window()
        if window is not None:
            return self._estimate > window * _WINDOW_EXCESS and tokens <= window
        if tokens == before:
            return False
        if is_longer and -tokens % _WINDOW_STEP <= _WINDOW_SLACK:
            return True
        has_only_new_text = tokens < before and tokens > new // (2 * _CHARS_PER_TOKEN)
        return before > 0 and is_short and not has_only_new_text


def _count_result_characters(message: Message) -> int:
    """Return the number of characters of a tool result that are not blank."""
    if not isinstance(message, ToolResult):
        return 0
    return len(message.text) - message.text.count(" ") - message.text.count("\n")


def _estimate_tokens(message: Message) -> int:
    """Return about how many tokens a message has, rather too few than too many."""
    texts = [message.text]
    if isinstance(message, Assistant):
        texts += (call.arguments for call in message.calls)
    return sum(
        len(text) // (_CHARS_PER_TOKEN if text.isascii() else _OTHER_CHARS_PER_TOKEN)
        for text in texts
    )


class TrimmedContext:
    """What was shortened and left out in a run: the full results, and the omitted messages."""

    def __init__(self) -> None:
        self._full_results: dict[str, ToolResult] = {}
        self._page_chars = PAGE_CHARS
        # By the index in the trimmed conversation at which they are missing.
        self._omitted: defaultdict[int, list[Message]] = defaultdict(list)

    @property
    def omitted_count(self) -> int:
        """The number of messages that were left out."""
        return sum(map(len, self._omitted.values()))

    @property
    def has_shortened_results(self) -> bool:
        """Whether there is something to read with `read_result`."""
        return bool(self._full_results)

    def offload(self, result: ToolResult, limit: int) -> tuple[ToolResult, ContextTrimmed]:
        """Return a result with about `limit` characters of its text, and the event."""
        text = self._full_results.setdefault(result.call_id, result).text
        tail = limit // 5
        shortened = format_shortened_result(
            text[: limit - tail], len(text), result.call_id, text[len(text) - tail :]
        )
        return replace(result, text=shortened), ContextTrimmed(result.call_id, len(text), limit)

    def omit(self, messages: Sequence[Message], question: int) -> tuple[Sequence[Message], int]:
        """Return the messages without the older half of what may be left out.

        question: the index of the message that the run answers, which stays; the new one is
            returned as well.
        """
        first = next((i for i, m in enumerate(messages) if not isinstance(m, System)), 0)
        if first < question:
            borders = [i for i in range(first + 1, question) if isinstance(messages[i], User)]
            borders.append(question)
        else:
            first = question + 1
            steps = range(first + 1, len(messages))
            borders = [i for i in steps if isinstance(messages[i], Assistant)]
        if not borders:
            return messages, question
        sizes = [_measure(message) for message in messages[first : borders[-1]]]
        half = sum(sizes) // 2
        end = next((i for i in borders if sum(sizes[: i - first]) >= half), borders[-1])
        self._omitted[first] += messages[first:end]
        kept = [*messages[:first], *messages[end:]]
        return kept, question - (end - first) if first < question else question

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
        """Return the whole conversation: the full texts of results, and the omitted messages."""
        if not self._full_results and not self._omitted:
            return tuple(messages)
        everything = list(messages)
        for index in sorted(self._omitted, reverse=True):
            everything[index:index] = self._omitted[index]
        return tuple(
            self._full_results.get(m.call_id, m) if isinstance(m, ToolResult) else m
            for m in everything
        )

    def create_reader_tool(self) -> Tool:
        """Create the tool with which the model reads the shortened results."""

        @tool(name="read_result", idempotent=True, read_only=True)
        def read_result(call_id: str, page: int = 1, query: str = "") -> str | Untrusted:
            """Read a page of a tool result that was shortened, or search in all of it.

            Args:
                call_id: The id in the note of the shortened result.
                page: Which page, from 1.
                query: A text to search for, in place of reading a page.
            """
            full = self._full_results.get(call_id)
            if full is None:
                raise ModelRetry(format_unknown_result(call_id, self._full_results))
            text = full.text
            found = self._search(text, query) if query.strip() else self._read_page(text, page)
            return Untrusted(found) if full.untrusted else found

        return read_result

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


def _measure(message: Message) -> int:
    """Return the approximate size of a message in characters."""
    calls = message.calls if isinstance(message, Assistant) else ()
    return len(message.text) + sum(len(call.arguments) for call in calls) + 1
