"""Calls inside a code fence: ```json of many small models, ```tool_code of Gemma 3.

    ```json
    {"name": "get_weather", "arguments": {"city": "Paris"}}
    ```

Source: no template; models that are prompted for JSON write it. ```tool_code: Google's guide to
function calling with Gemma 3. A fence counts if it contains only calls of offered tools. Otherwise
it is text, and nothing in it is read as bare JSON or pythonic calls.
"""

from __future__ import annotations

from agentcall.dialects.answer_parts import CallPart
from agentcall.dialects.parsers._common import (
    COMMENTS,
    CUT_OFF,
    OPENERS,
    has_only_offered_calls,
    parse_calls,
    write_calls,
)
from agentcall.dialects.parsers.bare_json import read_call_value
from agentcall.dialects.parsers.pythonic import parse_pythonic_lines, read_program
from agentcall.dialects.parsers.scanner import BLANK, Delimiters, Scan
from agentcall.dialects.parsers.tool_parser import ParseState, ToolParser

_JSON_LABELS = frozenset(
    {"", "json", "jsonc", "json5", "tool_call", "tool_calls", "tool", "function"}
)
_CODE_LABELS = frozenset({"tool_code", "tool_call", "tool_calls", "tool"})
_PROGRAM_LABELS = frozenset({"", "python", "py", "python3", "text", "plaintext"})
"""Labels of code that is only calls if there is nothing beside it in the answer."""
_LABEL_CHARACTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-+#. \t"
_FENCE_END = Delimiters("```")
_COMMENT_END = Delimiters("\n", "```")


def _read_fence(state: ParseState) -> Scan[bool]:
    scanner = state.scanner
    if not (yield from scanner.accept("```")):
        return False
    label = (yield from scanner.skip(_LABEL_CHARACTERS)).strip().lower()
    yield from scanner.skip(BLANK)
    first = yield from scanner.peek()
    if (yield from _begin_marked_fence(state)):
        return True
    is_first = not state.writer.has_text and not state.writer.has_call
    if label in _JSON_LABELS and first in (*OPENERS, "/", "#"):
        is_call = yield from _read_json_fence(state)
    elif label in _CODE_LABELS and first:
        is_call = yield from _read_code_fence(state)
    elif label in _PROGRAM_LABELS and first and is_first:
        is_call = (yield from read_program(state)) == "calls"
    else:
        is_call = False
    if not is_call:
        yield from _reject_fence(state)
    return True


def _begin_marked_fence(state: ParseState) -> Scan[bool]:
    """Drop a fence around marked calls, which are then read as usual."""
    if not state.call_markers or not (yield from state.scanner.look_ahead(*state.call_markers)):
        return False
    state.writer.drop_markup()
    state.fence = "call"
    return True


def _reject_fence(state: ParseState) -> Scan[None]:
    """Write the fence as text; what follows is read as code until it closes."""
    raw = state.scanner.get_marked_text()
    if not state.scanner.backtrack(3):
        state.writer.write_text(raw)
        return
    state.writer.write_text("```")
    state.fence = "text"
    yield from ()


def _read_json_fence(state: ParseState) -> Scan[bool]:
    scanner = state.scanner
    calls: list[CallPart] = []
    yield from _skip_comments(state)
    while True:
        text, is_certain = yield from read_call_value(state)
        if not text:
            return is_certain and _reject_cut_fence(state)
        calls += parse_calls(text, allows_flat=False)
        if not has_only_offered_calls(calls, state.tools):
            return False
        yield from scanner.skip(BLANK + ",;，；")
        yield from _skip_comments(state)
        if (yield from scanner.accept("```")):
            break
        if (yield from scanner.peek()) not in OPENERS:
            if scanner.remaining or not scanner.is_complete:
                return _reject_cut_fence(state)
            break
    write_calls(state, calls)
    return True


def _skip_comments(state: ParseState) -> Scan[None]:
    """Skip comments and blanks; a fence on the same line ends a comment."""
    while (yield from state.scanner.look_ahead(*COMMENTS)):
        _, end = yield from state.scanner.read_until(_COMMENT_END)
        if end == "```":
            state.scanner.unread(end)
        yield from state.scanner.skip(BLANK)


def _reject_cut_fence(state: ParseState) -> bool:
    """Write a malformed call and return True if the answer ended inside the fence."""
    if state.scanner.remaining or not state.scanner.is_ended:
        return False
    state.writer.write_malformed_call(state.scanner.get_marked_text(), CUT_OFF)
    return True


def _read_code_fence(state: ParseState) -> Scan[bool]:
    scanner = state.scanner
    code, end = yield from scanner.read_until(_FENCE_END)
    calls = parse_pythonic_lines(code, state.tools)
    if not calls:
        return False
    if not end and not scanner.is_complete:
        return _reject_cut_fence(state)
    write_calls(state, calls)
    return True


FENCED = ToolParser("fenced", line_starts={"`": _read_fence})
