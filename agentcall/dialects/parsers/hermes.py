"""Hermes 2/3, Qwen2.5, Qwen3, QwQ and many that follow them: JSON in tags.

    <tool_call>
    {"name": "get_weather", "arguments": {"city": "Paris"}}
    </tool_call>

Source: chat_template of NousResearch/Hermes-2-Pro-Llama-3-8B (tool_use), Qwen/Qwen2.5-7B-Instruct
and Qwen/Qwen3-8B (tokenizer_config.json).
"""

from __future__ import annotations

from agentcall.dialects.parsers._common import read_json_block, reject_markup, write_calls
from agentcall.dialects.parsers.pythonic import parse_named_object, parse_pythonic_lines
from agentcall.dialects.parsers.scanner import BLANK, Delimiters, Scan
from agentcall.dialects.parsers.thinking import END_TAGS
from agentcall.dialects.parsers.tool_parser import ParseState, ToolParser

_END_CALL = "</tool_call>"
_CALL_ENDS = Delimiters(_END_CALL, *END_TAGS)


def _read_tool_call(state: ParseState) -> Scan[bool]:
    yield from state.scanner.skip(BLANK)
    yield from state.scanner.accept("```json", "```")
    if (yield from state.scanner.accept(_END_CALL)):
        state.writer.write_malformed_call(state.scanner.get_marked_text(), "there is no call in it")
        return True
    return (yield from read_json_block(state, _END_CALL, "```\n" + _END_CALL))


def read_unreadable(state: ParseState) -> Scan[bool]:
    """Read text between `<tool_call>` tags that no family recognizes.

    Prose about the tag continues behind it and has no end tag: that is text.
    """
    next_character = yield from state.scanner.peek()
    if next_character and next_character in ".,;:?!`\"')":
        return False
    body, delimiter = yield from state.scanner.read_until(_CALL_ENDS)
    if delimiter in END_TAGS:  # a tag that was only mentioned, or part of thinking
        return False
    calls = parse_pythonic_lines(body, state.tools) or parse_named_object(body, state.tools)
    if calls and (delimiter or state.scanner.is_complete):
        write_calls(state, calls)
    elif not body.strip() and state.writer.has_call and state.scanner.is_complete:
        state.writer.drop_markup()
    elif next_character == " " and not delimiter:
        return False
    else:
        reject_markup(state, "there is no call in it")
    return True


HERMES = ToolParser(
    "hermes",
    markers={"<tool_call>": _read_tool_call},
    ignored_tokens=(_END_CALL, "<|im_end|>", "<|im_start|>assistant"),
)
