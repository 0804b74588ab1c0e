"""Mistral, all versions: calls after [TOOL_CALLS].

    [TOOL_CALLS] [{"name": "get_weather", "arguments": {"city": "Paris"}}]        v3, v7
    [TOOL_CALLS]get_weather[ARGS]{"city": "Paris"}                                 v11, v13
    [TOOL_CALLS]get_weather[CALL_ID]123456789[ARGS]{"city": "Paris"}               v11

Source: mistral-common, tokens/tokenizers/instruct.py (versions 3 to 13); chat_template of
mistralai/Mistral-Small-3.2-24B-Instruct-2506. The last bracket ends the call. For the thinking of
Magistral see thinking.py.
"""

from __future__ import annotations

from agentcall.dialects.parsers._common import read_json_block, reject_markup
from agentcall.dialects.parsers.scanner import BLANK, Scan
from agentcall.dialects.parsers.tool_parser import ParseState, ToolParser

_MARKER = "[TOOL_CALLS]"
_NAME_CHARACTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-"


def _read_tool_calls(state: ParseState) -> Scan[bool]:
    scanner = state.scanner
    yield from scanner.skip(BLANK)
    if (yield from scanner.peek()) in ("[", "{"):
        return (yield from read_json_block(state, is_self_closing=True))
    name = yield from scanner.skip(_NAME_CHARACTERS)
    call_id = ""
    if name and (yield from scanner.accept("[CALL_ID]")):
        call_id = yield from scanner.skip(_NAME_CHARACTERS)
    has_args_marker = yield from scanner.accept("[ARGS]")
    yield from scanner.skip(BLANK)
    if name and (yield from scanner.peek()) == "{":
        text = yield from scanner.read_value()
        if text:
            state.writer.write_call(name, text, call_id)
        else:
            reject_markup(state, "its JSON is not well formed")
        return True
    is_over = scanner.remaining == 0 or scanner.accept_partial("[CALL_ID]", "[ARGS]")
    if not is_over and not has_args_marker:
        scanner.backtrack(len(_MARKER))
    reject_markup(state, "there is no call in it")
    return True


MISTRAL = ToolParser(
    "mistral", markers={_MARKER: _read_tool_calls}, ignored_tokens=("[/TOOL_CALLS]",)
)
