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
    AgentFigures,
    StreamFigures,
    Trial,
    Tried,
    agent_figures,
    stream_figures,
)
from agentcall.bench.stopwatch import Stopwatch
from agentcall.dialects.protocol import Offer
from agentcall.errors import ModelError
from agentcall.limits import Limits
from agentcall.messages import User
from agentcall.models.protocol import Model, Request
from agentcall.tool import tool
from agentcall.transcript import Transcript
from agentcall.turn import Listener

REQUESTS = 8
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
class Crowd:
    """How many at the same time, how much each of them does, and for how many seconds at most."""

    size: int
    each: int
    seconds: float


class _Mark:
    """A word that no prompt before this one began with, so that no cache holds its beginning."""

    def __init__(self) -> None:
        self._series = secrets.token_hex(4)
        self._count = 0

    def next(self) -> str:
        """The next one."""
        self._count += 1
        return f"{self._series}-{self._count}"


@dataclass(slots=True)
class _Ledger:
    """Counts what was begun and what failed."""

    begun: int = 0
    ended: int = 0
    failed: int = 0
    why: list[str] = field(default_factory=list[str])

    @property
    def rest(self) -> Tried:
        unfinished = self.begun - self.ended - self.failed
        return Tried(self.failed, unfinished, self.why[0] if self.why else "")


async def streams(model: Model, crowd: Crowd) -> StreamFigures:
    """The figures of bare answers, each to a question of its own: no prefix is shared."""
    timed, mark = Stopwatch(model), _Mark()

    async def one() -> str:
        asked = User(f"{mark.next()}. Write the numbers from one to two hundred in words.")
        request = Request(Transcript([asked]), Offer(), stream=True)
        turn = await Listener(timed).turn(request)
        return "" if turn.finish is not None else "the stream ended before the answer did"

    seconds, rest = await _crowded(one, crowd)
    return stream_figures(timed.spans, seconds, rest)


async def agents(model: Model, crowd: Crowd) -> AgentFigures:
    """The figures of runs that call tools."""
    timed, mark = Stopwatch(model), _Mark()
    agent = Agent(
        timed,
        tools=[price, multiply],
        instructions="You are the till of a shop. Look prices up with the tools, never guess.",
        limits=Limits(requests=REQUESTS),
    )
    trials: list[Trial] = []
    items = itertools.cycle(_PRICES)

    async def one() -> str:
        began = monotonic()
        result = await agent.run(f"Customer {mark.next()}: what do 6 of {next(items)} cost?")
        if result.stop_reason != "final":
            return f"a run ended by {result.stop_reason}"
        trials.append(Trial(monotonic() - began, result.usage))
        return ""

    seconds, rest = await _crowded(one, crowd)
    return agent_figures(trials, timed.spans, seconds, rest)


async def _crowded(one: Callable[[], Awaitable[str]], crowd: Crowd) -> tuple[float, Tried]:
    """Does it by a crowd; the seconds that it took, and what did not come to its end.

    `one` gives why it failed, or nothing.
    """
    ledger = _Ledger()

    async def member() -> None:
        for _ in range(crowd.each):
            ledger.begun += 1
            try:
                why = await one()
            except ModelError as error:
                why = str(error)
            if why:
                ledger.failed += 1
                ledger.why.append(why)
            else:
                ledger.ended += 1

    began = monotonic()
    tasks = [asyncio.ensure_future(member()) for _ in range(crowd.size)]
    try:
        await asyncio.wait(tasks, timeout=crowd.seconds)
        seconds = monotonic() - began
        rest = ledger.rest
    finally:
        for task in tasks:
            task.cancel()
        ended = await asyncio.gather(*tasks, return_exceptions=True)
    for problem in ended:
        if isinstance(problem, Exception):
            raise problem
    return seconds, rest
