"""Thinking between tags: <think> of Qwen3, QwQ, DeepSeek R1, GLM, Intern-S1; [THINK] of Magistral.

Source: chat_template of Qwen/Qwen3-8B, deepseek-ai/DeepSeek-R1, zai-org/GLM-4.5; mistral-common
(v13, special tokens [THINK] and [/THINK]); chat_template of ByteDance-Seed/Seed-OSS-36B-Instruct
(<seed:think>) and of moonshotai/Kimi-VL-A3B-Thinking; the last four tags of the table are those
that other models were trained or prompted to write.

Rules:
1. A call inside thinking is thinking, not a call: models rehearse calls there.
2. Exception: the model had finished, never left the thinking (Qwen3.5 forgets `</think>`) and ended
   its answer with whole calls. Nothing was thought after them, so these are calls.
3. An end without a beginning means that the server's chat template wrote the beginning: all text
   before it was thinking, calls included.
4. If the answer itself began with thinking and ended it, another end is a stray tag. Calls before
   it are void: they may have been part of thinking.
5. If the beginning was only assumed, and a model that had finished never ended it, everything is
   read again as an answer without thinking. Only the calls at its end count.
6. An end of thinking inside the arguments of a whole call is part of the arguments.
"""

from __future__ import annotations

from typing import cast

from agentcall.dialects.answer_parts import MessagePart, ToolCallPart
from agentcall.dialects.parsers.scanner import Delimiters, Scan
from agentcall.dialects.parsers.tool_parser import MarkupReader, ParseState, PartWriter, ToolParser


def create_thinking_reader(opener: str, *closers: str) -> MarkupReader:
    """Create a reader of thinking that begins with the opener and ends with one of the closers."""

    def read(state: ParseState) -> Scan[bool]:
        return (yield from _ThinkingReader(state, opener, closers).read())

    return read


class _ThinkingReader:
    """Reads thinking; `_final_calls` are the calls with which it may end (rule 2)."""

    def __init__(self, state: ParseState, opener: str, closers: tuple[str, ...]) -> None:
        self._state = state
        self._opener = opener
        self._closers = closers
        self._delimiters = Delimiters(opener, *closers, *state.call_markers)
        self._final_calls: list[ToolCallPart] = []
        self._raw: list[str] = []

    def read(self) -> Scan[bool]:
        """Read to the end of the thinking, or of the text."""
        state, scanner = self._state, self._state.scanner
        state.began_with_thinking = state.began_with_thinking or not (
            state.writer.has_markup or state.writer.last_character.strip()
        )
        state.writer.begin_thinking()
        start = scanner.offset
        while True:
            delimiter = yield from scanner.stream_until(self._delimiters, self._write_thinking)
            if not delimiter:
                self._finish(start)
                return True
            if delimiter in self._closers:
                self._release_calls()
                state.writer.end_thinking()
                state.thinking_end, state.is_thinking_assumed = scanner.offset, False
                return True
            if delimiter == self._opener:
                state.thinking_depth += 1
                self._write_thinking(delimiter)
            else:
                yield from self._read_rehearsed_call(delimiter)

    def _write_thinking(self, text: str) -> None:
        if self._final_calls and text.isspace():
            self._raw.append(text)
        elif text:
            self._release_calls()
            self._state.writer.write_thinking(text)

    def _release_calls(self) -> None:
        """Turn the calls so far into thinking, since something follows them."""
        raw = "".join(self._raw)
        self._final_calls, self._raw = [], []
        self._state.writer.write_thinking(raw)

    def _finish(self, start: int) -> None:
        """Finish when the text ends inside the thinking."""
        out, scanner = self._state.writer, self._state.scanner
        if self._final_calls and scanner.is_complete:
            out.end_thinking()
            for call in self._final_calls:
                out.write_call(call.name, call.arguments, call.id)
            return
        self._release_calls()
        out.end_thinking(is_cut=not scanner.is_complete)
        if self._state.is_thinking_assumed and scanner.is_complete and scanner.rewind(start):
            self._state.is_thinking_assumed, self._state.is_reread = False, True
            out.retract_thinking()

    def _read_rehearsed_call(self, marker: str) -> Scan[None]:
        """Read a call inside thinking as a whole, so that tags in its arguments do not count."""
        state, scanner, out = self._state, self._state.scanner, self._state.writer
        start = scanner.offset
        for read in state.call_markers[marker]:
            scanner.set_mark(marker)
            state.writer = PartWriter()  # the call may turn out to be thinking
            is_call = yield from read(state)
            parts, state.writer = state.writer.drain(), out
            raw = marker + scanner.get_text_since(start)
            if is_call and self._is_whole(parts, raw):
                self._final_calls += cast("list[ToolCallPart]", parts)
                self._raw.append(raw)
                return
            if not scanner.rewind(start):
                self._write_thinking(raw)
                return
        self._write_thinking(marker)

    def _is_whole(self, parts: list[MessagePart], raw: str) -> bool:
        """Whether the parts are calls, and no end of thinking occurs outside their arguments."""
        texts = [part.arguments for part in parts if isinstance(part, ToolCallPart)]
        return 0 < len(texts) == len(parts) and all(
            raw.count(closer) == sum(text.count(closer) for text in texts)
            for closer in self._closers
        )


def create_thinking_end_reader(opener: str, closer: str) -> MarkupReader:
    """Create a reader of an end of thinking that has no beginning."""

    def read(state: ParseState) -> Scan[bool]:
        scanner = state.scanner
        if state.began_with_thinking and not state.thinking_depth:
            state.writer.retract_calls()
        else:
            before = scanner.get_text_since(state.thinking_end).removesuffix(closer)
            state.writer.retract_as_thinking(before, None if state.began_with_thinking else opener)
            state.fence, state.has_react_labels = "", False
        state.thinking_depth = max(state.thinking_depth - 1, 0)
        state.thinking_end = scanner.offset
        yield from ()
        return True

    return read


def create_tag_readers(opener: str, closer: str) -> dict[str, MarkupReader]:
    """Create the readers of a pair of tags."""
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
"""The tags that end thinking, except for those of single families."""

THINKING = ToolParser(
    "thinking",
    thinking={
        tag: read
        for opener, closer in _TAG_PAIRS.items()
        for tag, read in create_tag_readers(opener, closer).items()
    },
)
