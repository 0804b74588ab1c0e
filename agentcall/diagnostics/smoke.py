"""A smoke test of a model server: a few questions whose answers are known, asked with tools.

Each question says what a model that can call tools does with it: which calls it makes, and what
must be in its answer. What the tools give cannot be guessed or is not what a model would reckon
by itself, so that an answer shows whether results reach it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import monotonic
from typing import Any, cast

from agentcall.agent import Agent
from agentcall.errors import AgentCallError
from agentcall.events import RunFinished
from agentcall.models.base import Model
from agentcall.result import RunResult
from agentcall.settings import Limits
from agentcall.tools.tool import Tool, tool

LIMITS = Limits(requests=6, seconds=180)
_INSTRUCTIONS = "You are a helpful assistant. Use the tools for every calculation and every lookup."
_TEMPERATURE = "23.5"

TextRunResult = RunResult[str]
NamedArguments = tuple[str, dict[str, Any]]  # Any: JSON that a model wrote


@tool
def add(a: int, b: int) -> int:
    """Compute the sum of two numbers.

    Args:
        a: A number.
        b: A number.
    """
    return a + b


@tool
def mul(a: int, b: int) -> int:
    """Calculate the product of two numbers.

    Args:
        a: A number.
        b: A number.
    """
    return a * b


@tool
def get_weather(city: str) -> str:
    """The weather of a city now.

    Args:
        city: City name.
    """
    return f"{city}: {_TEMPERATURE} degrees Celsius, sunny"


@dataclass(frozen=True, slots=True)
class SmokeQuestion:
    """What is asked; `wrong` says what is wrong with a result, '' if nothing."""

    name: str
    prompt: str
    tools: tuple[Tool[Any], ...]  # Any: no tool here has dependencies
    find_problem: Callable[[TextRunResult], str]
    is_streamed: bool = False


@dataclass(frozen=True, slots=True)
class SmokeCheck:
    """How a question went: what was wrong ('' for nothing), the calls, the answer."""

    name: str
    wrong: str
    calls: tuple[str, ...]
    answer: str
    seconds: float

    @property
    def passed(self) -> bool:
        return not self.wrong


async def ask_question(model: Model, question: SmokeQuestion) -> SmokeCheck:
    """Ask one question. What the server or the model does wrong is in the check."""
    agent = Agent(model, tools=question.tools, instructions=_INSTRUCTIONS, limits=LIMITS)
    begun = monotonic()
    try:
        result = await (_run_as_stream if question.is_streamed else _run_whole)(
            agent, question.prompt
        )
    except AgentCallError as error:
        return SmokeCheck(question.name, str(error), (), "", monotonic() - begun)
    ended = result.stop_reason
    wrong = f"the run ended early: {ended}" if ended != "final" else question.find_problem(result)
    return SmokeCheck(question.name, wrong, _format_calls(result), result.text, monotonic() - begun)


async def _run_whole(agent: Agent[str], prompt: str) -> TextRunResult:
    return await agent.run(prompt)


async def _run_as_stream(agent: Agent[str], prompt: str) -> TextRunResult:
    async for event in agent.run_stream(prompt):
        if isinstance(event, RunFinished):
            return event.result
    raise AgentCallError("the run ended without a result")


def _expect_calls(
    wanted: Sequence[tuple[str, int, int]], answer: str
) -> Callable[[TextRunResult], str]:
    """That the calls were made, in any order of their numbers, and the answer holds the result."""

    def find_problem(result: TextRunResult) -> str:
        made = [(name, sorted(map(str, given.values()))) for name, given in _list_calls(result)]
        for name, a, b in wanted:
            if (name, sorted((str(a), str(b)))) not in made:
                return f"it did not call {name}({a}, {b})"
        return _check_answer_text(result, answer)

    return find_problem


def _check_lookup(result: TextRunResult) -> str:
    if not _list_calls(result):
        return "it did not call get_weather"
    return _check_answer_text(result, _TEMPERATURE)


def _check_plain_answer(result: TextRunResult) -> str:
    if called := _list_calls(result):
        return f"it called {called[0][0]} where no tool was needed"
    return "" if result.text.strip() else "the answer is empty"


def _check_answer_text(result: TextRunResult, text: str) -> str:
    said = result.text.replace(",", "")
    return "" if text in said else f"the answer does not hold {text}, which the tool gave"


def _list_calls(result: TextRunResult) -> list[NamedArguments]:
    return [(call.name, _arguments(call.arguments)) for call, _ in result.tool_calls]


def _arguments(text: str) -> dict[str, Any]:  # Any: JSON that a model wrote
    try:
        found = json.loads(text)
    except ValueError:
        return {}
    return cast("dict[str, Any]", found) if isinstance(found, dict) else {}


def _format_calls(result: RunResult[Any]) -> tuple[str, ...]:  # Any: its output is not looked at
    calls = ((call.name, _arguments(call.arguments)) for call, _ in result.tool_calls)
    return tuple(f"{name}({', '.join(map(str, given.values()))})" for name, given in calls)


_check_both_calls = _expect_calls([("add", 3, 5), ("mul", 8, 2)], "16")
QUESTIONS = (
    SmokeQuestion("one call", "What is 3 + 5?", (add, mul), _expect_calls([("add", 3, 5)], "8")),
    SmokeQuestion("two calls", "Compute (3+5)*2", (add, mul), _check_both_calls),
    SmokeQuestion(
        "two calls, streamed", "Compute (3+5)*2", (add, mul), _check_both_calls, is_streamed=True
    ),
    SmokeQuestion("a lookup", "上海今天多少度?", (get_weather,), _check_lookup),
    SmokeQuestion("no call", "Say hello to Ann.", (add, mul, get_weather), _check_plain_answer),
)
