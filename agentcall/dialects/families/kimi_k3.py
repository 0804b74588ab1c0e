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

from agentcall.dialects.calls import break_off, object_text
from agentcall.dialects.families.thinking import end_of_thinking, thinking
from agentcall.dialects.page import Family, Page
from agentcall.dialects.scan import BLANK, Needles, Steps
from agentcall.dialects.tagged import Tags, json_of, tagged_value
from agentcall.jsontext import Members

_OPEN_ARGUMENT = "<|open|>argument "
_END_CALL = "<|close|>call<|sep|>"
_THINK, _END_THINK = "<|open|>think<|sep|>", "<|close|>think<|sep|>"
_HEAD = Needles("<|sep|>")
_VALUE = Tags("<|close|>argument<|sep|>", (_OPEN_ARGUMENT, _END_CALL))
_ATTRIBUTE = re.compile(r'(\w+)="([^"]*)"')
_ATTRIBUTES = re.compile(r'\s*(?:\w+="[^"<>|]*"\s*)*')


def _attributes(head: str) -> dict[str, str]:
    """The attributes of an element; none if anything else stands in its head."""
    if not _ATTRIBUTES.fullmatch(head):
        return {}
    return {name: html.unescape(value) for name, value in _ATTRIBUTE.findall(head)}


def _call(page: Page) -> Steps[bool]:
    source = page.source
    head, end = yield from source.upto(_HEAD)
    found: Members = []
    while end:
        yield from source.skip(BLANK)
        if (yield from source.eats(_END_CALL)):
            page.out.call(_attributes(head).get("tool", ""), object_text(found))
            return True
        member = (yield from source.eats(_OPEN_ARGUMENT)) and (yield from _argument(page))
        if not member:
            break
        found.append(member)
    break_off(page, "its elements are not well formed")
    return True


def _argument(page: Page) -> Steps[tuple[str, str] | None]:
    head, end = yield from page.source.upto(_HEAD)
    value, tag = yield from tagged_value(page.source, _VALUE)
    if not end or not tag:
        return None
    about = _attributes(head)
    key = about.get("key", "")
    if not key:
        return None
    if about.get("type", "string") == "string":
        return key, json.dumps(value, ensure_ascii=False)
    return key, json_of(value, {}, {})


KIMI_K3 = Family(
    "kimi_k3",
    markers={"<|open|>call ": _call},
    thinking={
        _THINK: thinking(_THINK, _END_THINK, "<|open|>response<|sep|>", "<|open|>tools<|sep|>"),
        _END_THINK: end_of_thinking(_THINK, _END_THINK),
    },
    dropped=(
        "<|open|>response<|sep|>",
        "<|close|>response<|sep|>",
        "<|open|>tools<|sep|>",
        "<|close|>tools<|sep|>",
        "<|close|>message<|sep|>",
        '<|open|>message role="assistant"<|sep|>',
    ),
)
