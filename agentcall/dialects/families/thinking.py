"""Thinking between tags: <think> of Qwen3, QwQ, DeepSeek R1, GLM, Intern-S1; [THINK] of Magistral.

Source: chat_template of Qwen/Qwen3-8B, deepseek-ai/DeepSeek-R1, zai-org/GLM-4.5; mistral-common
(v13, special tokens [THINK] and [/THINK]).

Rules:
1. A call inside of thinking is no call, it is thinking: models rehearse calls there.
2. It is a call if the model was done and never left the thinking (Qwen3.5 forgets `</think>`), or
   if its family calls while it thinks (InternLM).
3. An end without a beginning means that the server's template wrote the beginning: all text so
   far was thinking.
"""

from __future__ import annotations

from agentcall.dialects.page import Family, Page, Read
from agentcall.dialects.scan import Needles, Steps


def thinking(*closers: str) -> Read:
    """The reader of thinking that ends with one of these."""

    def read(page: Page) -> Steps[bool]:
        page.out.begin_thought()
        needles = Needles(*closers, *page.markers)
        while True:
            needle = yield from page.source.flow(needles, page.out.think)
            if not needle or needle in closers:
                page.out.end_thought(cut=not needle and not page.source.finished)
                return True
            if (yield from _rehearsed(page, needle, Needles(*closers))):
                return True

    return read


def _rehearsed(page: Page, marker: str, ends: Needles) -> Steps[bool]:
    """A call inside of thinking; whether the thinking is over with it."""
    source, out = page.source, page.out
    source.mark(marker)
    if marker in page.while_thinking:
        if not (yield from page.while_thinking[marker](page)):
            out.think(source.raw())
        return False
    _, closer = yield from source.upto(ends)
    if not closer and source.finished:
        out.end_thought()
        if source.give_back():
            return True
    out.think(source.raw().removesuffix(closer) if closer else source.raw())
    out.end_thought(cut=not source.finished and not closer)
    return True


def end_of_thinking(page: Page) -> Steps[bool]:
    """An end of thinking without a beginning."""
    if page.out.thought or page.out.called:
        page.out.drop()
    else:
        page.out.reconsider()
    yield from ()
    return True


THINKING = Family(
    "thinking",
    thinking={
        "<think>": thinking("</think>"),
        "</think>": end_of_thinking,
        "<thinking>": thinking("</thinking>"),
        "[THINK]": thinking("[/THINK]"),
        "[/THINK]": end_of_thinking,
    },
)
