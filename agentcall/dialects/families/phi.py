"""Phi-4-mini: a list behind a word or between tokens.

    functools[{"name": "get_weather", "arguments": {"city": "Paris"}}]
    <|tool_call|>[{"name": "get_weather", "arguments": {"city": "Paris"}}]<|/tool_call|>

Source: microsoft/Phi-4-mini-instruct, model card and tokenizer_config.json; vLLM phi4_mini_json.
"""

from __future__ import annotations

from agentcall.dialects.calls import json_block
from agentcall.dialects.page import Family, Page
from agentcall.dialects.scan import Steps


def _functools(page: Page) -> Steps[bool]:
    page.source.unread("[")
    return (yield from json_block(page, closed_by_itself=True))


def _tokens(page: Page) -> Steps[bool]:
    return (yield from json_block(page, "<|/tool_call|>", closed_by_itself=True))


PHI = Family(
    "phi",
    markers={"functools[": _functools, "<|tool_call|>": _tokens},
    dropped=("<|end|>", "<|/tool_call|>"),
)
