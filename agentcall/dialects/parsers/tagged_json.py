"""The families that write JSON between tags and differ in the tags only: a table.

Granite 3.x, Granite 20B function calling. Granite 4 writes as Hermes does.

    <|tool_call|>[{"name": "get_weather", "arguments": {"city": "Paris"}}]

Source: chat_template of ibm-granite/granite-3.0-8b-instruct (`<|tool_call|>`), of
granite-3.1-8b-instruct (`<tool_call>` before a list), of granite-20b-functioncalling
(`<function_call>` before an object). The last bracket ends the call.

Phi-4-mini: a list after the word `functools` or between tokens.

    functools[{"name": "get_weather", "arguments": {"city": "Paris"}}]
    <|tool_call|>[{"name": "get_weather", "arguments": {"city": "Paris"}}]<|/tool_call|>

Source: microsoft/Phi-4-mini-instruct, model card and tokenizer_config.json; vLLM phi4_mini_json.

Cohere Command R7B, Command A: a list between action tokens. For the `Action:` of Command R see
react.py.

    <|START_THINKING|>...<|END_THINKING|><|START_ACTION|>
    [{"tool_call_id": "0", "tool_name": "get_weather", "parameters": {"city": "Paris"}}]
    <|END_ACTION|>

Source: chat_template of CohereLabs/c4ai-command-a-03-2025 (tool_use).

Jamba, Hunyuan A13B, LongCat, Apertus.

    <tool_calls>[{"name": "get_weather", "arguments": {"city": "Paris"}}]</tool_calls>

Source: chat_template of ai21labs/AI21-Jamba-Mini-1.6 and tencent/Hunyuan-A13B-Instruct
(`<tool_calls>`), meituan-longcat/LongCat-Flash-Chat (`<longcat_tool_call>`),
swiss-ai/Apertus-8B-Instruct-2509 (`<|tools_prefix|>`, the tool's name as the key).

Glaive function calling: the arguments are an object in single quotes, unescaped.

    <functioncall> {"name": "get_weather", "arguments": '{"city": "Paris"}'} <|endoftext|>

Source: glaiveai/glaive-function-calling-v2 (data set card), on which many models were trained.

Tags that models were prompted to write, among them LM Studio's default for models without a format
of their own. They occur in prose and data as well, so that they count only around offered tools.

    [TOOL_REQUEST]{"name": "get_weather", "arguments": {"city": "Paris"}}[END_TOOL_REQUEST]
    <TOOLCALL>[{"name": "get_weather", "arguments": {"city": "Paris"}}]</TOOLCALL>

Source: the tool use page of LM Studio's documentation; chat_template of
nvidia/NVIDIA-Nemotron-Nano-9B-v2 (`<TOOLCALL>`).
"""

from __future__ import annotations

import re

from agentcall.dialects.parsers._common import (
    CUT_OFF,
    OPENERS,
    has_only_offered_calls,
    parse_calls,
    read_json_block,
    reject_markup,
    write_calls,
)
from agentcall.dialects.parsers.pythonic import parse_pythonic_lines
from agentcall.dialects.parsers.scanner import BLANK, Delimiters, Scan
from agentcall.dialects.parsers.thinking import create_tag_readers
from agentcall.dialects.parsers.tool_parser import MarkupReader, ParseState, ToolParser
from agentcall.lenient_json import BracketMatcher


def _create_json_reader(
    *closers: str, is_self_closing: bool = False, requires_json: bool = False
) -> MarkupReader:
    """Create a reader of JSON up to a closer, or up to its last bracket if it closes itself.

    requires_json: markup without JSON is a malformed call; otherwise it is text.
    """

    def read(state: ParseState) -> Scan[bool]:
        has_json = yield from read_json_block(state, *closers, is_self_closing=is_self_closing)
        if requires_json and not has_json:
            reject_markup(state, "there is no call in it")
        return has_json or requires_json

    return read


def _read_list(state: ParseState) -> Scan[bool]:
    """Read a list after a tag that other families write before an object."""
    yield from state.scanner.skip(BLANK)
    if (yield from state.scanner.peek()) != "[":
        return False
    return (yield from read_json_block(state, "</tool_call>", is_self_closing=True))


def _read_functools(state: ParseState) -> Scan[bool]:
    state.scanner.unread("[")  # the bracket is part of the marker and of the JSON
    return (yield from read_json_block(state, is_self_closing=True))


def _create_offered_reader(*closers: str) -> MarkupReader:
    """Create a reader of JSON or of Python calls in a tag that may also be prose or data.

    It is read only if it has whole calls of offered tools, and nothing else, up to its closer.
    """
    ends = Delimiters(*closers)

    def read(state: ParseState) -> Scan[bool]:
        scanner = state.scanner
        yield from scanner.skip(BLANK)
        yield from scanner.accept("```json", "```")
        yield from scanner.skip(BLANK)
        if (yield from scanner.peek()) in OPENERS:
            text = yield from scanner.read_value()
            calls = parse_calls(text, allows_flat=False) if text else []
            yield from scanner.skip(f"{BLANK}`")
            end = yield from scanner.accept(*closers)
        else:
            text, end = yield from scanner.read_until(ends)
            calls = parse_pythonic_lines(text, state.tools)
        is_over = scanner.is_ended and scanner.remaining == 0
        if not end and is_over and text[:1] in OPENERS and not scanner.is_complete:
            state.writer.write_malformed_call(scanner.get_marked_text(), CUT_OFF)
            return True
        is_whole = end or (scanner.is_complete and is_over)
        if not is_whole or not has_only_offered_calls(calls, state.tools):
            return False
        write_calls(state, calls)
        return True

    return read


class _QuotedObjectMatcher(BracketMatcher):
    """Finds the end of an object in which an object in single quotes may have apostrophes."""

    def _skip_string(self, text: str, at: int) -> int:
        if self.quote == "'" and not self._after_backslash and text[at] in "{[":
            self.quote = ""
            self.open_closers.append("'")
            return at
        return super()._skip_string(text, at)

    def _step(self, char: str) -> bool:
        if char == "'" and self.open_closers and self.open_closers[-1] == "'":
            self.open_closers.pop()
            return True
        return super()._step(char)


_QUOTED_ARGUMENTS = re.compile(
    r"""\s*\{\s*["']name["']\s*:\s*["']([\w.\-]+)["']\s*,\s*["'](?:arguments|parameters)["']\s*:"""
    r"""\s*'(\{.*\})'\s*\}\s*""",
    re.DOTALL,
)


def _read_glaive_call(state: ParseState) -> Scan[bool]:
    """Read an object whose arguments may be an object in single quotes, unescaped."""
    scanner = state.scanner
    yield from scanner.skip(BLANK)
    first = yield from scanner.peek()
    if first not in ("{", ""):
        return False
    text = (yield from scanner.read_value(_QuotedObjectMatcher())) if first else ""
    quoted = _QUOTED_ARGUMENTS.fullmatch(text)
    if not text:
        reject_markup(state, "its JSON is not well formed")
    elif quoted:
        state.writer.write_call(quoted[1], quoted[2])
    else:
        write_calls(state, parse_calls(text))
    yield from scanner.skip(BLANK)
    yield from scanner.accept("</functioncall>")
    return True


_read_granite_call = _create_json_reader(
    "<|/tool_call|>", "</tool_call>", "</function_call>", is_self_closing=True
)

GRANITE = ToolParser(
    "granite",
    markers={
        "<|tool_call|>": _read_granite_call,
        "<function_call>": _read_granite_call,
        "<tool_call>": _read_list,
    },
    ignored_tokens=("<|end_of_text|>", "<|/tool_call|>"),
)
PHI = ToolParser(
    "phi",
    markers={
        "functools[": _read_functools,
        "<|tool_call|>": _create_json_reader("<|/tool_call|>", is_self_closing=True),
    },
    ignored_tokens=("<|end|>", "<|/tool_call|>"),
)
GLAIVE = ToolParser(
    "glaive",
    markers={"<functioncall>": _read_glaive_call},
    ignored_tokens=("</functioncall>", "<|endoftext|>"),
)
PROMPTED = ToolParser(
    "prompted",
    markers={
        opening: _create_offered_reader(closing)
        for opening, closing in {
            "<tool>": "</tool>",
            "<tools>": "</tools>",
            "<tool_use>": "</tool_use>",
            "<toolcall>": "</toolcall>",
            "<TOOLCALL>": "</TOOLCALL>",
            "<tool_code>": "</tool_code>",
            "[TOOL_REQUEST]": "[END_TOOL_REQUEST]",
            "[tool_call]": "[/tool_call]",
            "[TOOL_CALL]": "[/TOOL_CALL]",
        }.items()
    },
)
COHERE = ToolParser(
    "cohere",
    markers={"<|START_ACTION|>": _create_json_reader("<|END_ACTION|>", requires_json=True)},
    thinking=create_tag_readers("<|START_THINKING|>", "<|END_THINKING|>"),
    ignored_tokens=(
        "<|END_ACTION|>",
        "<|START_RESPONSE|>",
        "<|END_RESPONSE|>",
        "<|START_TEXT|>",
        "<|END_TEXT|>",
        "<|END_OF_TURN_TOKEN|>",
    ),
)
_read_jamba_calls = _create_json_reader("</tool_calls>")


def _read_section(state: ParseState) -> Scan[bool]:
    """Read JSON, or drop the tag around calls that have tags of their own."""
    following = yield from state.scanner.look_past_blanks("<tool_call>", "<function=", "<invoke ")
    if following:
        state.writer.drop_markup()
        return True
    return (yield from _read_jamba_calls(state))


JAMBA = ToolParser(
    "jamba",
    markers={
        "<tool_calls>": _read_section,
        "<longcat_tool_call>": _create_json_reader("</longcat_tool_call>"),
        "<|tools_prefix|>": _create_json_reader("<|tools_suffix|>"),
    },
    ignored_tokens=("</tool_calls>",),
)
