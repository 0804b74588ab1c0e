"""Phi-4-mini: a list behind a word or between tokens.

    functools[{"name": "get_weather", "arguments": {"city": "Paris"}}]
    <|tool_call|>[{"name": "get_weather", "arguments": {"city": "Paris"}}]<|/tool_call|>

Source: microsoft/Phi-4-mini-instruct, model card and tokenizer_config.json; vLLM phi4_mini_json.
"""

from __future__ import annotations

from agentcall.dialects.parsers._common import read_json_block
from agentcall.dialects.parsers.base import ParseState, ToolParser
from agentcall.dialects.parsers.scanner import Scan


def _read_functools(state: ParseState) -> Scan[bool]:
    state.scanner.unread("[")
    return (yield from read_json_block(state, is_self_closing=True))


def _read_tokens(state: ParseState) -> Scan[bool]:
    return (yield from read_json_block(state, "<|/tool_call|>", is_self_closing=True))


PHI = ToolParser(
    "phi",
    markers={"functools[": _read_functools, "<|tool_call|>": _read_tokens},
    ignored_tokens=("<|end|>", "<|/tool_call|>"),
)
