"""Arguments that are nearly JSON, of which a lenient reader would lose a part.

The first answer's call is broken, and a lenient reading of it differs from the intended arguments.
It should not run: the model reads what is wrong and makes the right call. A framework that reads
the intended arguments from the first answer is right as well.
"""

from __future__ import annotations

from collections.abc import Callable

from agentcall.testing import Completion, ScriptedCall, call, say
from benchmarks.robustness.base import ADDED, RIGHT_JSON, make_adding_scenario
from benchmarks.robustness.scenario import Execution, Scenario, execution, once

BROKEN = '{"a": 1900+7, "b": 2840}'


def _correct_after(
    name: str, about: str, question: str, broken: str, right: Execution, result: str = "4747"
) -> Scenario:
    """Return a scenario with a native call with broken arguments, then the right call."""
    first = Completion(calls=(ScriptedCall(right.tool, broken),))
    then = call(right.tool, **right.arguments)
    answer = f"Done: {result}."
    return Scenario(
        name, about, (right.tool,), question, once(first, then), answer, (right,), (result,), 3
    )


_ADD = "What do the two numbers add up to?"
_NOTE = "Note what I have to do."
_PAY = "Transfer what I owe Ada."

NUMBERS = (
    _correct_after("a sum where a number belongs", "1900+7", _ADD, BROKEN, ADDED),
    _correct_after(
        "a sum as the last value",
        "2800 + 40",
        _ADD,
        '{"a": 1907, "b": 2800 + 40}',
        ADDED,
    ),
    _correct_after(
        "a sum in a list",
        "[1907, 2800+40, 11]",
        _ADD,
        '{"numbers": [1907, 2800+40, 11]}',
        execution("total", numbers=[1907, 2840, 11]),
        "4758",
    ),
    _correct_after(
        "a power where a number belongs",
        "2^10",
        _ADD,
        '{"a": 2^10, "b": 2840}',
        execution("add", a=1024, b=2840),
        "3864",
    ),
    _correct_after(
        "a number and a word",
        "5 million",
        _ADD,
        '{"a": 5 million, "b": 2840}',
        execution("add", a=5_000_000, b=2840),
        "5002840",
    ),
    _correct_after(
        "a number with a space in it",
        "1 907",
        _ADD,
        '{"a": 1 907, "b": 2840}',
        ADDED,
    ),
    _correct_after(
        "an amount and its currency",
        "12.50 USD; the tool takes EUR by default",
        _PAY,
        '{"to": "Ada", "amount": 12.50 USD}',
        execution("transfer", to="Ada", amount=12.5, currency="USD"),
    ),
)

TEXTS = (
    _correct_after(
        "a word behind a text",
        '"Call Ada" tomorrow',
        _NOTE,
        '{"text": "Call Ada" tomorrow}',
        execution("save_note", text="Call Ada tomorrow"),
    ),
    _correct_after(
        "a second text behind a text",
        '"Call Ada" "and Bob"',
        _NOTE,
        '{"text": "Call Ada" "and Bob"}',
        execution("save_note", text="Call Ada and Bob"),
    ),
    _correct_after(
        "a date without quotes",
        "2026-10-01",
        "Note the day of the fair.",
        '{"text": 2026-10-01}',
        execution("save_note", text="2026-10-01"),
    ),
    _correct_after(
        "two objects with words between them",
        "none of them is the arguments",
        _ADD,
        '{"a": 1097, "b": 2840} no, I mean {"a": 1907, "b": 2804}',
        ADDED,
    ),
)


def _write_in_text(name: str, form: Callable[[str], str]) -> Scenario:
    """Return a scenario with a sum instead of a number, in a call that is written as text."""
    return make_adding_scenario(
        f"text: a sum where a number belongs, {name}",
        "1900+7; the server parses no calls",
        once(say(form(BROKEN)), say(form(RIGHT_JSON))),
        3,
    )


FORMS: dict[str, Callable[[str], str]] = {
    "InternLM2.5": lambda arguments: (
        "I will add them.<|action_start|><|plugin|>\n"
        f'{{"name": "add", "parameters": {arguments}}}<|action_end|>'
    ),
    "Hermes/Qwen": lambda arguments: (
        f'<tool_call>\n{{"name": "add", "arguments": {arguments}}}\n</tool_call>'
    ),
    "```json fence": lambda arguments: f'```json\n{{"name": "add", "arguments": {arguments}}}\n```',
    "bare JSON": lambda arguments: f'{{"name": "add", "parameters": {arguments}}}',
    "Mistral [TOOL_CALLS]": lambda arguments: (
        f'[TOOL_CALLS] [{{"name": "add", "arguments": {arguments}}}]'
    ),
    "ReAct": lambda arguments: f"Thought: I have to add.\nAction: add\nAction Input: {arguments}",
}
"""Text formats of a call of `add` with these arguments."""

REPAIRS = (*NUMBERS, *TEXTS, *(_write_in_text(name, form) for name, form in FORMS.items()))
