"""Thinking between tags: <think> of Qwen3, QwQ, DeepSeek R1, GLM, Intern-S1; [THINK] of Magistral.

Source: chat_template of Qwen/Qwen3-8B, deepseek-ai/DeepSeek-R1, zai-org/GLM-4.5; mistral-common
(v13, special tokens [THINK] and [/THINK]); chat_template of ByteDance-Seed/Seed-OSS-36B-Instruct
(<seed:think>) and of moonshotai/Kimi-VL-A3B-Thinking; the last four tags of the table are what
other models were trained or told to write.

Rules:
1. A call inside of thinking is no call, it is thinking: models rehearse calls there.
2. Only where the model was done, never left the thinking (Qwen3.5 forgets `</think>`) and ended its
   answer with whole calls, these are calls: nothing was thought behind them.
3. An end without a beginning means that the server's template wrote the beginning: all that came
   before it was thinking, calls too.
4. Where the answer itself began with thinking that has ended, another end is a stray tag. What was
   called before it is not called: it may have been thought of.
5. Where the beginning was only supposed, and a model that was done never ended it, all is read once
   more as an answer without thinking; calls count with which it ends.
6. An end of thinking that stands in the arguments of a whole call is a part of them.
"""

from __future__ import annotations

from typing import cast

from agentcall.dialects.base import MessagePart, ToolCallPart
from agentcall.dialects.parsers.base import MarkupReader, ParseState, PartWriter, ToolParser
from agentcall.dialects.parsers.scanner import Delimiters, Scan


def create_thinking_reader(opener: str, *closers: str) -> MarkupReader:
    """The reader of thinking that begins with the opener and ends with one of these."""

    def read(state: ParseState) -> Scan[bool]:
        return (yield from _ThinkingReader(state, opener, closers).read())

    return read


class _ThinkingReader:
    """Thinking while it is read; `held` are the calls with which it may end."""

    def __init__(self, state: ParseState, opener: str, closers: tuple[str, ...]) -> None:
        self._page = state
        self._opener = opener
        self._closers = closers
        self._delimiters = Delimiters(opener, *closers, *state.call_markers)
        self._final_calls: list[ToolCallPart] = []
        self._raw: list[str] = []

    def read(self) -> Scan[bool]:
        """Reads to the end of the thinking, or of the text."""
        state, scanner = self._page, self._page.scanner
        state.began_with_thinking = state.began_with_thinking or not (
            state.writer.has_markup or state.writer.last_character.strip()
        )
        state.writer.begin_thinking()
        begun = scanner.consumed
        while True:
            needle = yield from scanner.stream_until(self._delimiters, self._write_thinking)
            if not needle:
                self._finish(begun)
                return True
            if needle in self._closers:
                self._release_calls()
                state.writer.end_thinking()
                state.thinking_end, state.is_thinking_assumed = scanner.consumed, False
                return True
            if needle == self._opener:
                state.thinking_depth += 1
                self._write_thinking(needle)
            else:
                yield from self._read_rehearsed_call(needle)

    def _write_thinking(self, text: str) -> None:
        if self._final_calls and text.isspace():
            self._raw.append(text)
        elif text:
            self._release_calls()
            self._page.writer.write_thinking(text)

    def _release_calls(self) -> None:
        """The calls so far were only thought of: something follows."""
        raw = "".join(self._raw)
        self._final_calls, self._raw = [], []
        self._page.writer.write_thinking(raw)

    def _finish(self, start: int) -> None:
        """The text ends inside of the thinking."""
        out, scanner = self._page.writer, self._page.scanner
        if self._final_calls and scanner.is_complete:
            out.end_thinking()
            for call in self._final_calls:
                out.write_call(call.name, call.arguments, call.id)
            return
        self._release_calls()
        out.end_thinking(is_cut=not scanner.is_complete)
        if self._page.is_thinking_assumed and scanner.is_complete and scanner.rewind(start):
            self._page.is_thinking_assumed, self._page.is_reread = False, True
            out.retract_thinking()

    def _read_rehearsed_call(self, marker: str) -> Scan[None]:
        """A call inside of thinking is read whole, so that nothing in its arguments counts."""
        state, scanner, out = self._page, self._page.scanner, self._page.writer
        place = scanner.consumed
        for read in state.call_markers[marker]:
            scanner.set_mark(marker)
            state.writer = PartWriter()
            done = yield from read(state)
            parts, state.writer = state.writer.drain(), out
            raw = marker + scanner.get_text_since(place)
            if done and self._is_whole(parts, raw):
                self._final_calls += cast("list[ToolCallPart]", parts)
                self._raw.append(raw)
                return
            if not scanner.rewind(place):
                self._write_thinking(raw)
                return
        self._write_thinking(marker)

    def _is_whole(self, parts: list[MessagePart], raw: str) -> bool:
        """Whether these are calls, and no end of thinking stands beside their arguments."""
        texts = [part.arguments for part in parts if isinstance(part, ToolCallPart)]
        return 0 < len(texts) == len(parts) and all(
            raw.count(closer) == sum(text.count(closer) for text in texts)
            for closer in self._closers
        )


def create_thinking_end_reader(opener: str, closer: str) -> MarkupReader:
    """The reader of an end of thinking without a beginning."""

    def read(state: ParseState) -> Scan[bool]:
        scanner = state.scanner
        if state.began_with_thinking and not state.thinking_depth:
            state.writer.retract_calls()
        else:
            before = scanner.get_text_since(state.thinking_end).removesuffix(closer)
            state.writer.retract_as_thinking(before, None if state.began_with_thinking else opener)
            state.fence, state.has_react_labels = "", False
        state.thinking_depth = max(state.thinking_depth - 1, 0)
        state.thinking_end = scanner.consumed
        yield from ()
        return True

    return read


def create_tag_readers(opener: str, closer: str) -> dict[str, MarkupReader]:
    """The readers of one pair of tags."""
    return {
        opener: create_thinking_reader(opener, closer),
        closer: create_thinking_end_reader(opener, closer),
    }


_TAG_PAIRS = {
    "<think>": "</think>",
    "<Think>": "</Think>",
    "<THINK>": "</THINK>",
    "<thinking>": "</thinking>",
    "<Thinking>": "</Thinking>",
    "<THINKING>": "</THINKING>",
    "[THINK]": "[/THINK]",
    "<seed:think>": "</seed:think>",
    "◁think▷": "◁/think▷",
    "<reasoning>": "</reasoning>",
    "<thought>": "</thought>",
    "<|begin_of_thought|>": "<|end_of_thought|>",
    "<unused94>thought": "<unused95>",
}
END_TAGS = tuple(_TAG_PAIRS.values())
"""The tags that end thinking, but for those of single families."""

THINKING = ToolParser(
    "thinking",
    thinking={
        tag: read
        for opener, closer in _TAG_PAIRS.items()
        for tag, read in create_tag_readers(opener, closer).items()
    },
)
