"""What the families share: calls out of JSON, and values between tags.

The text of the arguments is kept as the model wrote it. Repair is a later stage, which reports what
it changes.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import cast

from agentcall.dialects.answer_parts import CallPart, MalformedCallPart, ToolCallPart
from agentcall.dialects.dialect import ToolSchema, ToolSet
from agentcall.dialects.parsers.scanner import BLANK, Delimiters, Scan, TextScanner
from agentcall.dialects.parsers.tool_parser import ParseState
from agentcall.lenient_json import (
    Members,
    ParsedJSON,
    parse_lenient_json,
    split_items,
    split_members,
)
from agentcall.messages import JSON

NAME_KEYS = (
    "name",
    "tool_name",
    "function_name",
    "recipient_name",
    "tool",
    "function",
    "action",
)
ARGUMENT_KEYS = (
    "arguments",
    "parameters",
    "args",
    "params",
    "kwargs",
    "input",
    "tool_input",
    "tool_arguments",
    "tool_args",
    "function_arguments",
    "action_input",
)
ENVELOPE_KEYS = (
    "tool_calls",
    "function_call",
    "function_calls",
    "tool_call",
    "tool_uses",
    "tool",
    "call",
    "calls",
    "function",
    "functions",
    "actions",
    "message",
    "choices",
)
OTHER_KEYS = ("type", "id", "index", "tool_call_id", "call_id")
MESSAGE_KEYS = (
    *("role", "content", "refusal", "audio", "annotations", "reasoning_content"),
    *("finish_reason", "logprobs", "object", "model", "created", "usage", "system_fingerprint"),
)
"""Keys beside the calls of a message or a response of OpenAI's API."""
OPENERS = ("{", "[", "｛", "［")
"""The characters that begin an object or a list."""
COMMENT_KEYS = (
    "thought",
    "thoughts",
    "reason",
    "reasoning",
    "explanation",
    "comment",
    "description",
)
"""Keys for a model's remarks about a call, beside its arguments."""
_CALL_TYPES = ("function", "function_call", "tool_call", "tool_use")
_EMPTY_VALUES = ("null", "None", "{}", "[]", '""', "''")
CUT_OFF = "the answer ended inside a call"
_MAX_TAG_LENGTH = 40
"""No tag is longer (characters)."""


def read_json_block(state: ParseState, *closers: str, is_self_closing: bool = False) -> Scan[bool]:
    """Read JSON objects or lists up to a closing marker; return False if there are none.

    The closing marker may be missing if the model had finished: servers remove it when it is a stop
    word. is_self_closing: the last bracket ends the format, and a marker is optional.
    """
    scanner = state.scanner
    texts: list[str] = []
    remark: str | None = ""
    while True:
        yield from scanner.skip(BLANK + (",;}])，；｝］" if texts else ""))
        if closers and (yield from scanner.accept(*closers)):
            break
        if texts and (yield from scanner.look_ahead(*COMMENTS)):
            if (yield from _skip_comment(scanner, closers)):
                break
            continue
        if (yield from scanner.peek()) not in OPENERS:
            if not texts:
                return False
            remark = yield from _end_json_block(state, closers, is_self_closing=is_self_closing)
            break
        text = yield from scanner.read_value()
        if not text:
            yield from _reject_bad_json(state, closers)
            return True
        texts.append(text)
    _write_json_block(state, texts, remark)
    return True


def _skip_comment(scanner: TextScanner, closers: tuple[str, ...]) -> Scan[bool]:
    """Skip a comment; return whether a closing marker on its line ended it."""
    _, end = yield from scanner.read_until(Delimiters("\n", *closers))
    return end in closers


def _write_json_block(state: ParseState, texts: Sequence[str], remark: str | None) -> None:
    """Write the calls and the remark behind them; a remark of None was malformed."""
    if remark is None:
        return
    for text in texts:
        write_calls(state, parse_calls(text))
    state.writer.write_text(remark)
    if not texts:
        state.writer.write_malformed_call(state.scanner.get_marked_text(), "there is no call in it")


def _end_json_block(
    state: ParseState, closers: tuple[str, ...], *, is_self_closing: bool
) -> Scan[str | None]:
    """Read what follows JSON in place of a closer: return a remark, None if it is malformed."""
    scanner = state.scanner
    is_over = scanner.accept_partial(*closers) or scanner.remaining == 0
    if is_over and not (scanner.is_complete or is_self_closing):
        state.writer.write_malformed_call(scanner.get_marked_text(), CUT_OFF)
        return None
    if not closers:
        return ""
    before = len(scanner.get_marked_text())
    remark, delimiter = yield from scanner.read_until(Delimiters("\n", *closers))
    if not delimiter and not (scanner.is_complete or is_self_closing):
        state.writer.write_malformed_call(scanner.get_marked_text(), CUT_OFF)
        return None
    if delimiter not in closers and scanner.backtrack(before):
        return ""
    if is_remark(remark):
        return remark
    state.writer.write_malformed_call(scanner.get_marked_text(), "there is text after its JSON")
    return None


_DOUBLED_BRACES = re.compile(r"\s*\{\s*\{.*\}\s*\}\s*", re.DOTALL)
"""An object in two pairs of braces, as a template for Python's `format` is written."""
COMMENTS = ("//", "#", "/*", "--")
_SENTENCE = re.compile(r"[^\n{}\[\]<>]*[.!?。！？…]\s*")


def is_remark(text: str) -> bool:
    """Whether the text behind a call is a sentence of its own, not a part of what it says."""
    body = text.strip()
    return body in (".", "。") or bool(
        body
        and (body[0].isupper() or body[0] > "\u2e7f" or body[0] in "(（*")
        and _SENTENCE.fullmatch(body)
    )


def _reject_bad_json(state: ParseState, closers: tuple[str, ...]) -> Scan[None]:
    """Write a malformed call: the JSON up to its closing marker, or all the rest."""
    scanner = state.scanner
    if scanner.remaining and closers:
        yield from scanner.read_until(Delimiters(*closers))
    raw = scanner.get_marked_text()
    ends = [raw.find(closer) + len(closer) for closer in closers if closer in raw]
    if ends and min(ends) < len(raw) and scanner.backtrack(min(ends)):
        raw = raw[: min(ends)]
    reason = "its JSON is not well formed" if ends or scanner.is_complete else CUT_OFF
    state.writer.write_malformed_call(raw, reason)


def reject_markup(state: ParseState, reason: str) -> None:
    """Write the text since the mark as a malformed call, including a tag that the end has cut."""
    scanner = state.scanner
    rest = scanner.text[scanner.position :]
    if (
        scanner.is_ended
        and len(rest) < _MAX_TAG_LENGTH
        and rest.startswith(("<", "["))
        and "\n" not in rest
    ):
        scanner.take(len(rest))
    is_over = scanner.is_ended and scanner.remaining == 0
    state.writer.write_malformed_call(scanner.get_marked_text(), CUT_OFF if is_over else reason)


def parse_calls(text: str, *, allows_flat: bool = True) -> list[CallPart]:
    """Return the calls of a JSON object or list, in order; a value that is not a call is malformed.

    allows_flat: accept an object whose arguments are beside the name, without a key for them.
    """
    items = split_items(text) if text.lstrip().startswith(("[", "［")) else None
    if items is not None:
        return [call for item in items for call in parse_calls(item, allows_flat=allows_flat)]
    members = split_members(text)
    if members is None and _DOUBLED_BRACES.fullmatch(text):
        return parse_calls(text.strip()[1:-1], allows_flat=allows_flat)
    if members is None:
        return [MalformedCallPart(text, "it is not a JSON object")]
    by_key = dict(members)
    if len(by_key) < len(members):
        return [MalformedCallPart(text, "it has the same key twice")]
    for key in ENVELOPE_KEYS:
        if by_key.get(key, "").startswith(OPENERS):
            known = (key, *OTHER_KEYS, *MESSAGE_KEYS, *COMMENT_KEYS)
            if any(k not in known and value not in _EMPTY_VALUES for k, value in members):
                return [MalformedCallPart(text, f'it has keys beside "{key}" that are not calls')]
            return [
                _add_id(call, by_key) for call in parse_calls(by_key[key], allows_flat=allows_flat)
            ]
    if not allows_flat and not any(key in by_key for key in ARGUMENT_KEYS):
        return [MalformedCallPart(text, "it has no arguments")]
    return [_parse_call(text, members, by_key)]


def _add_id(call: CallPart, by_key: dict[str, str]) -> CallPart:
    if isinstance(call, MalformedCallPart) or call.id:
        return call
    return ToolCallPart(call.name, call.arguments, decode_string(by_key.get("id", "")) or "")


def _parse_call(text: str, members: Members, by_key: dict[str, str]) -> CallPart:
    name_key = next((key for key in NAME_KEYS if decode_string(by_key.get(key, ""))), None)
    if name_key is None:
        if len(members) == 1 and members[0][1].startswith(("{", "｛")):
            return ToolCallPart(*members[0])
        return MalformedCallPart(text, 'it has no "name"')
    name = decode_string(by_key[name_key]) or ""
    if "description" in by_key and '"properties"' in by_key.get("parameters", ""):
        return MalformedCallPart(text, "it is the definition of a tool, not a call")
    for key in ARGUMENT_KEYS:
        if key in by_key and key != name_key:
            call_keys = (name_key, key, *OTHER_KEYS, *COMMENT_KEYS)
            strays = [
                k for k, value in members if k not in call_keys and value not in _EMPTY_VALUES
            ]
            # a key beside the arguments may be one of them: repair decides by the schema
            arguments = text if strays else unwrap_arguments(by_key[key])
            return ToolCallPart(name, arguments, decode_string(by_key.get("id", "")) or "")
    return ToolCallPart(
        name, format_object([m for m in members if m[0] != name_key and not _is_type_member(m)])
    )


def _is_type_member(member: tuple[str, str]) -> bool:
    return member[0] == "type" and decode_string(member[1]) in _CALL_TYPES


def unwrap_arguments(written: str) -> str:
    """Return arguments as written, or the JSON object inside a JSON string."""
    inner = decode_string(written)
    if inner is not None and inner.strip().startswith("{"):
        return inner
    return "{}" if written.strip() in ("null", "None", '""', "''") else written


def decode_string(written: str) -> str | None:
    """Return the text of a JSON string, None if `written` is not a string."""
    parsed = parse_lenient_json(written)
    if isinstance(parsed, ParsedJSON) and isinstance(parsed.value, str):
        return parsed.value
    return None


def format_object(members: Members) -> str:
    """Return the JSON object of keys and the JSON texts of their values."""
    pairs = (f"{json.dumps(key, ensure_ascii=False)}: {value}" for key, value in members)
    return "{" + ", ".join(pairs) + "}"


def read_message_text(text: str) -> str:
    """Return the text beside the calls of a message in OpenAI's form, empty if it has none."""
    by_key = dict(split_members(text) or ())
    if by_key.keys().isdisjoint(("tool_calls", "function_call", "message", "choices")):
        return ""
    inner = next((by_key[key] for key in ("message", "choices") if key in by_key), "")
    items = split_items(inner) if inner.startswith("[") else None
    inner = items[0] if items else inner
    return decode_string(by_key.get("content", "")) or (
        read_message_text(inner) if inner.startswith("{") else ""
    )


def write_calls(state: ParseState, calls: Sequence[CallPart]) -> None:
    """Write calls in order."""
    for call in calls:
        if isinstance(call, MalformedCallPart):
            state.writer.write_malformed_call(call.text, call.reason)
        else:
            state.writer.write_call(call.name.strip(), call.arguments, call.id)


def has_only_offered_calls(calls: Sequence[CallPart], tools: ToolSet) -> bool:
    """Whether there are calls and all of them name offered tools."""
    return bool(calls) and all(
        isinstance(call, ToolCallPart) and call.name in tools for call in calls
    )


_CODE_TOOLS = ("python", "interpreter", "code_interpreter", "python_interpreter", "ipython")


def create_code_call(tools: ToolSet, name: str, code: str) -> ToolCallPart:
    """Return a call that carries code: of the offered tool that runs code, else of `name`."""
    tool_name = next((tool for tool in (name, *_CODE_TOOLS) if tool in tools), name)
    offered_name = tools.find_name(tool_name) or tool_name
    keys = tools.list_parameters(tool_name)
    key = keys[0] if len(keys) == 1 else "code"
    return ToolCallPart(offered_name, json.dumps({key: code}, ensure_ascii=False))


def is_whole_code(code: str) -> bool:
    """Whether the code parses, that is, whether it was not cut."""
    try:
        ast.parse(strip_fence(code))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return True


def strip_fence(code: str) -> str:
    """Return code without the Markdown fence around it."""
    body = code.strip()
    if body.startswith("```") and "\n" in body:
        body = body.partition("\n")[2]
        body = body.rstrip().removesuffix("```")
    return body.strip("\n")


@dataclass(frozen=True, slots=True)
class ValueTags:
    """Where a value between tags ends.

    end: its end tag. It counts only if one of `follows`, or the end of the text, comes after it, so
        that the same characters inside the value do not end it.
    breaks: tags that end a value whose own end tag is missing, with what has to follow each.
    """

    end: str
    follows: tuple[str, ...]
    breaks: Mapping[str, tuple[str, ...]] = field(default_factory=dict[str, "tuple[str, ...]"])


def read_tagged_value(scanner: TextScanner, tags: ValueTags) -> Scan[tuple[str, str]]:
    """Read a value up to the tag that ends it; return both.

    The tag is empty if the text ends first.
    """
    delimiters = Delimiters(tags.end, *tags.breaks)
    pieces: list[str] = []
    while True:
        text, delimiter = yield from scanner.read_until(delimiters)
        pieces.append(text)
        if not delimiter:
            return "".join(pieces), ""
        following = yield from scanner.look_past_blanks(*tags.breaks.get(delimiter, tags.follows))
        if following or (following == "" and (delimiter == tags.end or scanner.is_complete)):
            return "".join(pieces), delimiter
        pieces.append(delimiter)


_TYPE_NAMES: dict[type, tuple[str, ...]] = {
    bool: ("boolean",),
    int: ("integer", "number"),
    float: ("number",),
    str: ("string",),
    type(None): ("null",),
}


def encode_value(text: str, schema: ToolSchema, root: ToolSchema) -> str:
    """Return the JSON text of a value that was written without quotes, typed by its schema.

    Without a type in the schema, a value that parses as JSON is that value; any other is a string.
    """
    kinds = _get_allowed_types(schema, root)
    if kinds == {"string"}:
        return _encode_string(text)
    parsed = _parse_value(text.strip())
    if parsed is None:
        return _encode_string(text)
    if kinds and "string" in kinds and not kinds & set(_get_type_names(parsed[0])):
        return _encode_string(text)
    return _encode_string(text) if isinstance(parsed[0], str) and not kinds else parsed[1]


def _encode_string(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _parse_value(text: str) -> tuple[JSON, str] | None:
    """Parse text written as JSON or as a Python literal; return the value and its JSON text."""
    if text in ("True", "False", "None"):
        return {"True": (True, "true"), "False": (False, "false"), "None": (None, "null")}[text]
    try:
        return cast("JSON", json.loads(text)), text
    except (ValueError, RecursionError):
        pass
    if not text.startswith(("{", "[")):
        return None
    parsed = parse_lenient_json(text)
    return (parsed.value, text) if isinstance(parsed, ParsedJSON) else None


def _get_type_names(value: JSON) -> tuple[str, ...]:
    if isinstance(value, Mapping):
        return ("object",)
    return _TYPE_NAMES.get(type(value), ("array",))


def get_property_schema(schema: ToolSchema, key: str) -> ToolSchema:
    """Return the schema of a property, empty if the schema has none."""
    properties = schema.get("properties")
    property_schema = properties.get(key) if isinstance(properties, Mapping) else None
    return property_schema if isinstance(property_schema, Mapping) else {}


def _get_allowed_types(schema: ToolSchema, root: ToolSchema, depth: int = 0) -> set[str]:
    """Return the names of the types that a schema allows, empty if it does not say."""
    schema = _resolve_reference(schema, root)
    kind = schema.get("type")
    if isinstance(kind, str):
        return {kind}
    kinds = {name for name in _to_sequence(kind) if isinstance(name, str)}
    if depth < 8:
        for key in ("anyOf", "oneOf", "allOf"):
            for option in _to_sequence(schema.get(key)):
                if isinstance(option, Mapping):
                    kinds |= _get_allowed_types(option, root, depth + 1)
    if kinds:
        return kinds
    values = [*_to_sequence(schema.get("enum")), *([schema["const"]] if "const" in schema else [])]
    return {name for value in values for name in _get_type_names(value)}


def _to_sequence(value: JSON) -> Sequence[JSON]:
    return value if isinstance(value, (list, tuple)) else ()


def _resolve_reference(schema: ToolSchema, root: ToolSchema) -> ToolSchema:
    for _ in range(8):
        ref = schema.get("$ref")
        if not isinstance(ref, str) or not ref.startswith("#/"):
            break
        target: JSON = root
        for step in ref[2:].split("/"):
            target = target.get(step, {}) if isinstance(target, Mapping) else {}
        if not isinstance(target, Mapping):
            return {}
        schema = target
    return schema
