"""Granite 3.x, Granite 4 and Granite 20B function calling: JSON behind a marker.

    <|tool_call|>[{"name": "get_weather", "arguments": {"city": "Paris"}}]

Source: chat_template of ibm-granite/granite-3.0-8b-instruct (`<|tool_call|>`), of
granite-3.1-8b-instruct (`<tool_call>` before a list), of granite-20b-functioncalling
(`<function_call>` before an object). Granite 4 writes as Hermes does. The last bracket ends it.
"""

from __future__ import annotations

from agentcall.dialects.parsers._common import read_json_block
from agentcall.dialects.parsers.base import ParseState, ToolParser
from agentcall.dialects.parsers.scanner import BLANK, Scan


def _read_call(state: ParseState) -> Scan[bool]:
    closers = ("<|/tool_call|>", "</tool_call>", "</function_call>")
    return (yield from read_json_block(state, *closers, is_self_closing=True))


def _read_list(state: ParseState) -> Scan[bool]:
    yield from state.scanner.skip(BLANK)
    if (yield from state.scanner.peek()) != "[":
        return False
    return (yield from read_json_block(state, "</tool_call>", is_self_closing=True))


GRANITE = ToolParser(
    "granite",
    markers={"<|tool_call|>": _read_call, "<function_call>": _read_call, "<tool_call>": _read_list},
    ignored_tokens=("<|end_of_text|>", "<|/tool_call|>"),
)
