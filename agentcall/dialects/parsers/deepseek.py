"""DeepSeek V3, R1, V3.1: calls between special tokens.

    <｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>get_weather
    ```json
    {"city": "Paris"}
    ```<｜tool▁call▁end｜><｜tool▁calls▁end｜>                                   V3, R1
    <｜tool▁call▁begin｜>get_weather<｜tool▁sep｜>{"city": "Paris"}<｜tool▁call▁end｜>  V3.1

Source: tokenizer_config.json of deepseek-ai/DeepSeek-V3-0324, deepseek-ai/DeepSeek-R1-0528 and
deepseek-ai/DeepSeek-V3.1.

DeepSeek V3.2, V4, V4.1: DSML.

    <｜DSML｜function_calls>
    <｜DSML｜invoke name="get_weather">
    <｜DSML｜parameter name="city" string="true">Paris</｜DSML｜parameter>
    </｜DSML｜invoke>
    </｜DSML｜function_calls>

Source: encoding/encoding_dsv32.py of deepseek-ai/DeepSeek-V3.2. V4 has `tool_calls` in place of
`function_calls`; V4.1 writes a space after the bar and `calls`. Parameters with string="true" are
plain text, those with string="false" are JSON. MiniMax M2 writes the same tags without the bar
between <minimax:tool_call> (chat_template.jinja of MiniMaxAI/MiniMax-M2), MiniCPM 5 writes
`function` and `param` (vLLM minicpm5); their values are typed by the tool's schema.
"""

from __future__ import annotations

import json
import re

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

_DSML_BARS = ("｜DSML｜", "｜DSML｜ ", "")
_DSML_SECTIONS = (
    "｜DSML｜function_calls>",
    "｜DSML｜tool_calls>",
    "｜DSML｜ calls>",
    "minimax:tool_call>",
    "function_calls>",
    "function_call>",
    "tool_call>",
)
_SHARED_TAGS = ("<function_calls>", "<function_call>", "<tool_call>")
_INVOKES = (*(f'<{bar}invoke name="' for bar in _DSML_BARS), '<function name="')
_END_INVOKES = (*(f"</{bar}invoke>" for bar in _DSML_BARS), "</function>")
_PARAMETERS = (*(f'<{bar}parameter name="' for bar in _DSML_BARS), '<param name="')
_END_SECTIONS = tuple(f"</{section}" for section in _DSML_SECTIONS)
_QUOTE = Delimiters('"')
_TAG_END = Delimiters(">")
_ATTRIBUTES = re.compile(r'(?:\s+string="(?:true|false)"|\s+type="\w+")*\s*')


def _read_dsml_section(state: ParseState) -> Scan[bool]:
    scanner = state.scanner
    while True:
        yield from scanner.skip(BLANK)
        if (yield from scanner.accept(*_END_SECTIONS)):
            state.writer.drop_markup()
            return True
        if not (yield from scanner.accept(*_INVOKES)):
            is_over = not (yield from scanner.peek())
            if scanner.get_marked_text().strip() in _SHARED_TAGS:
                return False
            if not is_over or scanner.get_marked_text().strip().startswith("<"):
                reject_markup(state, "there is no call in it")
            return True
        if not (yield from _read_invoke(state)):
            return True
        scanner.set_mark()


def _read_invoke(state: ParseState) -> Scan[bool]:
    """Read one call after the quote that precedes its name; return whether it was whole."""
    scanner = state.scanner
    name, _ = yield from scanner.read_until(_QUOTE)
    members: Members = []
    if not (yield from scanner.accept("/>")):
        yield from scanner.accept(">")
        while True:
            yield from scanner.skip(BLANK)
            if (yield from scanner.accept(*_END_INVOKES)):
                break
            if not members and (yield from scanner.peek()) == "{":
                return (yield from _read_json_body(state, name))
            tag = yield from scanner.accept(*_PARAMETERS)
            member = (yield from _read_parameter(state, name, tag)) if tag else None
            if member is None:
                reject_markup(state, "its tags are not well formed")
                return False
            members.append(member)
    state.writer.write_call(name, format_object(members))
    return True


def _read_json_body(state: ParseState, name: str) -> Scan[bool]:
    """Read one JSON object in place of the parameters."""
    text = yield from state.scanner.read_value()
    yield from state.scanner.skip(BLANK)
    if not text or not (yield from state.scanner.accept(*_END_INVOKES)):
        reject_markup(state, "its tags are not well formed")
        return False
    state.writer.write_call(name, unwrap_arguments(text))
    return True


def _read_parameter(state: ParseState, name: str, tag: str) -> Scan[tuple[str, str] | None]:
    """Read one parameter after its tag: its key and the JSON text of its value."""
    scanner, schema = state.scanner, state.tools.get_schema(name)
    key, _ = yield from scanner.read_until(_QUOTE)
    head, end = yield from scanner.read_until(_TAG_END)
    end_tag = "</" + tag.removeprefix("<").partition(" name=")[0] + ">"
    value, ended = yield from read_tagged_value(
        scanner, ValueTags(end_tag, (*_PARAMETERS, *_END_INVOKES))
    )
    if not end or not ended or not _ATTRIBUTES.fullmatch(head):
        return None
    if 'string="true"' in head:
        return key, json.dumps(value, ensure_ascii=False)
    value_schema: ToolSchema = {} if "string=" in head else get_property_schema(schema, key)
    return key, encode_value(value, value_schema, schema)


def _read_bare_invoke(state: ParseState) -> Scan[bool]:
    """Read a call without the section around it; what is malformed is reported, and not text."""
    yield from _read_invoke(state)
    return True


DSML = ToolParser(
    "dsml",
    markers={
        **{f"<{section}": _read_dsml_section for section in _DSML_SECTIONS},
        **dict.fromkeys(_INVOKES, _read_bare_invoke),
    },
    ignored_tokens=(*_END_SECTIONS, "<｜end▁of▁sentence｜>"),
)


_BEGIN_CALL = "<｜tool▁call▁begin｜>"
_END_CALL = "<｜tool▁call▁end｜>"
_END_CALLS = "<｜tool▁calls▁end｜>"
_NEXT_CALL = Delimiters(_BEGIN_CALL, _END_CALLS)
_AFTER_NAME = Delimiters("<｜tool▁sep｜>", "\n", "```", _END_CALL, _END_CALLS)
_CALL_ENDS = Delimiters(_END_CALL, _END_CALLS)


def _read_section(state: ParseState) -> Scan[bool]:
    """Read all calls of a section; text between them is dropped."""
    scanner = state.scanner
    while True:
        noise, delimiter = yield from scanner.read_until(_NEXT_CALL)
        if delimiter != _BEGIN_CALL:
            if noise.strip() or not delimiter:
                reject_markup(state, "there is no call in it")
            state.writer.drop_markup()
            return True
        scanner.set_mark(delimiter)
        if not (yield from _read_call(state)):
            return True
        scanner.set_mark()


def _read_call(state: ParseState) -> Scan[bool]:
    """Read one call; return whether it was whole."""
    scanner = state.scanner
    name, delimiter = yield from scanner.read_until(_AFTER_NAME)
    if name.strip() == "function" and delimiter == "<｜tool▁sep｜>":
        name, delimiter = yield from scanner.read_until(_AFTER_NAME)
    yield from scanner.skip(BLANK)
    yield from scanner.accept("```json", "```")
    yield from scanner.skip(BLANK)
    text = (yield from scanner.read_value()) if (yield from scanner.peek()) == "{" else ""
    yield from scanner.skip(BLANK)
    yield from scanner.accept("```")
    yield from scanner.skip(BLANK)
    closer = yield from scanner.accept(_END_CALL)
    if not closer and (yield from scanner.peek()):
        closer = (yield from scanner.look_ahead(_BEGIN_CALL, _END_CALLS)) if text else ""
        if not closer:
            _, closer = yield from scanner.read_until(_CALL_ENDS)
            text = ""
    if text and (closer or scanner.is_complete):
        state.writer.write_call(name.strip(), unwrap_arguments(text))
        return True
    reject_markup(state, "its JSON is not well formed")
    return bool(closer) and closer != _END_CALLS


DEEPSEEK = ToolParser(
    "deepseek",
    markers={"<｜tool▁calls▁begin｜>": _read_section, _BEGIN_CALL: _read_call},
    ignored_tokens=(
        *(_END_CALL, _END_CALLS, "<｜end▁of▁sentence｜>", "<｜Assistant｜>"),
        *(
            "<｜tool_calls_begin｜>",
            "<｜tool calls begin｜>",
            "<｜tool▁calls｜>",
        ),  # R1's own spellings
    ),
)
