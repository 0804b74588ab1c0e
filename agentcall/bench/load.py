"""Puts so many streams or agents on a model at the same time, for so long at most."""

from __future__ import annotations

import asyncio
import itertools
import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from time import monotonic

from agentcall.agent import Agent
from agentcall.bench.figures import (
    AgentStats,
    AgentTrial,
    IncompleteCounts,
    StreamStats,
    compute_agent_stats,
    compute_stream_stats,
)
from agentcall.bench.stopwatch import TimedModel
from agentcall.dialects.protocol import PromptSpec
from agentcall.errors import ModelError
from agentcall.limits import Limits
from agentcall.messages import User
from agentcall.models.protocol import Model, ModelRequest
from agentcall.tool import tool
from agentcall.transcript import Transcript
from agentcall.turn import ModelCaller

MAX_REQUESTS = 8
"""Requests of one run at most."""

_PRICES = {"apple": 3, "pear": 4, "melon": 12, "cherry": 1, "mango": 7, "quince": 5, "fig": 2}


@tool
def price(item: str) -> int:
    """The price of one item of the shop, in cents."""
    return _PRICES.get(item.strip().lower(), 9)


@tool
def multiply(a: int, b: int) -> int:
    """Multiply two whole numbers."""
    return a * b


@dataclass(frozen=True, slots=True)
class LoadProfile:
    """How many at the same time, how much each of them does, and for how many seconds at most."""

    size: int
    each: int
    seconds: float


class _UniquePrefix:
    """A word that no prompt before this one began with, so that no cache holds its beginning."""

    def __init__(self) -> None:
        self._series = secrets.token_hex(4)
        self._count = 0

    def next(self) -> str:
        """The next one."""
        self._count += 1
        return f"{self._series}-{self._count}"


@dataclass(slots=True)
class _LoadCounts:
    """Counts what was begun and what failed."""

    started: int = 0
    completed: int = 0
    failed: int = 0
    reasons: list[str] = field(default_factory=list[str])

    @property
    def incomplete(self) -> IncompleteCounts:
        unfinished = self.started - self.completed - self.failed
        return IncompleteCounts(self.failed, unfinished, self.reasons[0] if self.reasons else "")


async def measure_streams(model: Model, load: LoadProfile) -> StreamStats:
    """The figures of bare answers, each to a question of its own: no prefix is shared."""
    timed, mark = TimedModel(model), _UniquePrefix()

    async def ask_once() -> str:
        asked = User(f"{mark.next()}. Write the numbers from one to two hundred in words.")
        request = ModelRequest(Transcript([asked]), PromptSpec(), stream=True)
        turn = await ModelCaller(timed).request_once(request)
        return "" if turn.finish is not None else "the stream ended before the answer did"

    seconds, rest = await _run_load(ask_once, load)
    return compute_stream_stats(timed.timings, seconds, rest)


async def measure_agents(model: Model, load: LoadProfile) -> AgentStats:
    """The figures of runs that call tools."""
    timed, mark = TimedModel(model), _UniquePrefix()
    agent = Agent(
        timed,
        tools=[price, multiply],
        instructions="You are the till of a shop. Look prices up with the tools, never guess.",
        limits=Limits(requests=MAX_REQUESTS),
    )
    trials: list[AgentTrial] = []
    items = itertools.cycle(_PRICES)

    async def run_once() -> str:
        began = monotonic()
        result = await agent.run(f"Customer {mark.next()}: what do 6 of {next(items)} cost?")
        if result.stop_reason != "final":
            return f"a run ended by {result.stop_reason}"
        trials.append(AgentTrial(monotonic() - began, result.usage))
        return ""

    seconds, rest = await _run_load(run_once, load)
    return compute_agent_stats(trials, timed.timings, seconds, rest)


async def _run_load(
    attempt: Callable[[], Awaitable[str]], load: LoadProfile
) -> tuple[float, IncompleteCounts]:
    """Does it by a crowd; the seconds that it took, and what did not come to its end.

    `one` gives why it failed, or nothing.
    """
    ledger = _LoadCounts()

    async def run_member() -> None:
        for _ in range(load.each):
            ledger.started += 1
            try:
                why = await attempt()
            except ModelError as error:
                why = str(error)
            if why:
                ledger.failed += 1
                ledger.reasons.append(why)
            else:
                ledger.completed += 1

    began = monotonic()
    tasks = [asyncio.ensure_future(run_member()) for _ in range(load.size)]
    try:
        await asyncio.wait(tasks, timeout=load.seconds)
        seconds = monotonic() - began
        rest = ledger.incomplete
    finally:
        for task in tasks:
            task.cancel()
        ended = await asyncio.gather(*tasks, return_exceptions=True)
    for problem in ended:
        if isinstance(problem, Exception):
            raise problem
    return seconds, rest
