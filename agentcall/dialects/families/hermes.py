"""Hermes 2/3, Qwen2.5, Qwen3, QwQ and many that follow them: JSON in tags.

    <tool_call>
    {"name": "get_weather", "arguments": {"city": "Paris"}}
    </tool_call>

Source: chat_template of NousResearch/Hermes-2-Pro-Llama-3-8B (tool_use), Qwen/Qwen2.5-7B-Instruct
and Qwen/Qwen3-8B (tokenizer_config.json).
"""

from __future__ import annotations

from agentcall.dialects.calls import CUT, json_block
from agentcall.dialects.page import Family, Page
from agentcall.dialects.scan import BLANK, Needles, Steps

_END = "</tool_call>"
_ENDS = Needles(_END)


def _tool_call(page: Page) -> Steps[bool]:
    yield from page.source.skip(BLANK)
    yield from page.source.eats("```json", "```")
    if (yield from page.source.eats(_END)):
        page.out.broken(page.source.raw(), "there is no call in it")
        return True
    return (yield from json_block(page, _END, "```\n" + _END))


def unreadable(page: Page) -> Steps[bool]:
    """What no family reads between the tags; prose about the tag has no end of it."""
    _, needle = yield from page.source.upto(_ENDS)
    if not needle and page.source.finished and page.source.raw().strip() != "<tool_call>":
        return False
    page.out.broken(page.source.raw(), "there is no call in it" if needle else CUT)
    return True


HERMES = Family("hermes", markers={"<tool_call>": _tool_call}, dropped=(_END, "<|im_end|>"))
