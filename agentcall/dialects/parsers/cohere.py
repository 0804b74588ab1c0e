"""Cohere Command R7B, Command A: a list between action tokens.

    <|START_THINKING|>...<|END_THINKING|><|START_ACTION|>
    [{"tool_call_id": "0", "tool_name": "get_weather", "parameters": {"city": "Paris"}}]
    <|END_ACTION|>

Source: chat_template of CohereLabs/c4ai-command-a-03-2025 (tool_use). Command R's `Action:` with a
fenced list: families/react.py.
"""

from __future__ import annotations

from agentcall.dialects.parsers._common import read_json_block, reject_markup
from agentcall.dialects.parsers.base import ParseState, ToolParser
from agentcall.dialects.parsers.scanner import Scan
from agentcall.dialects.parsers.thinking import create_tag_readers

_END_ACTION = "<|END_ACTION|>"


def _read_action(state: ParseState) -> Scan[bool]:
    if not (yield from read_json_block(state, _END_ACTION)):
        reject_markup(state, "there is no call in it")
    return True


COHERE = ToolParser(
    "cohere",
    markers={"<|START_ACTION|>": _read_action},
    thinking=create_tag_readers("<|START_THINKING|>", "<|END_THINKING|>"),
    ignored_tokens=(
        _END_ACTION,
        "<|START_RESPONSE|>",
        "<|END_RESPONSE|>",
        "<|START_TEXT|>",
        "<|END_TEXT|>",
        "<|END_OF_TURN_TOKEN|>",
    ),
)
