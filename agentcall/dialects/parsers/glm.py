"""GLM-4.5, 4.6, 4.7 and GLM-5: keys and values between tags.

    <tool_call>get_weather
    <arg_key>city</arg_key>
    <arg_value>Paris</arg_value>
    </tool_call>

Source: chat_template.jinja of zai-org/GLM-4.5 (line breaks between the tags), zai-org/GLM-4.7 and
zai-org/GLM-5 (none). Strings are plain text, other values are JSON; the tool's schema decides.
"""

from __future__ import annotations

from agentcall.dialects.parsers._common import (
    ValueTags,
    encode_value,
    format_object,
    get_property_schema,
    read_tagged_value,
    reject_markup,
)
from agentcall.dialects.parsers.scanner import BLANK, Delimiters, Scan
from agentcall.dialects.parsers.tool_parser import ParseState, ToolParser
from agentcall.lenient_json import Members

_BEGIN_KEY = "<arg_key>"
_END_CALL = "</tool_call>"
_NAME_CHARACTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-:"
_END_KEY = Delimiters("</arg_key>")
_VALUE_TAGS = ValueTags("</arg_value>", (_BEGIN_KEY, _END_CALL), {_END_CALL: ("<tool_call>",)})


def _read_tool_call(state: ParseState) -> Scan[bool]:
    scanner = state.scanner
    yield from scanner.skip(BLANK)
    name = yield from scanner.skip(_NAME_CHARACTERS)
    yield from scanner.skip(BLANK)
    is_cut = scanner.remaining == 0 and (yield from scanner.peek()) == ""
    if not name or not (is_cut or (yield from scanner.look_ahead(_BEGIN_KEY, _END_CALL))):
        return False
    members: Members = []
    is_whole = True
    while is_whole and (yield from scanner.accept(_BEGIN_KEY)):
        member = yield from _read_argument(state, name)
        is_whole = member is not None
        members += [member] if member is not None else []
        yield from scanner.skip(BLANK)
    if is_whole and (
        (yield from scanner.accept(_END_CALL)) or _is_end_tag_missing(state, name, members)
    ):
        state.writer.write_call(name, format_object(members))
    else:
        reject_markup(state, "its tags are not well formed")
    return True


def _is_end_tag_missing(state: ParseState, name: str, members: Members) -> bool:
    """Whether only the end tag is missing, since the tool has no more arguments."""
    scanner = state.scanner
    if state.tools.can_take_more(name, [key for key, _ in members]):
        return False
    is_at_end = scanner.is_complete and scanner.remaining == 0
    ends_with_value = scanner.get_marked_text().rstrip().endswith("</arg_value>")
    return bool(members) and is_at_end and ends_with_value


def _read_argument(state: ParseState, name: str) -> Scan[tuple[str, str] | None]:
    scanner, schema = state.scanner, state.tools.get_schema(name)
    key, end = yield from scanner.read_until(_END_KEY)
    yield from scanner.skip(BLANK)
    if not end or not (yield from scanner.accept("<arg_value>")):
        return None
    value, tag = yield from read_tagged_value(scanner, _VALUE_TAGS)
    if not tag:
        return None
    if tag == _END_CALL:
        scanner.unread(tag)
    key = key.strip()
    return key, encode_value(value, get_property_schema(schema, key), schema)


GLM = ToolParser(
    "glm",
    markers={"<tool_call>": _read_tool_call},
    ignored_tokens=(_END_CALL, "<|observation|>", "<|user|>", "<|assistant|>", "<|endoftext|>"),
)
