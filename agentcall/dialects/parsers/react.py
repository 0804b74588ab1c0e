"""ReAct: a thought, an action and its input as lines of text.

    Thought: I need the weather.
    Action: get_weather
    Action Input: {"city": "Paris"}
    Observation: ...
    Final Answer: It rains.

Source: Yao et al. 2022 (arXiv 2210.03629); the prompts of LangChain's ReAct agent and Qwen-Agent.

Rules:
1. An action is a call if it names an offered tool.
2. Input that is not JSON is the value of the tool's only required argument.
3. Text after `Observation:` was made up by the model and is dropped.
4. `Thought:` is thinking only if an action or a final answer follows. `Final Answer:` is removed
   only after one of these labels.
"""

from __future__ import annotations

import json

from agentcall.dialects.answer_parts import ToolCallPart
from agentcall.dialects.dialect import ToolSet
from agentcall.dialects.parsers._common import (
    CUT_OFF,
    encode_value,
    format_object,
    get_property_schema,
    has_only_offered_calls,
    parse_calls,
    unwrap_arguments,
    write_calls,
)
from agentcall.dialects.parsers.pythonic import parse_pythonic_lines
from agentcall.dialects.parsers.scanner import BLANK, Delimiters, Scan
from agentcall.dialects.parsers.tool_parser import ParseState, ToolParser

_THOUGHT_LABEL = "Thought:"
_ACTION_LABELS = ("Action:", "**Action:**")
_INPUT_LABELS = ("Action Input:", "**Action Input:**", "ActionInput:", "Action input:", "Input:")
_FINAL_LABELS = ("Final Answer:", "**Final Answer:**")
_LINE_END = Delimiters("\n")
_AFTER_INPUT = ("", "\n", "\r", "<")
_NEVER = Delimiters("\0react\0")


def _read_thought(state: ParseState) -> Scan[bool]:
    scanner = state.scanner
    if not (yield from scanner.accept(_THOUGHT_LABEL)):
        return False
    lines: list[str] = []
    while True:
        line, end = yield from scanner.read_until(_LINE_END)
        lines.append(line + end)
        if not end:
            return False
        if (yield from scanner.look_ahead(*_ACTION_LABELS, *_FINAL_LABELS)):
            break
    state.writer.begin_thinking()
    state.writer.write_thinking("".join(lines))
    state.writer.end_thinking()
    state.has_react_labels = True
    return True


def _read_action(state: ParseState) -> Scan[bool]:
    scanner = state.scanner
    if not (yield from scanner.accept(*_ACTION_LABELS)):
        return False
    yield from scanner.skip(" \t")
    yield from scanner.accept("```json\n", "```\n")
    if (yield from scanner.peek()) in ("{", "["):
        return (yield from _read_json_action(state))
    line, end = yield from scanner.read_until(_LINE_END)
    name = line.strip().strip("`*\"'[]")
    if name not in state.tools:
        calls = parse_pythonic_lines(line.strip().strip("`"), state.tools)
        write_calls(state, calls)
        return bool(calls) and (yield from _drop_observation(state))
    yield from scanner.skip(BLANK)
    if end and (yield from scanner.accept(*_INPUT_LABELS)):
        return (yield from _read_action_arguments(state, name))
    if not (yield from scanner.look_ahead("Observation")):
        if not (state.has_react_labels and scanner.is_complete and scanner.remaining == 0):
            return False
        if state.tools.can_take_more(name, ()):
            state.writer.write_malformed_call(scanner.get_marked_text(), CUT_OFF)
            return True
    state.writer.write_call(name, "{}")
    return (yield from _drop_observation(state))


def _read_action_arguments(state: ParseState, name: str) -> Scan[bool]:
    scanner = state.scanner
    yield from scanner.skip(" \t")
    yield from scanner.accept("```json\n", "```\n")
    yield from scanner.skip(BLANK)
    if (yield from scanner.peek()) == "{":
        text = yield from scanner.read_value()
        if not text:
            state.writer.write_malformed_call(
                scanner.get_marked_text(), "its input is not well formed"
            )
            return True
        yield from scanner.accept("\n```", "```")
        yield from scanner.skip(" \t")
        if (
            not (yield from scanner.look_ahead("Observation"))
            and (yield from scanner.peek()) not in _AFTER_INPUT
        ):
            yield from scanner.read_until(_LINE_END)
            state.writer.write_malformed_call(
                scanner.get_marked_text(), "there is text after its input"
            )
            return True
        state.writer.write_call(name, unwrap_arguments(text))
        return (yield from _drop_observation(state))
    line, end = yield from scanner.read_until(_LINE_END)
    is_cut = line[:1] == "`" or (not line.strip() and state.tools.can_take_more(name, ()))
    if not end and (is_cut or not scanner.is_complete):
        state.writer.write_malformed_call(scanner.get_marked_text(), CUT_OFF)
        return True
    if line.lstrip().startswith(("//", "/*", "#")):
        state.writer.write_malformed_call(
            scanner.get_marked_text(), "there is a comment before its input"
        )
        return True
    call = _create_plain_call(name, line.strip(), state.tools)
    state.writer.write_call(call.name, call.arguments)
    return (yield from _drop_observation(state))


def _create_plain_call(name: str, text: str, tools: ToolSet) -> ToolCallPart:
    """Create a call whose input is not a JSON object."""
    for call in parse_pythonic_lines(f"{name}({text})", tools):
        if isinstance(call, ToolCallPart) and "=" in text:
            return call
    schema = tools.get_schema(name)
    needed = schema.get("required") or tools.list_parameters(name)
    keys = [key for key in needed if isinstance(key, str)] if isinstance(needed, list) else []
    if len(keys) == 1 and text:
        value = encode_value(text.strip("\"'"), get_property_schema(schema, keys[0]), schema)
        return ToolCallPart(name, format_object([(keys[0], value)]))
    return ToolCallPart(name, json.dumps(text, ensure_ascii=False) if text else "{}")


def _read_json_action(state: ParseState) -> Scan[bool]:
    """Read LangChain's form, one JSON object, or that of Cohere's Command R, a list of them."""
    scanner = state.scanner
    text = yield from scanner.read_value()
    calls = parse_calls(text, allows_flat=False) if text else []
    if not has_only_offered_calls(calls, state.tools):
        return False
    yield from scanner.accept("\n```", "```")
    write_calls(state, calls)
    return (yield from _drop_observation(state))


def _drop_observation(state: ParseState) -> Scan[bool]:
    """Drop an observation after a call, and all that follows it: the model made it up."""
    state.has_react_labels = True
    yield from state.scanner.skip(BLANK)
    if (yield from state.scanner.accept("Observation:", "Observation")):
        yield from state.scanner.stream_until(_NEVER, lambda _: None)
    return True


def _drop_final_label(state: ParseState) -> Scan[bool]:
    if not state.has_react_labels or not (yield from state.scanner.accept(*_FINAL_LABELS)):
        return False
    yield from state.scanner.skip(BLANK)
    state.writer.drop_markup()
    return True


REACT = ToolParser(
    "react", line_starts={"T": _read_thought, "A*": _read_action, "*F": _drop_final_label}
)
