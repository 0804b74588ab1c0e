"""Kimi K2, K2.5, K2.6: calls between special tokens.

    <|tool_calls_section_begin|><|tool_call_begin|>functions.get_weather:0
    <|tool_call_argument_begin|>{"city": "Paris"}<|tool_call_end|><|tool_calls_section_end|>

Source: chat_template.jinja and docs/tool_call_guidance.md of moonshotai/Kimi-K2-Instruct-0905. The
call's id contains the tool's name.

Kimi K3: elements of special tokens, for thinking, response and calls.

    <|open|>think<|sep|>...<|close|>think<|sep|><|open|>response<|sep|>...<|close|>response<|sep|>
    <|open|>tools<|sep|><|open|>call tool="get_weather" index="1"<|sep|>
    <|open|>argument key="city" type="string"<|sep|>Paris<|close|>argument<|sep|>
    <|close|>call<|sep|><|close|>tools<|sep|><|close|>message<|sep|>

Source: encoding_k3.py of moonshotai/Kimi-K3. Strings are plain text, other values are JSON;
attributes are escaped as in XML.
"""

from __future__ import annotations

import html
import json
import re

from agentcall.dialects.parsers._common import (
    CUT_OFF,
    ValueTags,
    encode_value,
    format_object,
    read_tagged_value,
    reject_markup,
    unwrap_arguments,
)
from agentcall.dialects.parsers.scanner import BLANK, Delimiters, Scan
from agentcall.dialects.parsers.thinking import create_thinking_end_reader, create_thinking_reader
from agentcall.dialects.parsers.tool_parser import ParseState, ToolParser
from agentcall.lenient_json import Members

_K3_BEGIN_ARGUMENT = "<|open|>argument "
_K3_END_CALL = "<|close|>call<|sep|>"
_THINK, _END_THINK = "<|open|>think<|sep|>", "<|close|>think<|sep|>"
_K3_HEAD_END = Delimiters("<|sep|>")
_K3_VALUE_TAGS = ValueTags("<|close|>argument<|sep|>", (_K3_BEGIN_ARGUMENT, _K3_END_CALL))
_ATTRIBUTE = re.compile(r'(\w+)="([^"]*)"')
_ATTRIBUTES = re.compile(r'\s*(?:\w+="[^"<>|]*"\s*)*')


def _parse_attributes(head: str) -> dict[str, str]:
    """Return the attributes of an element, none if its head contains anything else."""
    if not _ATTRIBUTES.fullmatch(head):
        return {}
    return {name: html.unescape(value) for name, value in _ATTRIBUTE.findall(head)}


def _read_k3_call(state: ParseState) -> Scan[bool]:
    scanner = state.scanner
    head, end = yield from scanner.read_until(_K3_HEAD_END)
    members: Members = []
    while end:
        yield from scanner.skip(BLANK)
        if (yield from scanner.accept(_K3_END_CALL)):
            state.writer.write_call(_parse_attributes(head).get("tool", ""), format_object(members))
            return True
        member = (yield from scanner.accept(_K3_BEGIN_ARGUMENT)) and (
            yield from _read_k3_argument(state)
        )
        if not member:
            break
        members.append(member)
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


_BEGIN_CALL = "<|tool_call_begin|>"
_END_CALL = "<|tool_call_end|>"
_END_SECTION = "<|tool_calls_section_end|>"
_NEXT_CALL = Delimiters(_BEGIN_CALL, _END_SECTION)
_BEGIN_ARGUMENTS = "<|tool_call_argument_begin|>"
_AFTER_ID = Delimiters(_BEGIN_ARGUMENTS, _END_CALL, _END_SECTION)
_CALL_ENDS = Delimiters(_END_CALL, _END_SECTION)
_ID_PATTERN = re.compile(r"(?:functions\.)?(.*?)(?::\d+)?", re.DOTALL)


def _read_section(state: ParseState) -> Scan[bool]:
    scanner = state.scanner
    while True:
        _, delimiter = yield from scanner.read_until(_NEXT_CALL)
        if delimiter != _BEGIN_CALL:
            if not delimiter and not scanner.is_complete:
                state.writer.write_malformed_call(scanner.get_marked_text(), CUT_OFF)
            state.writer.drop_markup()
            return True
        scanner.set_mark(delimiter)
        if not (yield from _read_call(state)):
            return True
        scanner.set_mark()


def _read_call(state: ParseState) -> Scan[bool]:
    """Read one call; return whether more may follow in its section."""
    scanner = state.scanner
    call_id, delimiter = yield from scanner.read_until(_AFTER_ID)
    yield from scanner.skip(BLANK)
    has_json = delimiter == _BEGIN_ARGUMENTS and (yield from scanner.peek()) == "{"
    text = (yield from scanner.read_value()) if has_json else ""
    yield from scanner.skip(BLANK)
    closer = yield from scanner.accept(_END_CALL)
    if not closer and delimiter == _BEGIN_ARGUMENTS and (yield from scanner.peek()):
        _, closer = yield from scanner.read_until(_CALL_ENDS)
        text = ""
    id_match = _ID_PATTERN.fullmatch(call_id.strip())
    if text and id_match and (closer or scanner.is_complete):
        state.writer.write_call(id_match.group(1), unwrap_arguments(text), call_id.strip())
        return True
    reject_markup(state, "its JSON is not well formed")
    return bool(closer) and closer != _END_SECTION


KIMI = ToolParser(
    "kimi",
    markers={"<|tool_calls_section_begin|>": _read_section, _BEGIN_CALL: _read_call},
    ignored_tokens=(_END_CALL, _END_SECTION, "<|im_end|>"),
)
