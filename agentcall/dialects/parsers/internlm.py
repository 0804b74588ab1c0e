"""InternLM2, InternLM2.5, InternLM3, Intern-S1: action blocks.

    thought<|action_start|><|plugin|>
    {"name": "get_weather", "parameters": {"city": "Tokyo"}}<|action_end|>

Source: InternLM repository, chat/chat_format.md (InternLM2, InternLM2.5); LMDeploy
internlm2_tool_parser; SGLang InternlmDetector (a space between the markers, `arguments`). The
first InternLM2 checkpoints write the same tokens as [UNUSED_TOKEN_141..144]. The code
interpreter's block contains code, usually in a fence. A server that skips special tokens leaves
bare JSON. Intern-S1 may call a tool without leaving its thinking; the call ends the answer, as its
end token is a stop word: thinking.py, rule 2.
"""

from __future__ import annotations

from agentcall.dialects.parsers._common import (
    CUT_OFF,
    create_code_call,
    is_whole_code,
    read_json_block,
    strip_fence,
    write_calls,
)
from agentcall.dialects.parsers.bare_json import BARE_JSON
from agentcall.dialects.parsers.fenced import FENCED
from agentcall.dialects.parsers.scanner import BLANK, Delimiters, Scan
from agentcall.dialects.parsers.tool_parser import ParseState, ToolParser

_END_TOKENS = ("<|action_end|>", "[UNUSED_TOKEN_143]")
_PLUGIN_TOKENS = ("<|plugin|>", "[UNUSED_TOKEN_141]")
_INTERPRETER_TOKENS = ("<|interpreter|>", "[UNUSED_TOKEN_142]")
_ACTION_ENDS = Delimiters(*_END_TOKENS, "<|im_end|>", "[UNUSED_TOKEN_145]")


def _read_action(state: ParseState) -> Scan[bool]:
    scanner = state.scanner
    yield from scanner.skip(BLANK)
    if (yield from scanner.accept(*_INTERPRETER_TOKENS)):
        yield from _read_code(state)
        return True
    yield from scanner.accept(*_PLUGIN_TOKENS)
    if (yield from read_json_block(state, *_END_TOKENS)):
        return True
    _, delimiter = yield from scanner.read_until(_ACTION_ENDS)
    is_cut = not delimiter and not scanner.is_complete
    state.writer.write_malformed_call(
        scanner.get_marked_text(), CUT_OFF if is_cut else "there is no JSON in the action block"
    )
    return True


def _read_code(state: ParseState) -> Scan[None]:
    code, delimiter = yield from state.scanner.read_until(_ACTION_ENDS)
    if not delimiter and not (state.scanner.is_complete and is_whole_code(code)):
        state.writer.write_malformed_call(state.scanner.get_marked_text(), CUT_OFF)
        return
    write_calls(state, [create_code_call(state.tools, "interpreter", strip_fence(code))])


INTERNLM = ToolParser(
    "internlm",
    markers={"<|action_start|>": _read_action, "[UNUSED_TOKEN_144]": _read_action},
    line_starts={**BARE_JSON.line_starts, **FENCED.line_starts},
    ignored_tokens=("<|action_end|>", "<|im_end|>", "[UNUSED_TOKEN_143]", "[UNUSED_TOKEN_145]"),
)
