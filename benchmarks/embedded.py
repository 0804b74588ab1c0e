"""How many questions the embedded model ends right: python -m benchmarks.embedded [--tasks FILE]

A task is a question, the tools it may use, and what has to come of it: `results`, values that tools
have to give on the way, and `says`, what the final text has to hold (a number, or a pattern); `not`
is a pattern that it may not hold, and `quiet` says that nothing may be called. Tools are data too:
a table, or a formula over their parameters, so that a file of tasks is all there is to a set.
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
from agentcall.models.base import Model
from agentcall.result import RunResult
from agentcall.tools.tool import Tool, make_tool
from agentcall_tools.calculator import calculate

TASKS = Path(__file__).with_name("embedded_tasks.json")
REQUESTS = 10
_TYPES = {"number": float, "integer": int, "string": str}
_NUMBER = re.compile(r"-?\d+(?:\.\d+)?(?:e[+-]?\d+)?", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Task:
    """A question, its tools, and what has to come of it."""

    ask: str
    tools: tuple[Tool, ...]
    results: tuple[JSON, ...]
    says: tuple[JSON, ...]
    never: str
    quiet: bool


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a task; `wrong` is empty if all of it is right."""

    task: Task
    calls: str
    text: str
    wrong: str
    seconds: float
    usage: Usage


def load_tasks(path: Path) -> list[Task]:
    """The tasks of a file."""
    content = json.loads(path.read_text(encoding="utf-8"))
    tools = {name: make_task_tool(name, told) for name, told in content["tools"].items()}
    return [
        Task(
            told["ask"],
            tuple(tools[name] for name in told["tools"]),
            tuple(told.get("results", ())),
            tuple(told.get("says", ())),
            told.get("not", ""),
            told.get("quiet", False),
        )
        for told in content["tasks"]
    ]


def make_task_tool(name: str, told: Mapping[str, JSON]) -> Tool:
    """A tool that looks up or computes what the file says."""
    takes = cast("Mapping[str, str]", told.get("takes", {}))
    table = cast("Mapping[str, JSON]", told.get("table", {}))

    def function(**values: object) -> JSON:
        if "formula" in told:
            return compute(str(told["formula"]), values)
        return look_up(table, values)

    function.__name__ = function.__qualname__ = name
    function.__doc__ = str(told["about"])
    keyword = inspect.Parameter.KEYWORD_ONLY
    parameters = [
        inspect.Parameter(key, keyword, annotation=_TYPES[kind]) for key, kind in takes.items()
    ]
    setattr(function, "__signature__", inspect.Signature(parameters))  # noqa: B010 - no such slot
    function.__annotations__ = {key: _TYPES[kind] for key, kind in takes.items()}
    return make_tool(cast("Callable[..., JSON]", function))


def compute(formula: str, values: Mapping[str, object]) -> JSON:
    """What a formula such as `{a} + {b}` gives; a whole number as an integer."""
    number = float(calculate(formula.format_map({key: f"({v})" for key, v in values.items()})))
    return int(number) if number.is_integer() else number


def look_up(table: Mapping[str, JSON], values: Mapping[str, object]) -> JSON:
    """What a table has for the values, joined by `|`, in any case. Raises ValueError for none."""
    key = "|".join(str(value).strip().casefold() for value in values.values())
    for known, value in table.items():
        if known.casefold() == key or known == "*":
            return value
    raise ValueError(f"nothing is known of {key!r}; known: {', '.join(table)}")


def run_task(task: Task, model: Model | str) -> Outcome:
    """Asks a task of a model."""
    agent = Agent(model, tools=task.tools, limits=Limits(requests=REQUESTS))
    start = time.monotonic()
    result = agent.run_sync(task.ask)
    seconds = time.monotonic() - start
    text = result.text if result.stop_reason == "final" else f"[{result.stop_reason}]"
    called = [f"{call.name}{call.arguments}" for call, _ in result.tool_calls]
    wrong = find_problem(task, list_results(result), text)
    return Outcome(task, " ".join(called), text, wrong, seconds, result.usage)


def list_results(result: RunResult[str]) -> list[JSON]:
    """What the tools gave, calls that failed left out."""
    came = (got for _, got in result.tool_calls if got is not None and not got.is_error)
    return [_parse_value(got.text) for got in came]


def _parse_value(text: str) -> JSON:
    try:
        return cast("JSON", json.loads(text))
    except ValueError:
        return text


def find_problem(task: Task, came: Sequence[JSON], text: str) -> str:
    """What is wrong with an answer, empty if nothing is."""
    if task.quiet and came:
        return "called a tool without need"
    for wanted in task.results:
        if not any(_is_equal(wanted, value) for value in came):
            return f"no tool gave {wanted}"
    for wanted in task.says:
        if not _contains(text, wanted):
            return f"does not say {wanted}"
    return f"says {task.never}" if task.never and _contains(text, task.never) else ""


def _is_equal(wanted: JSON, value: JSON) -> bool:
    if isinstance(wanted, (int, float)) and isinstance(value, (int, float)):
        return _is_close(value, wanted)
    return wanted == value


def _is_close(value: float, wanted: float) -> bool:
    return abs(value - wanted) <= max(0.01, 0.0005 * abs(wanted))


def _contains(text: str, wanted: JSON) -> bool:
    if isinstance(wanted, (int, float)):
        plain = re.sub(r"(?<=\d),(?=\d{3})", "", text)
        return any(_is_close(float(number), wanted) for number in _NUMBER.findall(plain))
    return re.search(str(wanted), text, re.IGNORECASE | re.DOTALL) is not None


def format_outcome(number: int, outcome: Outcome) -> str:
    """A task and what came of it, in three lines."""
    mark = f"WRONG: {outcome.wrong}" if outcome.wrong else "right"
    return (
        f"{number:2} {outcome.task.ask}\n"
        f"     {outcome.calls or '(no call)'}\n"
        f"     {outcome.text!r}  {mark}  {outcome.seconds:.1f} s"
    )


def format_summary(outcomes: Sequence[Outcome]) -> str:
    """How many ended right, and what that cost."""
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
    """Runs a file's tasks, one after the other."""
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
