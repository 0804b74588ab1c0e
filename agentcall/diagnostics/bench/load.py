"""Measure a model under load, with concurrent streams and agents, and a server's prefix cache."""

from __future__ import annotations

import asyncio
import itertools
import secrets
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from time import monotonic

import orjson

from agentcall.agent import Agent
from agentcall.diagnostics.bench.stats import (
    AgentStats,
    AgentTrial,
    IncompleteCounts,
    StreamStats,
    TimedModel,
    compute_agent_stats,
    compute_stream_stats,
)
from agentcall.dialects.base import PromptSpec
from agentcall.errors import ModelError
from agentcall.messages import JSON, Transcript, User
from agentcall.models.base import Model, ModelRequest
from agentcall.models.capabilities import CHAT_PATH
from agentcall.models.http import HTTPEndpoint
from agentcall.runtime.turn import ModelCaller
from agentcall.settings import Limits
from agentcall.tools.tool import tool

MAX_REQUESTS = 8
"""Maximum number of requests in one run."""

PROMPT_WORDS = 400
"""Words of the prompt for the prefix cache, about as many tokens: several blocks of any cache."""

_FILLER = "the cat sat on a mat and looked at the moon while it rained in the old town"
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
    """`size` concurrent workers, `each` attempts per worker, and a timeout in seconds for all."""

    size: int
    each: int
    seconds: float


class _UniquePrefix:
    """Generates words that no earlier prompt began with, so that no cache has the prompt."""

    def __init__(self) -> None:
        self._series = secrets.token_hex(4)
        self._count = 0

    def next(self) -> str:
        """Return the next word."""
        self._count += 1
        return f"{self._series}-{self._count}"


async def measure_streams(model: Model, load: LoadProfile) -> StreamStats:
    """Measure streamed answers without tools; no two prompts share a prefix."""
    timed_model, prefix = TimedModel(model), _UniquePrefix()

    async def ask_once() -> str:
        message = User(f"{prefix.next()}. Write the numbers from one to two hundred in words.")
        request = ModelRequest(Transcript([message]), PromptSpec(), stream=True)
        turn = await ModelCaller(timed_model).request_once(request)
        return "" if turn.finish is not None else "the stream ended before the answer did"

    seconds, rest = await _run_load(ask_once, load)
    return compute_stream_stats(timed_model.timings, seconds, rest)


async def measure_agents(model: Model, load: LoadProfile) -> AgentStats:
    """Measure runs of agents that call tools."""
    timed_model, prefix = TimedModel(model), _UniquePrefix()
    agent = Agent(
        timed_model,
        tools=[price, multiply],
        instructions="You are the till of a shop. Look prices up with the tools, never guess.",
        limits=Limits(requests=MAX_REQUESTS),
    )
    trials: list[AgentTrial] = []
    items = itertools.cycle(_PRICES)

    async def run_once() -> str:
        start = monotonic()
        result = await agent.run(f"Customer {prefix.next()}: what do 6 of {next(items)} cost?")
        if result.stop_reason != "final":
            return f"a run ended by {result.stop_reason}"
        trials.append(AgentTrial(monotonic() - start, result.usage))
        return ""

    seconds, rest = await _run_load(run_once, load)
    return compute_agent_stats(trials, timed_model.timings, seconds, rest)


async def _run_load(
    attempt: Callable[[], Awaitable[str]], load: LoadProfile
) -> tuple[float, IncompleteCounts]:
    """Repeat an attempt in concurrent workers, until they are done or the time is over.

    `attempt` returns the reason of a failure, or "". Returns the seconds and the incomplete
    attempts.
    """
    started = completed = 0
    reasons: list[str] = []

    async def run_worker() -> None:
        nonlocal started, completed
        for _ in range(load.each):
            started += 1
            try:
                reason = await attempt()
            except ModelError as error:
                reason = str(error)
            if reason:
                reasons.append(reason)
            else:
                completed += 1

    start = monotonic()
    tasks = [asyncio.ensure_future(run_worker()) for _ in range(load.size)]
    try:
        await asyncio.wait(tasks, timeout=load.seconds)
        seconds = monotonic() - start
        unfinished = started - completed - len(reasons)
        rest = IncompleteCounts(len(reasons), unfinished, reasons[0] if reasons else "")
    finally:
        for task in tasks:
            task.cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
    for result in results:
        if isinstance(result, Exception):
            raise result
    return seconds, rest


@dataclass(frozen=True, slots=True)
class PrefixCacheStats:
    """The same new prompt sent twice, for one token each.

    cached_tokens: of the second request, as the server reports them; None if it does not.
    """

    prompt_tokens: int | None
    first_seconds: float
    again_seconds: float
    cached_tokens: int | None


async def measure_prefix_cache(endpoint: HTTPEndpoint, model: str) -> PrefixCacheStats:
    """Measure whether a server caches the prefixes of prompts. Raises ModelError."""
    words = itertools.islice(itertools.cycle(_FILLER.split()), PROMPT_WORDS)
    text = f"{secrets.token_hex(8)} {' '.join(words)}\nSay yes."
    messages: JSON = [{"role": "user", "content": text}]
    body = orjson.dumps({"model": model, "max_tokens": 1, "temperature": 0, "messages": messages})
    start = monotonic()
    await endpoint.post(CHAT_PATH, body)
    middle = monotonic()
    usage = _get_member(await endpoint.post(CHAT_PATH, body), "usage")
    end = monotonic()
    return PrefixCacheStats(
        _get_count(usage, "prompt_tokens"),
        middle - start,
        end - middle,
        _get_count(_get_member(usage, "prompt_tokens_details"), "cached_tokens"),
    )


def _get_member(value: JSON, key: str) -> JSON:
    return value.get(key) if isinstance(value, Mapping) else None


def _get_count(value: JSON, key: str) -> int | None:
    count = _get_member(value, key)
    return count if isinstance(count, int) else None
