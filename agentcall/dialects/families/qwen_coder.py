"""Qwen3-Coder, Qwen3.5 and later, Seed-OSS, Nemotron 3: a tag for each parameter.

    <tool_call>
    <function=get_weather>
    <parameter=city>
    Paris
    </parameter>
    </function>
    </tool_call>

Source: chat_template of Qwen/Qwen3-Coder-30B-A3B-Instruct and Qwen/Qwen3.5-9B. Values stand
without quotes, with one line break before and after; their types are those of the tool's schema.
`<tool_call>` before and `</tool_call>` behind may be missing, and so may an end tag of a parameter.
Also Llama 3.1's `<function=name>{json}</function>` (meta-llama/llama-models, custom tool format).
"""

from __future__ import annotations

from collections.abc import Mapping

from agentcall.dialects.calls import arguments_text, break_off, object_text
from agentcall.dialects.offers import Schema
from agentcall.dialects.page import Family, Page
from agentcall.dialects.scan import BLANK, Needles, Steps
from agentcall.dialects.tagged import Tags, json_of, property_schema, tagged_value
from agentcall.jsontext import Members

_FUNCTION = "<function="
_PARAMETER = "<parameter="
_END_PARAMETER = "</parameter>"
_END_FUNCTION = "</function>"
_END_CALL = "</tool_call>"
_AFTER_VALUE = (_PARAMETER, _END_FUNCTION, _END_CALL)
_AFTER_FUNCTION = (_END_CALL, "<tool_call>", _FUNCTION)
_GREATER = Needles(">", "\n")


def _tool_call(page: Page) -> Steps[bool]:
    yield from page.source.skip(BLANK)
    found = False
    while (yield from page.source.eats(_FUNCTION)):
        found = True
        if not (yield from _function(page)):
            return True
        yield from page.source.skip(BLANK)
        if (yield from page.source.eats(_END_CALL)):
            return True
        page.source.mark()
    return found


def _bare(page: Page) -> Steps[bool]:
    """A function without the tag around it."""
    name = yield from page.source.peek()
    if not (name.isalpha() or name == "_"):
        return False
    if (yield from _function(page)):
        yield from page.source.skip(BLANK)
        yield from page.source.eats(_END_CALL)
    return True


def _function(page: Page) -> Steps[bool]:
    """One function behind `<function=`; whether it was whole."""
    source = page.source
    name, end = yield from source.upto(_GREATER)
    yield from source.skip(BLANK)
    if end and (yield from source.peek()) == "{":
        return (yield from _json_arguments(page, name))
    found: Members = []
    while end and (yield from source.eats(_PARAMETER)):
        member = yield from _parameter(page, name)
        if member is None:
            return _broken(page)
        found.append(member)
        yield from source.skip(BLANK)
    done = yield from source.eats(_END_FUNCTION, _END_CALL)
    if not end or not (done or _swallowed(page, name, found)):
        return _broken(page)
    page.out.call(name.strip().strip("\"'"), object_text(found))
    return True


def _swallowed(page: Page, name: str, found: Members) -> bool:
    """Whether nothing but end tags is missing: the tool takes no more arguments."""
    source = page.source
    more = page.tools.may_take_more(name.strip().strip("\"'"), [key for key, _ in found])
    return bool(found) and source.finished and source.left == 0 and not more


def _broken(page: Page) -> bool:
    break_off(page, "its tags are not well formed")
    return False


def _parameter(page: Page, function: str) -> Steps[tuple[str, str] | None]:
    source, schema = page.source, page.tools.schema(function)
    key, end = yield from source.upto(_GREATER)
    value, tag = yield from tagged_value(source, _tags(schema))
    if not end or not tag:
        return None
    value = value.removeprefix("\n")
    if tag == _END_PARAMETER:
        value = value.removesuffix("\n")
    else:
        source.unread(tag.removeprefix("\n"))
    key = key.strip().strip("\"'")
    if not key or "<" in key:
        return None
    return key, json_of(value, property_schema(schema, key), schema)


def _tags(schema: Schema) -> Tags:
    """Where a value of this tool ends; a new parameter begins only under a name that it has."""
    properties = schema.get("properties")
    names = tuple(properties) if isinstance(properties, Mapping) else ()
    breaks: dict[str, tuple[str, ...]] = {"\n" + _END_FUNCTION: _AFTER_FUNCTION}
    if names:
        breaks["\n" + _PARAMETER] = tuple(f"{name}>" for name in names)
    return Tags(_END_PARAMETER, (*_AFTER_VALUE, *_AFTER_FUNCTION), breaks)


def _json_arguments(page: Page, name: str) -> Steps[bool]:
    text = yield from page.source.value()
    yield from page.source.skip(BLANK)
    done = yield from page.source.eats(_END_FUNCTION)
    if not text or not (done or page.source.left or page.source.finished):
        return _broken(page)
    page.out.call(name.strip(), arguments_text(text))
    return True


QWEN_CODER = Family(
    "qwen_coder",
    markers={"<tool_call>": _tool_call, _FUNCTION: _bare},
    dropped=(_END_CALL, "<|im_end|>"),
)
