"""Granite 3.x, Granite 4 and Granite 20B function calling: JSON behind a marker.

    <|tool_call|>[{"name": "get_weather", "arguments": {"city": "Paris"}}]

Source: chat_template of ibm-granite/granite-3.0-8b-instruct (`<|tool_call|>`), of
granite-3.1-8b-instruct (`<tool_call>` before a list), of granite-20b-functioncalling
(`<function_call>` before an object). Granite 4 writes as Hermes does. The last bracket ends it.
"""

from __future__ import annotations

from agentcall.dialects.calls import json_block
from agentcall.dialects.page import Family, Page
from agentcall.dialects.scan import BLANK, Steps


def _call(page: Page) -> Steps[bool]:
    closers = ("<|/tool_call|>", "</tool_call>", "</function_call>")
    return (yield from json_block(page, *closers, closed_by_itself=True))


def _list(page: Page) -> Steps[bool]:
    yield from page.source.skip(BLANK)
    if (yield from page.source.peek()) != "[":
        return False
    return (yield from json_block(page, "</tool_call>", closed_by_itself=True))


GRANITE = Family(
    "granite",
    markers={"<|tool_call|>": _call, "<function_call>": _call, "<tool_call>": _list},
    dropped=("<|end_of_text|>", "<|/tool_call|>"),
)
