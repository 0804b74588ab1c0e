"""Run the scenarios with agentcall and its default settings."""

from __future__ import annotations

import asyncio
from time import perf_counter

from agentcall import Agent
from agentcall.events import RunFinished, TextDelta
from agentcall.result import RunResult
from agentcall.testing import FakeServer
from benchmarks.robustness import tools
from benchmarks.robustness.scenario import Execution, Scenario
from benchmarks.robustness.verdict import Outcome

RUN_TIMEOUT = 60.0
"""Timeout of a run, in seconds."""


def run_agentcall(scenario: Scenario, *, stream: bool) -> Outcome:
    """Return the outcome of a scenario, plain or streamed."""
    with FakeServer(scenario.script, **scenario.traits) as server:
        return asyncio.run(measure_outcome(scenario, server, stream=stream))


async def measure_outcome(scenario: Scenario, server: FakeServer, *, stream: bool) -> Outcome:
    """Return the outcome of a scenario that this server plays."""
    functions = [getattr(tools, name) for name in scenario.tools]
    agent = Agent(f"{server.url}#fake-model", tools=functions)
    tools.EXECUTIONS.clear()
    start, shown, error = perf_counter(), list[str](), ""
    result: RunResult[str] | None = None
    try:
        run = (
            _run_as_stream(agent, scenario.question, shown)
            if stream
            else agent.run(scenario.question)
        )
        result = await asyncio.wait_for(run, RUN_TIMEOUT)
    except Exception as raised:  # any exception is a failure of the run
        error = f"raised {type(raised).__name__}: {raised}"
    done = tuple(Execution(each["tool"], each["arguments"]) for each in tools.EXECUTIONS)
    answer = result.answer if result is not None and isinstance(result.answer, str) else None
    seconds = perf_counter() - start
    return Outcome(answer, done, error, "".join(shown), len(server.requests), seconds)


async def _run_as_stream(agent: Agent, question: str, shown: list[str]) -> RunResult[str] | None:
    result: RunResult[str] | None = None
    async for event in agent.run_stream(question):
        match event:
            case TextDelta(text):
                shown.append(text)
            case RunFinished():
                result = event.result
            case _:
                pass
    return result
