"""Llama 3.1, 3.2, 3.3: JSON, often after <|python_tag|>.

    <|python_tag|>{"name": "get_weather", "parameters": {"city": "Paris"}}<|eom_id|>

Source: meta-llama/llama-models, prompt format of Llama 3.1; chat_template of
meta-llama/Llama-3.3-70B-Instruct. Several calls are separated by `;`. Without the tag it is bare
JSON. The tag may also precede a call of a built-in tool, `brave_search.call(query="...")`, or
Python for the code interpreter.
"""

from __future__ import annotations

from agentcall.dialects.parsers._common import (
    CUT_OFF,
    create_code_call,
    is_whole_code,
    read_json_block,
    write_calls,
)
from agentcall.dialects.parsers.bare_json import BARE_JSON
from agentcall.dialects.parsers.pythonic import parse_pythonic_lines, parse_pythonic_list
from agentcall.dialects.parsers.scanner import BLANK, Delimiters, Scan
from agentcall.dialects.parsers.tool_parser import ParseState, ToolParser

_END_TOKENS = ("<|eom_id|>", "<|eot_id|>")
_CODE_END = Delimiters(*_END_TOKENS)


def _read_python_tag(state: ParseState) -> Scan[bool]:
    scanner = state.scanner
    yield from scanner.skip(BLANK)
    if (yield from scanner.peek()) == "{":
        return (yield from read_json_block(state, *_END_TOKENS, is_self_closing=True))
    code, end = yield from scanner.read_until(_CODE_END)
    if not end and not (scanner.is_complete and is_whole_code(code)):
        state.writer.write_malformed_call(scanner.get_marked_text(), CUT_OFF)
        return True
    calls = parse_pythonic_list(code.strip(), state.tools) or parse_pythonic_lines(
        code, state.tools
    )
    if not calls and not code.strip():
        state.writer.write_malformed_call(scanner.get_marked_text(), "there is no call in it")
    elif not calls:
        write_calls(state, [create_code_call(state.tools, "python", code.strip("\n"))])
    write_calls(state, calls)
    return True


LLAMA3 = ToolParser(
    "llama3",
    markers={"<|python_tag|>": _read_python_tag},
    line_starts=BARE_JSON.line_starts,
    ignored_tokens=(*_END_TOKENS, "<|start_header_id|>assistant<|end_header_id|>"),
)
