"""More scenarios: calls in the text, and text that only looks like calls."""

from __future__ import annotations

from agentcall.testing import calls, say
from benchmarks.robustness.base import ADDED, RIGHT, RIGHT_JSON, make_adding_scenario
from benchmarks.robustness.scenario import Scenario, always, execution

AS_TEXT = f'<tool_call>\n{{"name": "add", "arguments": {RIGHT_JSON}}}\n</tool_call>'
_PROSE = "I would call add(a, b), for instance add(1, 2), with my tool `add`."

TEXTS = (
    make_adding_scenario(
        "text: Llama <|python_tag|>",
        "the server parses no calls",
        say(f'<|python_tag|>{{"name": "add", "parameters": {RIGHT_JSON}}}<|eom_id|>'),
    ),
    make_adding_scenario(
        "text: Mistral [TOOL_CALLS]",
        "the server parses no calls",
        say(f'[TOOL_CALLS] [{{"name": "add", "arguments": {RIGHT_JSON}}}]'),
    ),
    make_adding_scenario(
        "text: DeepSeek V3.1",
        "the server parses no calls",
        say(
            "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>add<｜tool▁sep｜>"
            f"{RIGHT_JSON}<｜tool▁call▁end｜><｜tool▁calls▁end｜>"
        ),
    ),
    make_adding_scenario(
        "text: GLM 4.5",
        "the server parses no calls",
        say(
            "<tool_call>add\n<arg_key>a</arg_key>\n<arg_value>1907</arg_value>\n"
            "<arg_key>b</arg_key>\n<arg_value>2840</arg_value>\n</tool_call>"
        ),
    ),
    make_adding_scenario(
        "text: Kimi K2",
        "the server parses no calls",
        say(
            "<|tool_calls_section_begin|><|tool_call_begin|>functions.add:0"
            f"<|tool_call_argument_begin|>{RIGHT_JSON}<|tool_call_end|><|tool_calls_section_end|>"
        ),
    ),
    make_adding_scenario(
        "text: gpt-oss harmony",
        "the server parses no calls",
        say(
            "<|channel|>analysis<|message|>I have to add.<|end|><|start|>assistant<|channel|>"
            f"commentary to=functions.add <|constrain|>json<|message|>{RIGHT_JSON}<|call|>"
        ),
    ),
    Scenario(
        "text: two calls in one answer",
        "both run",
        ("add", "total"),
        "Add 1907 and 2840, and add up 1907, 2840 and 11.",
        always(
            say(
                f"{AS_TEXT}\n"
                '<tool_call>\n{"name": "total", "arguments": {"numbers": [1907, 2840, 11]}}\n'
                "</tool_call>"
            )
        ),
        "4747 and 4758.",
        (ADDED, execution("total", numbers=[1907, 2840, 11])),
        ("4747", "4758"),
        2,
    ),
    Scenario(
        "text: markers inside an argument",
        "they do not end the call",
        ("save_note",),
        "Note how a tool call ends.",
        always(
            say(
                '<tool_call>\n{"name": "save_note", "arguments": {"text": '
                '"It ends with </tool_call> or <|action_end|>."}}\n</tool_call>'
            )
        ),
        "It is noted.",
        (execution("save_note", text="It ends with </tool_call> or <|action_end|>."),),
        ("4747",),
        2,
    ),
    Scenario(
        "prose about a tool",
        "stays prose, to the letter",
        ("add",),
        "How would you add two numbers?",
        always(say(_PROSE)),
        _PROSE,
        (),
        (),
        1,
    ),
    make_adding_scenario(
        "a call rehearsed in thinking",
        "what is only thought of does not run",
        say(
            '<think>\nPerhaps <tool_call>\n{"name": "add", "arguments": {"a": 1, "b": 1}}\n'
            "</tool_call>? No, with the right numbers.\n</think>\n"
            f"{AS_TEXT}"
        ),
    ),
    make_adding_scenario(
        "a call swallowed by the server's thinking parser",
        "it stands in reasoning_content, and there is no answer",
        say("", thinking=f"I have to add them.\n{AS_TEXT}"),
    ),
    make_adding_scenario(
        "native call and the same call as text",
        "runs once",
        calls(
            RIGHT, text=f'<tool_call>\n{{"name": "add", "arguments": {RIGHT_JSON}}}\n</tool_call>'
        ),
    ),
)
