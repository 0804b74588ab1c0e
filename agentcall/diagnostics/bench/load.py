"""Puts so many streams or agents on a model at the same time, for so long at most.

Whether a server keeps the beginnings of prompts: a long prompt is sent twice.
"""

from __future__ import annotations

import asyncio
import itertools
import secrets
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from time import monotonic

import orjson

from agentcall.agent import Agent
from agentcall.diagnostics.bench.stats import (
    AgentStats,
    AgentTrial,
    IncompleteCounts,
    StreamStats,
    compute_agent_stats,
    compute_stream_stats,
)
from agentcall.diagnostics.bench.timing import TimedModel
from agentcall.dialects.base import PromptSpec
from agentcall.errors import ModelError
from agentcall.messages import JSON, Transcript, User
from agentcall.models.base import Model, ModelRequest
from agentcall.models.capabilities import CHAT_PATH
from agentcall.models.http import HTTPEndpoint
from agentcall.runtime.turn import ModelCaller
from agentcall.settings import Limits
from agentcall.tools.tool import tool

PROMPT_WORDS = 400
"""Words of the prompt, and about as many tokens: several blocks of any cache."""

_FILLER = "the cat sat on a mat and looked at the moon while it rained in the old town"


@dataclass(frozen=True, slots=True)
class PrefixCacheStats:
    """A prompt that the server had never seen, and the same once more, for one token each.

    cached_tokens: of the second, as the server reports them; None where it does not.
    """

    prompt_tokens: int | None
    first_seconds: float
    again_seconds: float
    cached_tokens: int | None


async def measure_prefix_cache(endpoint: HTTPEndpoint, model: str) -> PrefixCacheStats:
    """The figures of a server. Raises ModelError."""
    text = f"{secrets.token_hex(8)} " + " ".join(
        itertools.islice(itertools.cycle(_FILLER.split()), PROMPT_WORDS)
    )
    messages: JSON = [{"role": "user", "content": f"{text}\nSay yes."}]
    body = orjson.dumps({"model": model, "max_tokens": 1, "temperature": 0, "messages": messages})
    began = monotonic()
    await endpoint.post(CHAT_PATH, body)
    between = monotonic()
    usage = _get_member(await endpoint.post(CHAT_PATH, body), "usage")
    ended = monotonic()
    return PrefixCacheStats(
        _get_count(usage, "prompt_tokens"),
        between - began,
        ended - between,
        _get_count(_get_member(usage, "prompt_tokens_details"), "cached_tokens"),
    )


def _get_member(value: JSON, key: str) -> JSON:
    return value.get(key) if isinstance(value, Mapping) else None


def _get_count(value: JSON, key: str) -> int | None:
    found = _get_member(value, key)
    return found if isinstance(found, int) else None


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
