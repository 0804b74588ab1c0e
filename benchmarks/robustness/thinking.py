"""Calls that are only in the thinking, and answers that end inside a call with "stop".

Neither may run. The unintended or incomplete call differs from the one after it, or its tool has a
default for the missing argument.
"""

from __future__ import annotations

from agentcall.testing import call, say
from benchmarks.robustness.base import ADD, ADDED, RIGHT, SUM, make_adding_scenario
from benchmarks.robustness.scenario import Scenario, always, execution, once
from benchmarks.robustness.texts import AS_TEXT

_THOUGHT = (
    'Perhaps <tool_call>\n{"name": "add", "arguments": {"a": 1, "b": 1}}\n</tool_call> would do, '
    "but no."
)
_DELETION = '<tool_call>\n{"name": "delete_file", "arguments": {}}\n</tool_call>'

THOUGHTS = (
    make_adding_scenario(
        "a call before a lone </think>",
        "the prompt opened the thinking: only the call behind it runs",
        always(say(f"{_THOUGHT}\n</think>\n{AS_TEXT}")),
    ),
    make_adding_scenario(
        "a native call behind a lone </think>",
        "the call in the thinking does not run",
        always(RIGHT.replace(text=f"{_THOUGHT}\n</think>\n\n")),
    ),
    Scenario(
        "a lone </think> in every answer",
        "neither the call in the thinking nor the thinking itself counts",
        ("add",),
        ADD,
        always(say(f"I have to add them.\n</think>\n{AS_TEXT}")),
        SUM,
        (ADDED,),
        ("4747",),
        2,
        closing=f"{_THOUGHT} The tool says 4747.\n</think>\n\n{SUM}",
    ),
    Scenario(
        "a call in <think>, and an answer without one",
        "nothing runs",
        ("delete_file",),
        "Does the scratch file have to go?",
        always(say(f"<think>\nPerhaps {_DELETION}? No, it is needed.\n</think>\n\nNo, keep it.")),
        "No, keep it.",
        (),
        (),
        1,
    ),
    Scenario(
        "a call before a lone </think>, and an answer without one",
        "nothing runs",
        ("delete_file",),
        "Does the scratch file have to go?",
        always(say(f"Perhaps {_DELETION}? No, it is needed.\n</think>\n\nNo, keep it.")),
        "No, keep it.",
        (),
        (),
        1,
    ),
)


def _cut_deletion(name: str, text: str) -> Scenario:
    """A call that is cut in the argument that the tool has a default for."""
    return Scenario(
        name,
        'finish_reason "stop" all the same; delete_file deletes the scratch file by default',
        ("delete_file",),
        "Delete the file old.txt.",
        once(say(text), call("delete_file", path="old.txt")),
        "It is gone.",
        (execution("delete_file", path="old.txt"),),
        ("4747",),
        3,
    )


def _cut_addition(name: str, text: str) -> Scenario:
    """A call that is cut within its last number."""
    return make_adding_scenario(
        name, 'finish_reason "stop" all the same', once(say(text), RIGHT), 3
    )


_HARMONY = "<|channel|>analysis<|message|>Go on.<|end|><|start|>assistant<|channel|>"

CUTS = (
    _cut_deletion(
        "cut: gpt-oss harmony, in the only argument",
        f"{_HARMONY}commentary to=functions.delete_file <|constrain|>json<|message|>"
        '{"path": "old.t',
    ),
    _cut_deletion(
        "cut: gpt-oss harmony, before the arguments",
        f"{_HARMONY}commentary to=functions.delete_file <|constrain|>json<|message|>",
    ),
    _cut_deletion(
        "cut: Hermes/Qwen, in the only argument",
        '<tool_call>\n{"name": "delete_file", "arguments": {"path": "old.t',
    ),
    _cut_addition(
        "cut: Hermes/Qwen, in a number",
        '<tool_call>\n{"name": "add", "arguments": {"a": 1907, "b": 28',
    ),
    _cut_addition(
        "cut: XML function/parameter, in a number",
        "<tool_call>\n<function=add>\n<parameter=a>\n1907\n</parameter>\n<parameter=b>\n28",
    ),
    _cut_addition(
        "cut: InternLM2.5, in a number",
        "I will add them.<|action_start|><|plugin|>\n"
        '{"name": "add", "parameters": {"a": 1907, "b": 28',
    ),
    _cut_addition(
        "cut: ReAct, in a number",
        'Thought: I have to add.\nAction: add\nAction Input: {"a": 1907, "b": 28',
    ),
)

THINKING = (*THOUGHTS, *CUTS)
