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

from agentcall.dialects.page import Family, Output, Page, Read
from agentcall.dialects.parts import Called, Part
from agentcall.dialects.scan import Needles, Steps


def thinking(opener: str, *closers: str) -> Read:
    """The reader of thinking that begins with the opener and ends with one of these."""

    def read(page: Page) -> Steps[bool]:
        return (yield from _Thinking(page, opener, closers).steps())

    return read


class _Thinking:
    """Thinking while it is read; `held` are the calls with which it may end."""

    def __init__(self, page: Page, opener: str, closers: tuple[str, ...]) -> None:
        self._page = page
        self._opener = opener
        self._closers = closers
        self._needles = Needles(opener, *closers, *page.markers)
        self._held: list[Called] = []
        self._raw: list[str] = []

    def steps(self) -> Steps[bool]:
        """Reads to the end of the thinking, or of the text."""
        page, source = self._page, self._page.source
        page.opened = page.opened or not (page.out.marked or page.out.last.strip())
        page.out.begin_thought()
        begun = source.place
        while True:
            needle = yield from source.flow(self._needles, self._think)
            if not needle:
                self._end(begun)
                return True
            if needle in self._closers:
                self._let_go()
                page.out.end_thought()
                page.thought_until, page.supposed = source.place, False
                return True
            if needle == self._opener:
                page.nested += 1
                self._think(needle)
            else:
                yield from self._rehearse(needle)

    def _think(self, text: str) -> None:
        if self._held and text.isspace():
            self._raw.append(text)
        elif text:
            self._let_go()
            self._page.out.think(text)

    def _let_go(self) -> None:
        """The calls so far were only thought of: something follows."""
        raw = "".join(self._raw)
        self._held, self._raw = [], []
        self._page.out.think(raw)

    def _end(self, begun: int) -> None:
        """The text ends inside of the thinking."""
        out, source = self._page.out, self._page.source
        if self._held and source.finished:
            out.end_thought()
            for call in self._held:
                out.call(call.name, call.arguments, call.id)
            return
        self._let_go()
        out.end_thought(cut=not source.finished)
        if self._page.supposed and source.finished and source.rewind(begun):
            self._page.supposed, self._page.is_late = False, True
            out.disown()

    def _rehearse(self, marker: str) -> Steps[None]:
        """A call inside of thinking is read whole, so that nothing in its arguments counts."""
        page, source, out = self._page, self._page.source, self._page.out
        place = source.place
        for read in page.markers[marker]:
            source.mark(marker)
            page.out = Output()
            done = yield from read(page)
            parts, page.out = page.out.drain(), out
            raw = marker + source.since(place)
            if done and self._is_whole(parts, raw):
                self._held += cast("list[Called]", parts)
                self._raw.append(raw)
                return
            if not source.rewind(place):
                self._think(raw)
                return
        self._think(marker)

    def _is_whole(self, parts: list[Part], raw: str) -> bool:
        """Whether these are calls, and no end of thinking stands beside their arguments."""
        texts = [part.arguments for part in parts if isinstance(part, Called)]
        return 0 < len(texts) == len(parts) and all(
            raw.count(closer) == sum(text.count(closer) for text in texts)
            for closer in self._closers
        )


def end_of_thinking(opener: str, closer: str) -> Read:
    """The reader of an end of thinking without a beginning."""

    def read(page: Page) -> Steps[bool]:
        source = page.source
        if page.opened and not page.nested:
            page.out.recall()
        else:
            before = source.since(page.thought_until).removesuffix(closer)
            page.out.reconsider(before, None if page.opened else opener)
            page.fence, page.react = "", False
        page.nested = max(page.nested - 1, 0)
        page.thought_until = source.place
        yield from ()
        return True

    return read


def tags(opener: str, closer: str) -> dict[str, Read]:
    """The readers of one pair of tags."""
    return {opener: thinking(opener, closer), closer: end_of_thinking(opener, closer)}


_PAIRS = {
    "<think>": "</think>",
    "<thinking>": "</thinking>",
    "[THINK]": "[/THINK]",
    "<seed:think>": "</seed:think>",
    "◁think▷": "◁/think▷",
    "<reasoning>": "</reasoning>",
    "<thought>": "</thought>",
    "<|begin_of_thought|>": "<|end_of_thought|>",
    "<unused94>thought": "<unused95>",
}
ENDS = tuple(_PAIRS.values())
"""The tags that end thinking, but for those of single families."""

THINKING = Family(
    "thinking",
    thinking={
        tag: read for opener, closer in _PAIRS.items() for tag, read in tags(opener, closer).items()
    },
)
