"""Cohere Command R7B, Command A: a list between action tokens.

    <|START_THINKING|>...<|END_THINKING|><|START_ACTION|>
    [{"tool_call_id": "0", "tool_name": "get_weather", "parameters": {"city": "Paris"}}]
    <|END_ACTION|>

Source: chat_template of CohereLabs/c4ai-command-a-03-2025 (tool_use). Command R's `Action:` with a
fenced list: families/react.py.
"""

from __future__ import annotations

from agentcall.dialects.calls import break_off, json_block
from agentcall.dialects.families.thinking import tags
from agentcall.dialects.page import Family, Page
from agentcall.dialects.scan import Steps

_END = "<|END_ACTION|>"


def _action(page: Page) -> Steps[bool]:
    if not (yield from json_block(page, _END)):
        break_off(page, "there is no call in it")
    return True


COHERE = Family(
    "cohere",
    markers={"<|START_ACTION|>": _action},
    thinking=tags("<|START_THINKING|>", "<|END_THINKING|>"),
    dropped=(
        _END,
        "<|START_RESPONSE|>",
        "<|END_RESPONSE|>",
        "<|START_TEXT|>",
        "<|END_TEXT|>",
        "<|END_OF_TURN_TOKEN|>",
    ),
)
