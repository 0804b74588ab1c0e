"""The outcome of a run, and whether it is right."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.robustness.scenario import Execution, Scenario

MARKUP = (
    *("<think", "</think", "<tool_call", "</tool_call", "<|", "|>", "<｜", "｜>", "<function="),
    *("<parameter=", "[TOOL_CALLS]", "Action Input:", "<arg_key>", '"arguments"', '"parameters"'),
)
"""Texts that no user should see, unless the answer itself contains them."""

NOT_MEANT = "ran what was not meant: "
"""The prefix of the problem that an unintended call ran."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """The outcome of a run.

    answer: the final answer; None if there is none.
    shown: everything that was streamed to the user, retracted text included.
    error: the exception; empty if there was none.
    """

    answer: str | None
    executions: tuple[Execution, ...] = ()
    error: str = ""
    shown: str = ""
    requests: int = 0
    seconds: float = 0.0


def find_problem(scenario: Scenario, outcome: Outcome) -> str:
    """Return why an outcome is wrong; empty if it is right."""
    if strange := _list_unintended(scenario, outcome.executions):
        return f"{NOT_MEANT}{strange[0]}"
    if outcome.error:
        return outcome.error
    wrong = _find_wrong_execution(scenario, outcome.executions)
    if wrong:
        return wrong
    answer = " ".join((outcome.answer or "").split())
    if answer != scenario.answer:
        return f"answered {answer[:100]!r}"
    leaks = [mark for mark in MARKUP if mark in outcome.shown and mark not in scenario.answer]
    if leaks:
        return f"showed {leaks[0]!r} to the user"
    if outcome.requests > scenario.requests:
        return f"took {outcome.requests} requests, not {scenario.requests}"
    return ""


def _list_unintended(scenario: Scenario, executions: Sequence[Execution]) -> list[Execution]:
    meant = set(map(_format_execution, scenario.executions))
    return [execution for execution in executions if _format_execution(execution) not in meant]


def _find_wrong_execution(scenario: Scenario, executions: Sequence[Execution]) -> str:
    done = Counter(map(_format_execution, executions))
    wanted = {_format_execution(execution): execution for execution in scenario.executions}
    missing = [execution for sign, execution in wanted.items() if not done[sign]]
    if missing:
        return f"never ran {missing[0]}"
    often = [(sign, number) for sign, number in done.items() if number > scenario.repeats]
    return f"ran {wanted[often[0][0]]} {often[0][1]} times" if often else ""


def _format_execution(execution: Execution) -> str:
    """Return an execution as text, in which 2, "2" and true differ."""
    return f"{execution.tool} {json.dumps(execution.arguments, sort_keys=True)}"
