"""Hermes 2/3, Qwen2.5, Qwen3, QwQ and many that follow them: JSON in tags.

    <tool_call>
    {"name": "get_weather", "arguments": {"city": "Paris"}}
    </tool_call>

Source: chat_template of NousResearch/Hermes-2-Pro-Llama-3-8B (tool_use), Qwen/Qwen2.5-7B-Instruct
and Qwen/Qwen3-8B (tokenizer_config.json).
"""

from __future__ import annotations

from agentcall.dialects.calls import break_off, give, json_block
from agentcall.dialects.families.pythonic import pythonic_lines
from agentcall.dialects.families.thinking import ENDS
from agentcall.dialects.page import Family, Page
from agentcall.dialects.scan import BLANK, Needles, Steps

_END = "</tool_call>"
_ENDS = Needles(_END, *ENDS)


def _tool_call(page: Page) -> Steps[bool]:
    yield from page.source.skip(BLANK)
    yield from page.source.eats("```json", "```")
    if (yield from page.source.eats(_END)):
        page.out.broken(page.source.raw(), "there is no call in it")
        return True
    return (yield from json_block(page, _END, "```\n" + _END))


def unreadable(page: Page) -> Steps[bool]:
    """What no family reads between the tags; prose goes on behind the tag and has no end tag."""
    follows = yield from page.source.peek()
    if follows and follows in ".,;:?!`\"')":
        return False
    body, needle = yield from page.source.upto(_ENDS)
    if needle in ENDS:  # a tag that was only written about, or thought of
        return False
    calls = pythonic_lines(body, page.tools)
    if calls and (needle or page.source.finished):
        give(page, calls)
    elif not body.strip() and page.out.called and page.source.finished:
        page.out.drop()
    elif follows == " " and not needle:
        return False
    else:
        break_off(page, "there is no call in it")
    return True


HERMES = Family(
    "hermes",
    markers={"<tool_call>": _tool_call},
    dropped=(_END, "<|im_end|>", "<|im_start|>assistant"),
)
