"""Kimi K3: elements of special tokens, for thinking, response and calls.

    <|open|>think<|sep|>...<|close|>think<|sep|><|open|>response<|sep|>...<|close|>response<|sep|>
    <|open|>tools<|sep|><|open|>call tool="get_weather" index="1"<|sep|>
    <|open|>argument key="city" type="string"<|sep|>Paris<|close|>argument<|sep|>
    <|close|>call<|sep|><|close|>tools<|sep|><|close|>message<|sep|>

Source: encoding_k3.py of moonshotai/Kimi-K3. Strings stand as they are, other values as JSON; the
attributes are escaped as in XML.
"""

from __future__ import annotations

import html
import json
import re

from agentcall.dialects.calls import format_object, reject_markup
from agentcall.dialects.families.thinking import create_thinking_end_reader, create_thinking_reader
from agentcall.dialects.page import ParseState, ToolParser
from agentcall.dialects.scan import BLANK, Delimiters, Scan
from agentcall.dialects.tagged import ValueTags, encode_value, read_tagged_value
from agentcall.jsontext import Members

_K3_BEGIN_ARGUMENT = "<|open|>argument "
_K3_END_CALL = "<|close|>call<|sep|>"
_THINK, _END_THINK = "<|open|>think<|sep|>", "<|close|>think<|sep|>"
_K3_HEAD_END = Delimiters("<|sep|>")
_K3_VALUE_TAGS = ValueTags("<|close|>argument<|sep|>", (_K3_BEGIN_ARGUMENT, _K3_END_CALL))
_ATTRIBUTE = re.compile(r'(\w+)="([^"]*)"')
_ATTRIBUTES = re.compile(r'\s*(?:\w+="[^"<>|]*"\s*)*')


def _parse_attributes(head: str) -> dict[str, str]:
    """The attributes of an element; none if anything else stands in its head."""
    if not _ATTRIBUTES.fullmatch(head):
        return {}
    return {name: html.unescape(value) for name, value in _ATTRIBUTE.findall(head)}


def _read_k3_call(state: ParseState) -> Scan[bool]:
    scanner = state.scanner
    head, end = yield from scanner.read_until(_K3_HEAD_END)
    found: Members = []
    while end:
        yield from scanner.skip(BLANK)
        if (yield from scanner.accept(_K3_END_CALL)):
            state.writer.write_call(_parse_attributes(head).get("tool", ""), format_object(found))
            return True
        member = (yield from scanner.accept(_K3_BEGIN_ARGUMENT)) and (
            yield from _read_k3_argument(state)
        )
        if not member:
            break
        found.append(member)
    reject_markup(state, "its elements are not well formed")
    return True


def _read_k3_argument(state: ParseState) -> Scan[tuple[str, str] | None]:
    head, end = yield from state.scanner.read_until(_K3_HEAD_END)
    value, tag = yield from read_tagged_value(state.scanner, _K3_VALUE_TAGS)
    if not end or not tag:
        return None
    attributes = _parse_attributes(head)
    key = attributes.get("key", "")
    if not key:
        return None
    if attributes.get("type", "string") == "string":
        return key, json.dumps(value, ensure_ascii=False)
    return key, encode_value(value, {}, {})


KIMI_K3 = ToolParser(
    "kimi_k3",
    markers={"<|open|>call ": _read_k3_call},
    thinking={
        _THINK: create_thinking_reader(
            _THINK, _END_THINK, "<|open|>response<|sep|>", "<|open|>tools<|sep|>"
        ),
        _END_THINK: create_thinking_end_reader(_THINK, _END_THINK),
    },
    ignored_tokens=(
        "<|open|>response<|sep|>",
        "<|close|>response<|sep|>",
        "<|open|>tools<|sep|>",
        "<|close|>tools<|sep|>",
        "<|close|>message<|sep|>",
        '<|open|>message role="assistant"<|sep|>',
    ),
)
