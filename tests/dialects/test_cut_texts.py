"""A call that was cut never runs, in any family and at any position, whatever the finish reason."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from rows import each_row
from tool_call_formats import FORMATS, bare, dumps, pythonic, qwen_coder, tagged

from agentcall import tool
from agentcall.dialects.dialect import ToolSet
from agentcall.dialects.parsers.response_parser import collect_parts, create_text_reader
from agentcall.repair import RefusedCall, repair_call

Render = Callable[[str, dict[str, Any]], str]


@tool
def wipe(pattern: str = "*", depth: int = 3, force: bool = False) -> str:
    """Delete files; every argument has a default."""
    return ""


@tool
def note(text: str = "") -> str:
    """Write a note."""
    return ""


@tool
def refresh() -> str:
    """Read all again."""
    return ""


TOOLS = {each.name: each for each in (wipe, note, refresh)}
WIPE: dict[str, Any] = {"pattern": "tmp/*", "depth": 12, "force": True}


def harmony_first(name: str, arguments: dict[str, Any]) -> str:
    head = f"to=functions.{name}<|channel|>commentary <|constrain|>json<|message|>"
    return f"{head}{dumps(arguments)}<|call|>"


def harmony_role(name: str, arguments: dict[str, Any]) -> str:
    head = f"<|start|>assistant to=functions.{name}<|channel|>commentary json<|message|>"
    return f"{head}{dumps(arguments)}<|call|>"


def function_gemma(name: str, arguments: dict[str, Any]) -> str:
    pairs = (
        f"{key}:" + (f"<escape>{value}<escape>" if isinstance(value, str) else json.dumps(value))
        for key, value in arguments.items()
    )
    return f"<start_function_call>call:{name}{{{','.join(pairs)}}}<end_function_call>"


def llama31_custom(name: str, arguments: dict[str, Any]) -> str:
    return f"<function={name}>{dumps(arguments)}</function>"


def tool_code(name: str, arguments: dict[str, Any]) -> str:
    return f"```tool_code\nprint({pythonic(name, arguments)[1:-1]})\n```"


def react_thought(name: str, arguments: dict[str, Any]) -> str:
    return f"Thought: So.\nAction: {name}\nAction Input: {dumps(arguments)}"


def react_fenced(name: str, arguments: dict[str, Any]) -> str:
    return f"Thought: So.\nAction: {name}\nAction Input: ```json\n{dumps(arguments)}\n```"


def langchain(name: str, arguments: dict[str, Any]) -> str:
    body = dumps({"action": name, "action_input": arguments})
    return f"Thought: So.\nAction:\n```json\n{body}\n```"


def longcat(name: str, arguments: dict[str, Any]) -> str:
    body = dumps({"name": name, "arguments": arguments})
    return f"<longcat_tool_call>{body}</longcat_tool_call>"


def minicpm(name: str, arguments: dict[str, Any]) -> str:
    body = "".join(f'<param name="{k}">{tagged(v)}</param>' for k, v in arguments.items())
    return f'<tool_call><function name="{name}">{body}</function></tool_call>'


def granite_20b(name: str, arguments: dict[str, Any]) -> str:
    return f"<function_call>{dumps({'name': name, 'arguments': arguments})}"


def qwen_untagged(name: str, arguments: dict[str, Any]) -> str:
    whole = qwen_coder(name, arguments)
    return whole.removeprefix("<tool_call>\n").removesuffix("\n</tool_call>")


def hermes_pythonic(name: str, arguments: dict[str, Any]) -> str:
    return f"<tool_call>{pythonic(name, arguments)[1:-1]}</tool_call>"


def python_tag(name: str, arguments: dict[str, Any]) -> str:
    return f"<|python_tag|>{pythonic(name, arguments)[1:-1]}<|eom_id|>"


def bare_twice(name: str, arguments: dict[str, Any]) -> str:
    return f"{bare('refresh', {})}\n{bare(name, arguments)}"


OTHERS: dict[str, Render] = {
    each.__name__: each
    for each in (
        harmony_first, harmony_role, function_gemma, llama31_custom, tool_code, react_thought,
        react_fenced, langchain, longcat, minicpm, granite_20b, qwen_untagged, hermes_pythonic,
        python_tag, bare_twice,
    )
}  # fmt: skip
ALL: dict[str, Render] = {**FORMATS, **OTHERS}

MAY_LACK = {
    "apertus": "<|tools_suffix|>",
    "cohere": "<|END_ACTION|>",
    "commented": " // so\n</tool_call>",
    "deepseek_v3": "\n```<｜tool▁call▁end｜><｜tool▁calls▁end｜>",
    "deepseek_v31": "<｜tool▁call▁end｜><｜tool▁calls▁end｜>",
    "dsml": "\n</｜DSML｜function_calls>",
    "dsml_v41": "\n</｜DSML｜ calls>",
    "fenced": "\n```",
    "function_gemma": "<end_function_call>",
    "function_json": "</function>",
    "gemma4": "<tool_call|>",
    "glm45": "\n</tool_call>",
    "glm47": "\n</tool_call>",
    "glaive": " <|endoftext|>",
    "lm_studio": "[END_TOOL_REQUEST]",
    "nemotron": "</TOOLCALL>",
    "tool_tag": "\n</tool>",
    "harmony": "<|call|>",
    "harmony_first": "<|call|>",
    "harmony_role": "<|call|>",
    "hermes": "\n</tool_call>",
    "hermes_python": "\n</tool_call>",
    "hermes_pythonic": "</tool_call>",
    "internlm": "<|action_end|>",
    "internlm_old": "[UNUSED_TOKEN_143]",
    "internlm_spaced": "\n<|action_end|>",
    "jamba": "</tool_calls>",
    "kimi": "<|tool_call_end|><|tool_calls_section_end|>",
    "kimi_k3": "<|close|>tools<|sep|><|close|>message<|sep|>",
    "langchain": "\n```",
    "lfm2": "<|tool_call_end|>",
    "llama31_custom": "</function>",
    "llama4": "<|python_end|>",
    "longcat": "</longcat_tool_call>",
    "minicpm": "</tool_call>",
    "minimax": "\n</minimax:tool_call>",
    "olmo3": "\n</function_calls>",
    "python_tag": "<|eom_id|>",
    "qwen_coder": "\n</function>\n</tool_call>",
    "qwen_untagged": "\n</function>",
    "react_fenced": "\n```",
    "tool_code": "\n```",
}
"""What may be missing where the server says that the model was done: markers that servers keep to
themselves or stop at. The arguments end before it. Formats that are not here may lack nothing."""


def run_of(text: str, family: str | None = None) -> list[tuple[str, dict[str, Any]]]:
    """Return the calls that would run for a text of a model that had finished."""
    reader = create_text_reader(list(TOOLS.values()), family)
    reading = collect_parts([*reader.feed(text), *reader.close("stop")])
    mended = [repair_call(call, TOOLS) for call in reading.calls]
    return [(one.tool.name, one.values) for one in mended if not isinstance(one, RefusedCall)]


@each_row(
    ("name", "before"),
    [
        (name, before)
        for before in ("", "Let me see.\n", "<think>\nHm.\n</think>\n\n")
        for name in sorted(ALL)
        if not (name == "harmony_first" and before)  # it stands at the beginning of an answer
    ],
)
def test_no_prefix_of_a_call_runs_but_where_its_end_alone_is_missing(
    name: str, before: str
) -> None:
    text = ALL[name]("wipe", WIPE)
    early = [
        text[end:]
        for end in range(len(text))
        if any(called == "wipe" for called, _ in run_of(before + text[:end]))
    ]
    assert max(early, key=len, default="") == MAY_LACK.get(name, "")
    assert run_of(before + text)[-1] == ("wipe", WIPE)


@each_row("name", sorted(ALL))
def test_no_prefix_of_a_call_runs_with_other_arguments(name: str) -> None:
    for called, arguments in (("wipe", WIPE), ("note", {"text": "a {b} `c`, d: [e"})):
        text = ALL[name](called, arguments)
        for end in range(len(text)):
            ran = [each for each in run_of(text[:end]) if each[0] == called]
            assert ran in ([], [(called, arguments)]), text[:end]


@each_row("name", sorted(ALL))
def test_of_two_calls_the_first_alone_runs_while_the_second_is_cut(name: str) -> None:
    first, second = ALL[name]("note", {"text": "a"}), ALL[name]("wipe", WIPE)
    for end in range(len(second)):
        ran = [each for each in run_of(f"{first}\n{second[:end]}") if each[0] != "refresh"]
        assert ran in ([], [("note", {"text": "a"})], [("note", {"text": "a"}), ("wipe", WIPE)])


@pytest.mark.parametrize(
    "text",
    [
        "<|action_start|><|interpreter|>\n```python\nwipe('tmp",
        "<|action_start|><|interpreter|>\n```python\nfor path in paths:\n",
        "<|python_tag|>wipe('tmp",
        "<|python_tag|>if True:\n",
    ],
)
def test_code_that_was_cut_does_not_run(text: str) -> None:
    reader = create_text_reader(["python", "note"])
    reading = collect_parts([*reader.feed(text), *reader.close("stop")])
    assert (reading.calls, len(reading.broken)) == ((), 1)


@pytest.mark.parametrize("text", ["Action: wipe", "Action: wipe\nAction Input:"])
def test_an_action_without_input_counts_only_of_a_tool_that_takes_none(text: str) -> None:
    assert run_of(f"Thought: So.\n{text}") == []
    assert run_of(f"Thought: So.\n{text.replace('wipe', 'refresh')}") == [("refresh", {})]


def test_a_tool_may_take_more_while_one_of_its_arguments_is_not_given() -> None:
    tools = ToolSet(list(TOOLS.values()))
    assert tools.can_take_more("wipe", ["pattern", "depth"])
    assert not tools.can_take_more("wipe", list(WIPE))
    assert not tools.can_take_more("refresh", ())
