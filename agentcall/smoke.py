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
from agentcall.limits import Limits
from agentcall.models.protocol import Model
from agentcall.result import RunResult
from agentcall.tool import Tool, tool

LIMITS = Limits(requests=6, seconds=180)
_TOLD = "You are a helpful assistant. Use the tools for every calculation and every lookup."
_DEGREES = "23.5"

Result = RunResult[str]
Call = tuple[str, dict[str, Any]]  # Any: JSON that a model wrote


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
    return f"{city}: {_DEGREES} degrees Celsius, sunny"


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked; `wrong` says what is wrong with a result, '' if nothing."""

    name: str
    prompt: str
    tools: tuple[Tool[Any], ...]  # Any: no tool here has dependencies
    wrong: Callable[[Result], str]
    streamed: bool = False


@dataclass(frozen=True, slots=True)
class Check:
    """How a question went: what was wrong ('' for nothing), the calls, the answer."""

    name: str
    wrong: str
    calls: tuple[str, ...]
    answer: str
    seconds: float

    @property
    def passed(self) -> bool:
        return not self.wrong


async def ask(model: Model, question: Question) -> Check:
    """Ask one question. What the server or the model does wrong is in the check."""
    agent = Agent(model, tools=question.tools, instructions=_TOLD, limits=LIMITS)
    begun = monotonic()
    try:
        result = await (_streamed if question.streamed else _whole)(agent, question.prompt)
    except AgentCallError as error:
        return Check(question.name, str(error), (), "", monotonic() - begun)
    ended = result.stop_reason
    wrong = f"the run ended early: {ended}" if ended != "final" else question.wrong(result)
    return Check(question.name, wrong, _shown(result), result.text, monotonic() - begun)


async def _whole(agent: Agent[str], prompt: str) -> Result:
    return await agent.run(prompt)


async def _streamed(agent: Agent[str], prompt: str) -> Result:
    async for event in agent.run_stream(prompt):
        if isinstance(event, RunFinished):
            return event.result
    raise AgentCallError("the run ended without a result")


def _reckons(wanted: Sequence[tuple[str, int, int]], answer: str) -> Callable[[Result], str]:
    """That the calls were made, in any order of their numbers, and the answer holds the result."""

    def wrong(result: Result) -> str:
        made = [(name, sorted(map(str, given.values()))) for name, given in _calls(result)]
        for name, a, b in wanted:
            if (name, sorted((str(a), str(b)))) not in made:
                return f"it did not call {name}({a}, {b})"
        return _lacks(result, answer)

    return wrong


def _looks_up(result: Result) -> str:
    if not _calls(result):
        return "it did not call get_weather"
    return _lacks(result, _DEGREES)


def _just_talks(result: Result) -> str:
    if called := _calls(result):
        return f"it called {called[0][0]} where no tool was needed"
    return "" if result.text.strip() else "the answer is empty"


def _lacks(result: Result, words: str) -> str:
    said = result.text.replace(",", "")
    return "" if words in said else f"the answer does not hold {words}, which the tool gave"


def _calls(result: Result) -> list[Call]:
    return [(call.name, _arguments(call.arguments)) for call, _ in result.tool_calls]


def _arguments(text: str) -> dict[str, Any]:  # Any: JSON that a model wrote
    try:
        found = json.loads(text)
    except ValueError:
        return {}
    return cast("dict[str, Any]", found) if isinstance(found, dict) else {}


def _shown(result: RunResult[Any]) -> tuple[str, ...]:  # Any: its output is not looked at
    calls = ((call.name, _arguments(call.arguments)) for call, _ in result.tool_calls)
    return tuple(f"{name}({', '.join(map(str, given.values()))})" for name, given in calls)


_BOTH = _reckons([("add", 3, 5), ("mul", 8, 2)], "16")
QUESTIONS = (
    Question("one call", "What is 3 + 5?", (add, mul), _reckons([("add", 3, 5)], "8")),
    Question("two calls", "Compute (3+5)*2", (add, mul), _BOTH),
    Question("two calls, streamed", "Compute (3+5)*2", (add, mul), _BOTH, streamed=True),
    Question("a lookup", "上海今天多少度?", (get_weather,), _looks_up),
    Question("no call", "Say hello to Ann.", (add, mul, get_weather), _just_talks),
)
