"""Jamba, Hunyuan A13B, LongCat, Apertus: JSON between tags of their own.

    <tool_calls>[{"name": "get_weather", "arguments": {"city": "Paris"}}]</tool_calls>

Source: chat_template of ai21labs/AI21-Jamba-Mini-1.6 and tencent/Hunyuan-A13B-Instruct
(`<tool_calls>`), meituan-longcat/LongCat-Flash-Chat (`<longcat_tool_call>`),
swiss-ai/Apertus-8B-Instruct-2509 (`<|tools_prefix|>`, the tool's name as the key).
"""

from __future__ import annotations

from agentcall.dialects.parsers._common import read_json_block
from agentcall.dialects.parsers.base import MarkupReader, ParseState, ToolParser
from agentcall.dialects.parsers.scanner import Scan

_TAG_PAIRS = {
    "<tool_calls>": "</tool_calls>",
    "<longcat_tool_call>": "</longcat_tool_call>",
    "<|tools_prefix|>": "<|tools_suffix|>",
}


def _create_reader(closer: str) -> MarkupReader:
    def read(state: ParseState) -> Scan[bool]:
        return (yield from read_json_block(state, closer))

    return read


JAMBA = ToolParser(
    "jamba", markers={opener: _create_reader(closer) for opener, closer in _TAG_PAIRS.items()}
)
