"""Runs the cases of an evaluation, several at the same time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from time import perf_counter
from typing import Any

from agentcall.agent import Agent
from agentcall.errors import AgentCallError, UsageError
from agentcall.evals.case import Case
from agentcall.evals.checks import find_problem
from agentcall.evals.report import Report, Trial
from agentcall.result import RunResult, result_of
from agentcall.runtime.runner import run_sync

SAMPLED_REPEATS = 10
"""How often a case is run if the model samples: one run of it says little."""


async def evaluate(
    agent: Agent[Any, Any],  # Any: an agent of any types
    cases: Sequence[Case],
    *,
    repeat: int | None = None,
    concurrency: int = 8,
    label: str = "",
    on_trial: Callable[[Trial], None] | None = None,
) -> Report:
    """Run each case and return what passed.

    repeat: how often; by default ten times, or once if the agent's temperature is 0.
    concurrency: how many runs are under way at the same time.
    label: names the report; by default the agent's name.
    on_trial: called after each run.

    A run that raises is a failed trial, with its error. Raises UsageError for wrong arguments.
    """
    count = _choose_repeats(agent) if repeat is None else repeat
    if count < 1 or concurrency < 1:
        raise UsageError(f"repeat={count} and concurrency={concurrency} have to be at least 1")
    if not cases:
        raise UsageError("an evaluation needs at least one case")
    names = [case.name for case in cases]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise UsageError(f"two cases are called {twice!r}; give each a unique name")
    semaphore = asyncio.Semaphore(concurrency)

    async def run_one(case: Case, number: int) -> Trial:
        async with semaphore:
            trial = await _run_case(agent, case, number)
        if on_trial is not None:
            on_trial(trial)
        return trial

    work = [run_one(case, number) for case in cases for number in range(1, count + 1)]
    return Report(label or agent.name, tuple(await asyncio.gather(*work)))


def evaluate_sync(
    agent: Agent[Any, Any],  # Any: as above
    cases: Sequence[Case],
    *,
    repeat: int | None = None,
    concurrency: int = 8,
    label: str = "",
) -> Report:
    """As `evaluate`, from sync code."""
    return run_sync(evaluate(agent, cases, repeat=repeat, concurrency=concurrency, label=label))


def _choose_repeats(agent: Agent[Any, Any]) -> int:
    settings = agent.settings
    return 1 if settings is not None and settings.temperature == 0 else SAMPLED_REPEATS


async def _run_case(agent: Agent[Any, Any], case: Case, number: int) -> Trial:
    started = perf_counter()
    result: RunResult[Any] | None = None
    try:
        result = await agent.run(case.prompt, messages=case.messages, deps=case.deps)
        problems = [await find_problem(check, result) for check in case.checks]
    except UsageError:
        raise  # the evaluation is wrong, not the model
    except AgentCallError as error:
        result = result or result_of(error)
        problems = [f"{type(error).__name__}: {error}"]
    seconds = perf_counter() - started
    return Trial(
        case.name, number, tuple(filter(None, problems)), result, seconds, tuple(case.tags)
    )
