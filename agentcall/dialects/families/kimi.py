"""Kimi K2, K2.5, K2.6: calls between special tokens.

    <|tool_calls_section_begin|><|tool_call_begin|>functions.get_weather:0
    <|tool_call_argument_begin|>{"city": "Paris"}<|tool_call_end|><|tool_calls_section_end|>

Source: chat_template.jinja and docs/tool_call_guidance.md of moonshotai/Kimi-K2-Instruct-0905. The
call's id holds its name. K3 writes another format: families/kimi_k3.py.
"""

from __future__ import annotations

import re

from agentcall.dialects.calls import CUT_OFF, reject_markup, unwrap_arguments
from agentcall.dialects.page import ParseState, ToolParser
from agentcall.dialects.scan import BLANK, Delimiters, Scan

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
        _, needle = yield from scanner.read_until(_NEXT_CALL)
        if needle != _BEGIN_CALL:
            if not needle and not scanner.is_complete:
                state.writer.write_malformed_call(scanner.get_marked_text(), CUT_OFF)
            state.writer.drop_markup()
            return True
        scanner.set_mark(needle)
        if not (yield from _read_call(state)):
            return True
        scanner.set_mark()


def _read_call(state: ParseState) -> Scan[bool]:
    """One call; whether more may follow in its section."""
    scanner = state.scanner
    call_id, needle = yield from scanner.read_until(_AFTER_ID)
    yield from scanner.skip(BLANK)
    begun = needle == _BEGIN_ARGUMENTS and (yield from scanner.peek()) == "{"
    text = (yield from scanner.read_value()) if begun else ""
    yield from scanner.skip(BLANK)
    done = yield from scanner.accept(_END_CALL)
    if not done and needle == _BEGIN_ARGUMENTS and (yield from scanner.peek()):
        _, done = yield from scanner.read_until(_CALL_ENDS)
        text = ""
    found = _ID_PATTERN.fullmatch(call_id.strip())
    if text and found and (done or scanner.is_complete):
        state.writer.write_call(found.group(1), unwrap_arguments(text), call_id.strip())
        return True
    reject_markup(state, "its JSON is not well formed")
    return bool(done) and done != _END_SECTION


KIMI = ToolParser(
    "kimi",
    markers={"<|tool_calls_section_begin|>": _read_section, _BEGIN_CALL: _read_call},
    ignored_tokens=(_END_CALL, _END_SECTION, "<|im_end|>"),
)
