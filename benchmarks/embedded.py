"""Measure how many tasks the embedded model solves: python -m benchmarks.embedded [--tasks FILE]

A task is a question, its tools, and the expected outcome: `results` are values that tools must
return, `says` is what the final text must contain (numbers or patterns), `not` is a pattern that it
must not contain, and `quiet` forbids any call. Tools are data too, a table or a formula over their
parameters, so that a set of tasks is one file.
"""

from __future__ import annotations

import argparse
import inspect
import json
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from agentcall import Agent, Limits
from agentcall.messages import JSON, Usage
from agentcall.models.model import Model
from agentcall.result import RunResult
from agentcall.tools.tool import Tool, make_tool
from agentcall_tools.calculator import calculate

TASKS = Path(__file__).with_name("embedded_tasks.json")
REQUESTS = 10
_TYPES = {"number": float, "integer": int, "string": str}
_NUMBER = re.compile(r"-?\d+(?:\.\d+)?(?:e[+-]?\d+)?", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Task:
    """A question, its tools, and the expected outcome."""

    ask: str
    tools: tuple[Tool, ...]
    results: tuple[JSON, ...]
    says: tuple[JSON, ...]
    never: str
    quiet: bool
    instructions: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """The outcome of a task; `wrong` is empty if it was solved."""

    task: Task
    calls: str
    text: str
    wrong: str
    seconds: float
    usage: Usage


def load_tasks(path: Path) -> list[Task]:
    """Load the tasks of a file."""
    content = json.loads(path.read_text(encoding="utf-8"))
    tools = {name: make_task_tool(name, spec) for name, spec in content["tools"].items()}
    return [
        Task(
            spec["ask"],
            tuple(tools[name] for name in spec["tools"]),
            tuple(spec.get("results", ())),
            tuple(spec.get("says", ())),
            spec.get("not", ""),
            spec.get("quiet", False),
            spec.get("instructions", ""),
        )
        for spec in content["tasks"]
    ]


def make_task_tool(name: str, spec: Mapping[str, JSON]) -> Tool:
    """Return a tool that looks values up in a table or computes a formula."""
    types = cast("Mapping[str, str]", spec.get("takes", {}))
    table = cast("Mapping[str, JSON]", spec.get("table", {}))

    def function(**values: object) -> JSON:
        if "formula" in spec:
            return compute(str(spec["formula"]), values)
        return look_up(table, values)

    function.__name__ = function.__qualname__ = name
    function.__doc__ = str(spec["about"])
    keyword = inspect.Parameter.KEYWORD_ONLY
    parameters = [
        inspect.Parameter(key, keyword, annotation=_TYPES[kind]) for key, kind in types.items()
    ]
    setattr(function, "__signature__", inspect.Signature(parameters))  # noqa: B010 - no such slot
    function.__annotations__ = {key: _TYPES[kind] for key, kind in types.items()}
    return make_tool(cast("Callable[..., JSON]", function))


def compute(formula: str, values: Mapping[str, object]) -> JSON:
    """Compute a formula such as `{a} + {b}`; whole numbers are returned as int."""
    number = float(calculate(formula.format_map({key: f"({v})" for key, v in values.items()})))
    return int(number) if number.is_integer() else number


def look_up(table: Mapping[str, JSON], values: Mapping[str, object]) -> JSON:
    """Look up the values, joined by `|`, without regard to case. Raises ValueError if unknown."""
    key = "|".join(str(value).strip().casefold() for value in values.values())
    for known, value in table.items():
        if known.casefold() == key or known == "*":
            return value
    raise ValueError(f"nothing is known of {key!r}; known: {', '.join(table)}")


def run_task(task: Task, model: Model | str) -> Outcome:
    """Run a task with a model."""
    agent = Agent(
        model, tools=task.tools, instructions=task.instructions, limits=Limits(requests=REQUESTS)
    )
    start = time.monotonic()
    result = agent.run_sync(task.ask)
    seconds = time.monotonic() - start
    text = result.text if result.stop_reason == "final" else f"[{result.stop_reason}]"
    calls = [f"{call.name}{call.arguments}" for call in result.tool_calls]
    wrong = find_problem(task, list_results(result), text)
    return Outcome(task, " ".join(calls), text, wrong, seconds, result.usage)


def list_results(result: RunResult[str]) -> list[JSON]:
    """Return the results of the calls that did not fail."""
    return [_parse_value(call.text) for call in result.tool_calls if call.succeeded]


def _parse_value(text: str) -> JSON:
    try:
        return cast("JSON", json.loads(text))
    except ValueError:
        return text


def find_problem(task: Task, results: Sequence[JSON], text: str) -> str:
    """Return what is wrong with an outcome; empty if nothing is."""
    if task.quiet and results:
        return "called a tool without need"
    for expected in task.results:
        if not any(_is_equal(expected, value) for value in results):
            return f"no tool returned {expected}"
    for expected in task.says:
        if not _contains(text, expected):
            return f"does not say {expected}"
    return f"says {task.never}" if task.never and _contains(text, task.never) else ""


def _is_equal(expected: JSON, value: JSON) -> bool:
    if isinstance(expected, (int, float)) and isinstance(value, (int, float)):
        return _is_close(value, expected)
    return expected == value


def _is_close(value: float, expected: float) -> bool:
    return abs(value - expected) <= max(0.01, 0.0005 * abs(expected))


def _contains(text: str, expected: JSON) -> bool:
    if isinstance(expected, (int, float)):
        plain = re.sub(r"(?<=\d),(?=\d{3})", "", text)
        return any(_is_close(float(number), expected) for number in _NUMBER.findall(plain))
    return re.search(str(expected), text, re.IGNORECASE | re.DOTALL) is not None


def format_outcome(number: int, outcome: Outcome) -> str:
    """Format a task and its outcome in three lines."""
    mark = f"WRONG: {outcome.wrong}" if outcome.wrong else "right"
    return (
        f"{number:2} {outcome.task.ask}\n"
        f"     {outcome.calls or '(no call)'}\n"
        f"     {outcome.text!r}  {mark}  {outcome.seconds:.1f} s"
    )


def format_summary(outcomes: Sequence[Outcome]) -> str:
    """Format how many tasks were solved, with the time and tokens."""
    right = sum(not outcome.wrong for outcome in outcomes)
    seconds = sum(outcome.seconds for outcome in outcomes)
    usage = sum((outcome.usage for outcome in outcomes), Usage())
    turns = max(1, usage.requests)
    return (
        f"{right} of {len(outcomes)} right; {seconds:.0f} s, {turns} turns of "
        f"{seconds / turns:.1f} s; {usage.input_tokens / turns:.0f} prompt tokens a turn, "
        f"{usage.cached_tokens / turns:.0f} of them cached, {usage.output_tokens / turns:.0f} new"
    )


def main() -> None:
    """Run the tasks of a file, one after the other."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.embedded", description=__doc__)
    parser.add_argument("--tasks", type=Path, default=TASKS)
    parser.add_argument("--model", default="embedded")
    parser.add_argument("--only", type=int, nargs="*", help="numbers of tasks, from 1")
    options = parser.parse_args()
    outcomes: list[Outcome] = []
    for number, task in enumerate(load_tasks(options.tasks), 1):
        if options.only and number not in options.only:
            continue
        outcomes.append(run_task(task, options.model))
        print(format_outcome(number, outcomes[-1]), flush=True)
    print(format_summary(outcomes))


if __name__ == "__main__":
    main()
