"""Measures a conversation in tokens, against what the server reports and the model's window.

Most servers refuse a conversation that is longer than the window. Some drop a part of it without a
word: Ollama, KoboldCpp and LM Studio. That is noticed by the prompt tokens that they report.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import orjson

from agentcall.dialects.dialect import PromptSpec
from agentcall.messages import Assistant, Image, Message, ToolResult, Transcript, Usage, User
from agentcall.tools.tool import Tool

SMALLEST_WINDOW = 2_048
"""In tokens: no model is used with a smaller one, unless `Limits.context` says so."""

_MIN_NEW_CHARS = 4_000
_MAX_CHARS_PER_TOKEN = 40
"""Far more than any text has: a prompt that grew by fewer tokens did not contain the new text."""

_MIN_WINDOW, _WINDOW_STEP, _WINDOW_SLACK = 512, 512, 8
"""In tokens: windows are multiples of the step, and a few tokens may be left for the answer."""

_CHARS_PER_TOKEN, _OTHER_CHARS_PER_TOKEN = 4, 3
"""Of ASCII text and of other text. Chinese has fewer, so that its tokens are underestimated."""

_BYTES_PER_TOKEN = 3.3
"""Of text in UTF-8: rather few, so that tokens are overestimated."""

TOOL_TOKENS = 300
"""More than the description of most tools has."""

_MESSAGE_TOKENS, _IMAGE_TOKENS = 8, 500
"""What a message costs besides its text, and an image, in a first guess."""

_ANSWER_SHARE, _MAX_ANSWER_TOKENS = 8, 2_048
"""The part of the window that is left for an answer without `max_tokens`, and its upper limit."""

_EXCESS, _WINDOW_EXCESS = 1.25, 1.1
"""How much longer than the reported prompt, and than the window, an estimate has to be to count."""

_MIN_RATIO, _MAX_RATIO = 0.5, 6.0
"""The reported tokens of an estimated one; other counts do not follow the conversation."""


class PromptMeter:
    """Estimates prompts, and compares them with the tokens that a server reports.

    Rules for a prompt that was cut:
    1. A prompt with much new text has to cost more tokens than the prompt before it.
    2. A prompt that is much longer than its tokens, which are as many as a window has, was cut at
       the window.
    3. If the window is known, it decides: a conversation that fits it was not cut, and one that
       does not was cut. It is asked for only if a rule above applies, the prompt is much longer
       than its tokens, or no tokens are reported.
    4. Counts that do not follow the conversation are not a sign: a count that never changes, that
       is smaller than any window, or that has only the new text (servers with a prefix cache).

    tokens: the prompt tokens of the last request. counted: the messages of the last one that was
        measured.
    ratio: the reported tokens of an estimated one; 0 as long as none were reported.
    """

    # Attributes of the class, as a short conversation is not measured.
    tokens = counted = 0
    ratio = 0.0
    _measured = _estimated = _estimate = 0
    _overestimated = _overestimate = 0  # the messages of an estimate without reported tokens
    _tools: tuple[Tool, ...] = ()
    _tool_tokens = 0

    def reset(self) -> None:
        """Forget the counts, as the conversation or the model is another one."""
        self.tokens = self._measured = self._estimated = self._estimate = 0
        self._overestimated = self._overestimate = 0

    def estimate(self, messages: Transcript, prompt: PromptSpec) -> int:
        """Return about how many tokens the next request has, from the counts of the last one."""
        if not self.ratio:
            size = len(messages)
            for index in range(self._overestimated, size):
                self._overestimate += _overestimate_message(messages[index])
            self._overestimated = size
            return self.estimate_prompt(prompt) + self._overestimate
        if not self._measured:
            return self.estimate_whole(messages, prompt)
        added = sum(estimate_message(messages[i]) for i in range(self.counted, len(messages)))
        return self._measured + round(added * self.ratio)

    def estimate_whole(self, messages: Transcript, prompt: PromptSpec) -> int:
        """Return about how many tokens a request has, also of another conversation."""
        if not self.ratio:
            return self.estimate_prompt(prompt) + sum(map(_overestimate_message, messages))
        return round(
            (sum(map(estimate_message, messages)) + self.estimate_prompt(prompt)) * self.ratio
        )

    async def is_cut(
        self,
        messages: Transcript,
        prompt: PromptSpec,
        usage: Usage,
        fetch_window: Callable[[], Awaitable[int | None]],
    ) -> bool:
        """Whether the server dropped a part of these messages; `usage` is that of the request."""
        size, before, counted = len(messages), self.tokens, self.counted
        self.tokens = self._measured = tokens = usage.input_tokens // max(usage.requests, 1)
        self.counted = size
        if 0 < tokens < _MIN_WINDOW:  # rule 4
            self.ratio = 0.0
            return False
        self._add_new(messages)
        new = 0
        for index in range(counted, size):
            new += _count_result_characters(messages[index])
        is_cut = await self._compare(tokens, before, new, fetch_window)
        ratio = tokens / (self._estimate + self.estimate_prompt(prompt) or 1)
        is_plausible = not is_cut and _MIN_RATIO <= ratio <= _MAX_RATIO
        self.ratio = ratio if is_plausible else 0.0
        return is_cut

    async def _compare(
        self,
        tokens: int,
        before: int,
        new: int,
        fetch_window: Callable[[], Awaitable[int | None]],
    ) -> bool:
        """Apply the rules to the tokens of this prompt and the one before; new: characters."""
        if not tokens:  # nothing is reported
            window = await fetch_window() if self._estimate > SMALLEST_WINDOW else None
            return window is not None and self._estimate > window * _WINDOW_EXCESS
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

    def estimate_prompt(self, prompt: PromptSpec) -> int:
        """Return about how many tokens the instructions and the tools have."""
        if prompt.tools is not self._tools:
            self._tools = prompt.tools
            sizes = [len(orjson.dumps(tool.definition)) for tool in prompt.tools]
            self._tool_tokens = sum(sizes) // _CHARS_PER_TOKEN
        return _estimate_text(prompt.instructions) + self._tool_tokens

    def _add_new(self, messages: Transcript) -> None:
        """Add the messages that were not estimated yet."""
        size = len(messages)
        for index in range(self._estimated, size):
            self._estimate += estimate_message(messages[index])
        self._estimated = size


def _count_result_characters(message: Message) -> int:
    """Return the number of characters of a tool result that are not blank."""
    if not isinstance(message, ToolResult):
        return 0
    return len(message.text) - message.text.count(" ") - message.text.count("\n")


def estimate_message(message: Message) -> int:
    """Return about how many tokens a message has, rather too few than too many."""
    tokens = _estimate_text(message.text)
    if isinstance(message, Assistant):
        for call in message.calls:
            tokens += _estimate_text(call.arguments)
    return tokens


def _overestimate_message(message: Message) -> int:
    """Return about how many tokens a message has, rather too many than too few."""
    tokens, images = _MESSAGE_TOKENS + overestimate_text(message.text), 0
    match message:
        case Assistant():
            tokens += sum(overestimate_text(call.arguments) for call in message.calls)
        case ToolResult():
            images = len(message.images)
        case User(content) if not isinstance(content, str):
            images = sum(isinstance(part, Image) for part in content)
        case _:
            pass
    return tokens + _IMAGE_TOKENS * images


def overestimate_text(text: str) -> int:
    """Return about how many tokens a text has, rather too many than too few."""
    return round(len(text.encode("utf-8", "replace")) / _BYTES_PER_TOKEN)


def _estimate_text(text: str) -> int:
    return len(text) // (_CHARS_PER_TOKEN if text.isascii() else _OTHER_CHARS_PER_TOKEN)


def reserve_answer(window: int, max_tokens: int | None) -> int:
    """Return how many tokens of a window are left for the answer."""
    if max_tokens is not None:
        return min(max_tokens, window // 2)
    return min(window // _ANSWER_SHARE, _MAX_ANSWER_TOKENS)
