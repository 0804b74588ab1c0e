"""Calls written as Python: Llama 3.2, Llama 4, Gemma 3, OLMo 3, LFM2.

    [get_weather(city="Paris"), add(a=2, b=3)]

Source: meta-llama/llama-models, prompt formats of Llama 3.2 and Llama 4 (also between
<|python_start|> and <|python_end|>); Google's guide to function calling with Gemma 3 (`print(...)`
around the call, `default_api.` before it). LFM2 writes them between <|tool_call_start|> and
<|tool_call_end|> (LiquidAI/LFM2-1.2B), OLMo 3 between <function_calls> tags, one per line
(allenai/Olmo-3-7B-Instruct). Values are Python literals; nothing is evaluated.

A list is read as calls if it begins a line and all names in it are offered tools. Calls without a
list or tags are read only if the answer consists of nothing else, perhaps in a code fence; so is
`get_weather {"city": "Paris"}`, which is what remains of Mistral's calls without special tokens.
"""

from __future__ import annotations

import json
import re
import string
from typing import Literal

from agentcall.dialects.answer_parts import CallPart, ToolCallPart
from agentcall.dialects.dialect import ToolSet
from agentcall.dialects.parsers._common import (
    CUT_OFF,
    has_only_offered_calls,
    read_json_block,
    reject_markup,
    write_calls,
)
from agentcall.dialects.parsers.scanner import BLANK, Delimiters, Scan
from agentcall.dialects.parsers.tool_parser import ParseState, ToolParser
from agentcall.lenient_json import BracketMatcher, LenientParser, MalformedJSON
from agentcall.messages import JSON

_NAME_PATTERN = re.compile(r"[A-Za-z_][\w.\-]*")
_NAME_CHARACTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-"
_MAY_FOLLOW = ("", "\n", "\r", "<", "`")


def parse_call(parser: LenientParser, tools: ToolSet) -> ToolCallPart:
    """Parse the call `name(key=value, ...)` at the parser's position. Raises MalformedJSON."""
    parser.peek()
    match = _NAME_PATTERN.match(parser.text, parser.at)
    if match is None:
        raise parser.make_error("the name of a tool")
    name = match.group()
    parser.at = match.end()
    if not parser.eat("("):
        raise parser.make_error("'('")
    values: dict[str, JSON] = {}
    order = tools.list_parameters(name)
    has_keyword = False
    while not parser.eat(")"):
        key = _parse_keyword(parser)
        has_keyword = has_keyword or bool(key)
        key = key or ("" if has_keyword else next((p for p in order if p not in values), ""))
        if not key:
            raise parser.make_error("an argument with its name")
        if key in values:
            raise parser.make_error(f"one value for {key!r}, not a second one,")
        values[key] = parser.parse_value()
        if not parser.eat(",") and parser.peek() != ")":
            raise parser.make_error("',' or ')'")
    return ToolCallPart(name.removesuffix(".call"), json.dumps(values, ensure_ascii=False))


def _parse_keyword(parser: LenientParser) -> str:
    parser.peek()
    match = re.compile(r"([A-Za-z_]\w*)\s*=(?!=)").match(parser.text, parser.at)
    if match is None:
        return ""
    parser.at = match.end()
    return match.group(1)


def parse_pythonic_list(text: str, tools: ToolSet) -> list[CallPart]:
    """Return the calls of `[name(...), ...]`, none for any other text."""
    parser = LenientParser(text)
    calls: list[CallPart] = []
    try:
        if not parser.eat("["):
            return []
        while not parser.eat("]"):
            calls.append(parse_call(parser, tools))
            if not parser.eat(",") and parser.peek() != "]":
                return []
        parser.eat(";")
        if parser.peek():
            return []
    except MalformedJSON:
        return []
    return calls


def parse_pythonic_lines(code: str, tools: ToolSet) -> list[CallPart]:
    """Return the calls of code that consists of calls of offered tools, perhaps in `print()`."""
    if code.strip().startswith("["):
        list_calls = parse_pythonic_list(code.strip(), tools)
        return list_calls if has_only_offered_calls(list_calls, tools) else []
    parser = LenientParser(code)
    calls: list[CallPart] = []
    try:
        while parser.peek():
            is_printed = code.startswith("print(", parser.at)
            parser.at += len("print(") if is_printed else 0
            calls.append(parse_call(parser, tools))
            if is_printed and not parser.eat(")"):
                return []
            parser.eat(";")
            parser.eat(",")
    except MalformedJSON:
        return []
    return calls if has_only_offered_calls(calls, tools) else []


def _read_list(state: ParseState) -> Scan[bool]:
    scanner = state.scanner
    pieces = [(yield from scanner.accept("["))]
    if not pieces[0]:
        return False
    pieces.append((yield from scanner.skip(BLANK)))
    name = yield from scanner.skip(_NAME_CHARACTERS)
    if name not in state.tools or not (yield from scanner.accept("(")):
        return False
    balance = BracketMatcher()
    balance.scan("".join(pieces) + name + "(", 0)
    rest = yield from scanner.read_value(balance)
    if not rest:
        is_cut = scanner.is_ended and scanner.remaining == 0
        if is_cut:
            state.writer.write_malformed_call(scanner.get_marked_text(), CUT_OFF)
        return is_cut
    calls = parse_pythonic_list("".join(pieces) + name + "(" + rest, state.tools)
    if not has_only_offered_calls(calls, state.tools):
        return False
    yield from scanner.skip(" \t")
    if (yield from scanner.peek()) not in _MAY_FOLLOW:
        return False
    write_calls(state, calls)
    return True


_BEGIN_TAGS = ("<|python_start|>", "<|tool_call_start|>", "<function_calls>")
_END_TAGS = ("<|python_end|>", "<|tool_call_end|>", "</function_calls>")
_CODE_END = Delimiters(*_END_TAGS, "<|eom|>", "<|eot|>", "<|eom_id|>", "<|eot_id|>")


def _read_marked_code(state: ParseState) -> Scan[bool]:
    """Read the code between <|python_start|> and <|python_end|>, or other families' tags."""
    scanner = state.scanner
    yield from scanner.skip(BLANK)
    if (yield from scanner.look_ahead("[{")):
        return (yield from read_json_block(state, *_END_TAGS))
    list_text = (yield from scanner.read_value()) if (yield from scanner.peek()) == "[" else ""
    code, end = yield from scanner.read_until(_CODE_END)
    code = list_text + code
    if not end and not scanner.is_complete:
        state.writer.write_malformed_call(scanner.get_marked_text(), CUT_OFF)
        return True
    calls = parse_pythonic_list(code.strip(), state.tools) or parse_pythonic_lines(
        code, state.tools
    )
    if not calls:
        reject_markup(state, "there is no call in it")
    write_calls(state, calls)
    return True


_CALL_PREFIXES = ("functions.", "default_api.", "tools.")
_TEXT_END = Delimiters("\0")
_END_TOKENS = re.compile(r"(?:\s|<\|\w{1,20}\|>|</s>)*$")
"""Special tokens at the end of an answer, which a server may leave in the text."""
_PROGRAM_STARTS = f"{string.ascii_letters}_`"


def read_program(state: ParseState) -> Scan[Literal["", "cut", "calls"]]:
    """Read an answer that is nothing but calls of offered tools, or one name and its JSON.

    `print` may be around each call. Returns empty if the rest of the answer is anything else, and
    "cut" if it ends inside a call of a model that had not finished.
    """
    scanner = state.scanner
    quote = yield from scanner.accept("`")
    head = yield from scanner.accept("print(")
    head += yield from scanner.accept(*_CALL_PREFIXES)
    name = (yield from scanner.accept(*state.tools)) if [*state.tools] else ""
    if not name:
        return ""
    blank = yield from scanner.skip(f"{BLANK}:")
    start = yield from scanner.peek()
    if start != "(" and (start not in ("{", "｛", "[") or head):
        return ""
    rest, _ = yield from scanner.read_until(_TEXT_END)
    body = _END_TOKENS.sub("", rest).rstrip()
    for end in ("```", quote):
        body = body.removesuffix(end).rstrip() if end else body
    if start == "(":
        calls = parse_pythonic_lines(head + name + blank + body, state.tools)
    else:
        calls = parse_named_object(f"{name} {body}", state.tools)
    if calls:
        write_calls(state, calls)
        return "calls"
    is_cut = not scanner.is_complete and BracketMatcher().scan(rest, 0) < 0
    return "cut" if is_cut else ""


def parse_named_object(text: str, tools: ToolSet) -> list[CallPart]:
    """Return the call of an offered tool's name and an object; none for any other text."""
    match = _NAME_PATTERN.match(text.strip())
    if match is None:
        return []
    body = text.strip()[match.end() :].lstrip(f"{BLANK}:").removeprefix("[ARGS]").strip()
    is_whole = body[:1] in ("{", "｛") and BracketMatcher().scan(body, 0) == len(body)
    return [ToolCallPart(match[0], body)] if is_whole and match[0] in tools else []


def _read_program(state: ParseState) -> Scan[bool]:
    """Read calls without any markup, which are calls only if the answer is nothing else."""
    scanner = state.scanner
    first = scanner.text[scanner.position]  # has arrived, as this reader was chosen by it
    if state.writer.has_text or state.writer.has_call or first not in state.tools.first_characters:
        return False
    result = yield from read_program(state)
    if result == "cut":
        state.writer.write_malformed_call(state.scanner.get_marked_text(), CUT_OFF)
    return bool(result)


PYTHONIC = ToolParser(
    "pythonic",
    markers=dict.fromkeys(_BEGIN_TAGS, _read_marked_code),
    line_starts={"[": _read_list, _PROGRAM_STARTS: _read_program},
    ignored_tokens=(*_END_TAGS, "<|eom|>", "<|eot|>"),
)
