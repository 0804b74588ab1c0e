"""A smoke test of a model server: a few questions with known answers, asked with tools.

Each question checks the calls that the model makes, and its answer. The results of the tools cannot
be guessed, or the model is instructed not to compute them itself, so that an answer shows whether
results reach the model.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import monotonic
from typing import Any

from agentcall.agent import Agent
from agentcall.errors import AgentCallError
from agentcall.events import RunFinished
from agentcall.models.model import Model
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
    """A question; `find_problem` returns what is wrong with a result, or ''."""

    name: str
    prompt: str
    tools: tuple[Tool[Any], ...]  # Any: no tool here has dependencies
    find_problem: Callable[[TextRunResult], str]
    is_streamed: bool = False


@dataclass(frozen=True, slots=True)
class SmokeCheck:
    """The outcome of a question: what was wrong ('' if nothing), the calls, the answer."""

    name: str
    wrong: str
    calls: tuple[str, ...]
    answer: str
    seconds: float

    @property
    def passed(self) -> bool:
        """Whether nothing was wrong."""
        return not self.wrong


async def ask_question(model: Model, question: SmokeQuestion) -> SmokeCheck:
    """Ask one question; errors of the server and the model are part of the result."""
    agent = Agent(model, tools=question.tools, instructions=_INSTRUCTIONS, limits=LIMITS)
    start = monotonic()
    try:
        if question.is_streamed:
            result = await _run_as_stream(agent, question.prompt)
        else:
            result = await agent.run(question.prompt)
    except AgentCallError as error:
        return SmokeCheck(question.name, str(error), (), "", monotonic() - start)
    if result.stop_reason == "final":
        problem = question.find_problem(result)
    else:
        problem = f"the run ended early: {result.stop_reason}"
    calls = tuple(
        f"{name}({', '.join(map(str, arguments.values()))})"
        for name, arguments in _list_calls(result)
    )
    return SmokeCheck(question.name, problem, calls, result.text, monotonic() - start)


async def _run_as_stream(agent: Agent[str], prompt: str) -> TextRunResult:
    async for event in agent.run_stream(prompt):
        if isinstance(event, RunFinished):
            return event.result
    raise AgentCallError("the run ended without a result")


def _expect_calls(
    expected: Sequence[tuple[str, int, int]], answer: str
) -> Callable[[TextRunResult], str]:
    """Check for these calls, with their numbers in any order, and for `answer` in the text."""

    def find_problem(result: TextRunResult) -> str:
        calls = [
            (name, sorted(map(str, arguments.values()))) for name, arguments in _list_calls(result)
        ]
        for name, a, b in expected:
            if (name, sorted((str(a), str(b)))) not in calls:
                return f"it did not call {name}({a}, {b})"
        return _check_answer_text(result, answer)

    return find_problem


def _check_lookup(result: TextRunResult) -> str:
    if not _list_calls(result):
        return "it did not call get_weather"
    return _check_answer_text(result, _TEMPERATURE)


def _check_plain_answer(result: TextRunResult) -> str:
    if calls := _list_calls(result):
        return f"it called {calls[0][0]} although no tool was needed"
    return "" if result.text.strip() else "the answer is empty"


def _check_answer_text(result: TextRunResult, text: str) -> str:
    if text in result.text.replace(",", ""):
        return ""
    return f"the answer does not contain {text}, the result of the tool"


def _list_calls(result: TextRunResult) -> list[NamedArguments]:
    return [(call.name, call.args) for call in result.tool_calls]


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
