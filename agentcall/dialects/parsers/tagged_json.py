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
"""

from __future__ import annotations

from agentcall.dialects.parsers._common import read_json_block, reject_markup
from agentcall.dialects.parsers.scanner import BLANK, Scan
from agentcall.dialects.parsers.thinking import create_tag_readers
from agentcall.dialects.parsers.tool_parser import MarkupReader, ParseState, ToolParser


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
JAMBA = ToolParser(
    "jamba",
    markers={
        "<tool_calls>": _create_json_reader("</tool_calls>"),
        "<longcat_tool_call>": _create_json_reader("</longcat_tool_call>"),
        "<|tools_prefix|>": _create_json_reader("<|tools_suffix|>"),
    },
)
