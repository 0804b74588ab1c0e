"""Qwen3-Coder, Qwen3.5 and later, Seed-OSS, Nemotron 3: a tag for each parameter.

    <tool_call>
    <function=get_weather>
    <parameter=city>
    Paris
    </parameter>
    </function>
    </tool_call>

Source: chat_template of Qwen/Qwen3-Coder-30B-A3B-Instruct and Qwen/Qwen3.5-9B. Values are written
without quotes, with one line break before and after; the tool's schema decides their types.
`<tool_call>` before and `</tool_call>` after may be missing, and so may the end tag of a parameter.
Also Llama 3.1's `<function=name>{json}</function>` (meta-llama/llama-models, custom tool format).
"""

from __future__ import annotations

from collections.abc import Mapping

from agentcall.dialects.dialect import ToolSchema
from agentcall.dialects.parsers._common import (
    ValueTags,
    encode_value,
    format_object,
    get_property_schema,
    read_tagged_value,
    reject_markup,
    unwrap_arguments,
)
from agentcall.dialects.parsers.scanner import BLANK, Delimiters, Scan
from agentcall.dialects.parsers.tool_parser import ParseState, ToolParser
from agentcall.lenient_json import Members

_BEGIN_FUNCTION = "<function="
_BEGIN_PARAMETER = "<parameter="
_END_PARAMETER = "</parameter>"
_END_FUNCTION = "</function>"
_END_CALL = "</tool_call>"
_AFTER_VALUE = (_BEGIN_PARAMETER, _END_FUNCTION, _END_CALL)
_AFTER_FUNCTION = (_END_CALL, "<tool_call>", _BEGIN_FUNCTION)
_HEAD_END = Delimiters(">", "\n")
_NAME_END = Delimiters(">", "\n", "{")


def _read_tool_call(state: ParseState) -> Scan[bool]:
    yield from state.scanner.skip(BLANK)
    is_call = False
    while (yield from state.scanner.accept(_BEGIN_FUNCTION)):
        is_call = True
        if not (yield from _read_function(state)):
            return True
        yield from state.scanner.skip(BLANK)
        if (yield from state.scanner.accept(_END_CALL)):
            return True
        state.scanner.set_mark()
    return is_call


def _read_bare_function(state: ParseState) -> Scan[bool]:
    """Read a function without the tag around it."""
    name = yield from state.scanner.peek()
    if not (name.isalpha() or name == "_"):
        return False
    if (yield from _read_function(state)):
        yield from state.scanner.skip(BLANK)
        yield from state.scanner.accept(_END_CALL)
    return True


def _read_function(state: ParseState) -> Scan[bool]:
    """Read one function after `<function=`; return whether it was whole."""
    scanner = state.scanner
    name, end = yield from scanner.read_until(_NAME_END)
    if end == "{":  # Llama 3 forgets the bracket
        scanner.unread(end)
    yield from scanner.skip(BLANK)
    if end and (yield from scanner.peek()) == "{":
        return (yield from _read_json_arguments(state, name))
    members: Members = []
    while end and (yield from scanner.accept(_BEGIN_PARAMETER)):
        member = yield from _read_parameter(state, name)
        if member is None:
            return _reject_function(state)
        members.append(member)
        yield from scanner.skip(BLANK)
    closer = yield from scanner.accept(_END_FUNCTION, _END_CALL)
    if not end or not (closer or _is_end_tag_missing(state, name, members)):
        return _reject_function(state)
    state.writer.write_call(name.strip().strip("\"'"), format_object(members))
    return True


def _is_end_tag_missing(state: ParseState, name: str, members: Members) -> bool:
    """Whether only end tags are missing, since the tool has no more arguments."""
    scanner = state.scanner
    if state.tools.can_take_more(name.strip().strip("\"'"), [key for key, _ in members]):
        return False
    return bool(members) and scanner.is_complete and scanner.remaining == 0


def _reject_function(state: ParseState) -> bool:
    reject_markup(state, "its tags are not well formed")
    return False


def _read_parameter(state: ParseState, function_name: str) -> Scan[tuple[str, str] | None]:
    scanner, schema = state.scanner, state.tools.get_schema(function_name)
    key, end = yield from scanner.read_until(_HEAD_END)
    value, tag = yield from read_tagged_value(scanner, _create_value_tags(schema))
    if not end or not tag:
        return None
    value = value.removeprefix("\n")
    if tag == _END_PARAMETER:
        value = value.removesuffix("\n")
    else:
        scanner.unread(tag.removeprefix("\n"))
    key = key.strip().strip("\"'")
    if not key or "<" in key:
        return None
    return key, encode_value(value, get_property_schema(schema, key), schema)


def _create_value_tags(schema: ToolSchema) -> ValueTags:
    """Return where a value of this tool ends; only a name that the tool has begins a parameter."""
    properties = schema.get("properties")
    names = tuple(properties) if isinstance(properties, Mapping) else ()
    breaks: dict[str, tuple[str, ...]] = {"\n" + _END_FUNCTION: _AFTER_FUNCTION}
    if names:
        breaks["\n" + _BEGIN_PARAMETER] = tuple(f"{name}>" for name in names)
    return ValueTags(_END_PARAMETER, (*_AFTER_VALUE, *_AFTER_FUNCTION), breaks)


def _read_json_arguments(state: ParseState, name: str) -> Scan[bool]:
    text = yield from state.scanner.read_value()
    yield from state.scanner.skip(BLANK)
    closer = yield from state.scanner.accept(_END_FUNCTION)
    is_cut = state.scanner.accept_partial(_END_FUNCTION) and not state.scanner.is_complete
    if is_cut or not text or not (closer or state.scanner.remaining or state.scanner.is_complete):
        return _reject_function(state)
    state.writer.write_call(name.strip(), unwrap_arguments(text))
    return True


QWEN_CODER = ToolParser(
    "qwen_coder",
    markers={"<tool_call>": _read_tool_call, _BEGIN_FUNCTION: _read_bare_function},
    ignored_tokens=(_END_CALL, "<|im_end|>", "<seed:tool_call>", "</seed:tool_call>"),
)
