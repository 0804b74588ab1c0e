"""GLM-4.5, 4.6, 4.7 and GLM-5: keys and values between tags.

    <tool_call>get_weather
    <arg_key>city</arg_key>
    <arg_value>Paris</arg_value>
    </tool_call>

Source: chat_template.jinja of zai-org/GLM-4.5 (line breaks between the tags), zai-org/GLM-4.7 and
zai-org/GLM-5 (none). Strings stand as they are, other values as JSON; which it is, the tool's
schema says.
"""

from __future__ import annotations

from agentcall.dialects.calls import break_off, object_text
from agentcall.dialects.page import Family, Page
from agentcall.dialects.scan import BLANK, Needles, Steps
from agentcall.dialects.tagged import Tags, json_of, property_schema, tagged_value
from agentcall.jsontext import Members

_KEY = "<arg_key>"
_END_CALL = "</tool_call>"
_LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-:"
_END_KEY = Needles("</arg_key>")
_VALUE = Tags("</arg_value>", (_KEY, _END_CALL), {_END_CALL: ("<tool_call>",)})


def _tool_call(page: Page) -> Steps[bool]:
    source = page.source
    yield from source.skip(BLANK)
    name = yield from source.skip(_LETTERS)
    yield from source.skip(BLANK)
    cut = source.left == 0 and (yield from source.peek()) == ""
    if not name or not (cut or (yield from source.sees(_KEY, _END_CALL))):
        return False
    found: Members = []
    whole = True
    while whole and (yield from source.eats(_KEY)):
        member = yield from _argument(page, name)
        whole = member is not None
        found += [member] if member is not None else []
        yield from source.skip(BLANK)
    if whole and ((yield from source.eats(_END_CALL)) or _swallowed(page, name, found)):
        page.out.call(name, object_text(found))
    else:
        break_off(page, "its tags are not well formed")
    return True


def _swallowed(page: Page, name: str, found: Members) -> bool:
    """Whether nothing but the end tag is missing: the tool takes no more arguments."""
    source = page.source
    if page.tools.may_take_more(name, [key for key, _ in found]):
        return False
    return bool(found) and source.finished and source.left == 0 and _ends_whole(source.raw())


def _ends_whole(raw: str) -> bool:
    return raw.rstrip().endswith("</arg_value>")


def _argument(page: Page, name: str) -> Steps[tuple[str, str] | None]:
    source, schema = page.source, page.tools.schema(name)
    key, end = yield from source.upto(_END_KEY)
    yield from source.skip(BLANK)
    if not end or not (yield from source.eats("<arg_value>")):
        return None
    value, tag = yield from tagged_value(source, _VALUE)
    if not tag:
        return None
    if tag == _END_CALL:
        source.unread(tag)
    key = key.strip()
    return key, json_of(value, property_schema(schema, key), schema)


GLM = Family(
    "glm",
    markers={"<tool_call>": _tool_call},
    dropped=(_END_CALL, "<|observation|>", "<|user|>", "<|assistant|>", "<|endoftext|>"),
)
