"""Benchmark a model server: its prefix cache, then streams and agents at increasing concurrency.

Percentiles use the nearest rank: they are always one of the samples, never interpolated.
"""

from __future__ import annotations

import asyncio
import itertools
import math
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from time import monotonic

import orjson

from agentcall.agent import Agent
from agentcall.dialects.dialect import Dialect, PromptSpec
from agentcall.errors import ModelError, UsageError
from agentcall.messages import JSON, Transcript, Usage, User
from agentcall.models.capabilities import CHAT_PATH
from agentcall.models.http import HTTPEndpoint
from agentcall.models.http_chat import HTTPChat
from agentcall.models.load_balancer import LoadBalancer
from agentcall.models.model import (
    BEFORE_ANSWER,
    Model,
    ModelRequest,
    ResponseEnd,
    ResponseEvent,
    close_response,
)
from agentcall.runtime.turn import ModelCaller
from agentcall.settings import Limits, ModelSettings
from agentcall.tools.tool import tool


@dataclass(frozen=True, slots=True)
class AnswerTiming:
    """The timing of one complete answer, in seconds since the request.

    `first` and `last` are the times of the first and the last part, `parts` is their number.
    """

    seconds: float
    first: float
    last: float
    parts: int
    usage: Usage

    @property
    def rate(self) -> float | None:
        """Tokens per second after the first token; None if the answer was not streamed."""
        streamed = self.parts > 1 and self.last > self.first and self.usage.output_tokens > 1
        return (self.usage.output_tokens - 1) / (self.last - self.first) if streamed else None


class TimedModel:
    """A model that passes on another model's answers and records the complete ones in `timings`."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self.timings: list[AnswerTiming] = []

    async def ask(self, request: ModelRequest) -> AsyncIterator[ResponseEvent]:
        """Yield the model's parts. Raises ModelError."""
        start = monotonic()
        times: list[float] = []
        answer = self._model.ask(request)
        try:
            async for part in answer:
                if isinstance(part, ResponseEnd):
                    self._record(part, monotonic() - start, times)
                elif not isinstance(part, BEFORE_ANSWER):
                    times.append(monotonic() - start)
                yield part
        finally:
            await close_response(answer)

    def _record(self, end: ResponseEnd, seconds: float, times: list[float]) -> None:
        if end.finish_reason is not None:
            first, last = (times[0], times[-1]) if times else (seconds, seconds)
            self.timings.append(AnswerTiming(seconds, first, last, len(times), end.usage))


@dataclass(frozen=True, slots=True)
class Percentiles:
    """The median and the 95th percentile of samples."""

    median: float
    p95: float


@dataclass(frozen=True, slots=True)
class AgentTrial:
    """One run of an agent that reached its final answer."""

    seconds: float
    usage: Usage


@dataclass(frozen=True, slots=True)
class IncompleteCounts:
    """How many attempts failed, and how many were unfinished when the time was over.

    `why` is the reason of the first failure.
    """

    failed: int = 0
    unfinished: int = 0
    why: str = ""


@dataclass(frozen=True, slots=True)
class StreamStats:
    """Streamed answers without tools. Times in seconds, rates in tokens per second.

    first_token: time from the request to the first part.
    each: rate of one stream after its first part; None if the answers were not streamed.
    in_all: rate of all streams together, waiting included.
    rest: the attempts without a complete answer.

    A value is None if no answer was complete.
    """

    answers: int
    first_token: Percentiles | None
    each: Percentiles | None
    in_all: float | None
    tokens: int
    seconds: float
    rest: IncompleteCounts


@dataclass(frozen=True, slots=True)
class AgentStats:
    """Runs of agents with tools. Times in seconds, rates per second; None if no run was complete.

    called: the number of runs in which the model called a tool.
    rest: the runs without a final answer.
    """

    runs: int
    called: int
    run: Percentiles | None
    request: Percentiles | None
    runs_rate: float | None
    requests_rate: float | None
    tokens_rate: float | None
    usage: Usage
    seconds: float
    rest: IncompleteCounts


def compute_percentiles(samples: Sequence[float]) -> Percentiles | None:
    """Return the percentiles of samples; None if there are none.

    >>> compute_percentiles([3.0, 1.0, 2.0])
    Percentiles(median=2.0, p95=3.0)
    """
    if not samples:
        return None
    ordered = sorted(samples)

    def get_rank(share: float) -> float:
        return ordered[math.ceil(share * len(ordered)) - 1]

    return Percentiles(get_rank(0.5), get_rank(0.95))


def compute_stream_stats(
    timings: Sequence[AnswerTiming], seconds: float, rest: IncompleteCounts
) -> StreamStats:
    """Return the statistics of streamed answers that took `seconds` together."""
    tokens = sum(timing.usage.output_tokens for timing in timings)
    return StreamStats(
        len(timings),
        compute_percentiles([timing.first for timing in timings]),
        compute_percentiles([rate for timing in timings if (rate := timing.rate) is not None]),
        _compute_rate(tokens, seconds),
        tokens,
        seconds,
        rest,
    )


def compute_agent_stats(
    trials: Sequence[AgentTrial],
    timings: Sequence[AnswerTiming],
    seconds: float,
    rest: IncompleteCounts,
) -> AgentStats:
    """Return the statistics of runs and of all their requests."""
    usage = sum((trial.usage for trial in trials), Usage())
    tokens = sum(timing.usage.output_tokens for timing in timings)
    return AgentStats(
        len(trials),
        sum(trial.usage.tool_calls > 0 for trial in trials),
        compute_percentiles([trial.seconds for trial in trials]),
        compute_percentiles([timing.seconds for timing in timings]),
        _compute_rate(len(trials), seconds),
        _compute_rate(len(timings), seconds),
        _compute_rate(tokens, seconds),
        usage,
        seconds,
        rest,
    )


def _compute_rate(count: int, seconds: float) -> float | None:
    return count / seconds if count and seconds > 0 else None


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


_AGENT_TOKENS = 512
"""Maximum tokens of an agent's answer: a call, or a sentence."""


@dataclass(frozen=True, slots=True)
class BenchScope:
    """The size of a benchmark.

    concurrency: numbers of concurrent streams, and of concurrent agents.
    each: answers per stream and runs per agent, one after the other.
    tokens: maximum tokens of an answer without tools.
    seconds: timeout of one measurement. There are two for each number in `concurrency`, after two
        requests for the prefix cache.
    """

    concurrency: tuple[int, ...] = (1, 8, 32)
    each: int = 2
    tokens: int = 128
    seconds: float = 30.0

    def __post_init__(self) -> None:
        if not self.concurrency or min(self.concurrency) < 1 or max(self.concurrency) > 1024:
            raise UsageError(f"concurrency is {self.concurrency}; use numbers from 1 to 1024")
        if self.each < 1 or self.tokens < 2 or not self.seconds > 0:
            raise UsageError("a measurement needs each >= 1, tokens >= 2 and seconds > 0")


@dataclass(frozen=True, slots=True)
class BenchServer:
    """A server and the name of its model; None selects the first model that it lists."""

    endpoint: HTTPEndpoint
    model: str | None = None
    dialect: Dialect | str = "auto"

    def make_chat(self, settings: ModelSettings) -> HTTPChat:
        """Return the model of the server."""
        return HTTPChat(self.endpoint, self.model, dialect=self.dialect, settings=settings)


@dataclass(frozen=True, slots=True)
class BenchTarget:
    """The servers of a benchmark: one, or several that serve the same model."""

    servers: tuple[BenchServer, ...]

    def make_model(self, tokens: int) -> Model:
        """Return the model, with at most `tokens` tokens per answer."""
        settings = ModelSettings(temperature=0.0, max_tokens=tokens)
        chats = [server.make_chat(settings) for server in self.servers]
        return chats[0] if len(chats) == 1 else LoadBalancer(*chats)


@dataclass(frozen=True, slots=True)
class LoadLevel:
    """The statistics for one number of concurrent streams and agents."""

    concurrency: int
    streams: StreamStats
    agents: AgentStats


@dataclass(frozen=True, slots=True)
class BenchReport:
    """The results. `prefix` is of the first server, or None with the reason in `prefix_failed`."""

    servers: tuple[str, ...]
    model: str
    dialect: str
    scope: BenchScope
    prefix: PrefixCacheStats | None
    prefix_failed: str
    levels: tuple[LoadLevel, ...]


async def measure(
    target: BenchTarget, scope: BenchScope, on_step: Callable[[str], None] = lambda _: None
) -> BenchReport:
    """Measure a server or several; `on_step` is called with a line of text for each step.

    Raises ModelError if the first server does not answer at all, UsageError.
    """
    server = target.servers[0]
    on_step(f"asking {server.endpoint.display_url} about its model")
    choice = await server.make_chat(ModelSettings()).resolve_dialect()
    on_step("prefix cache")
    prefix, prefix_failed = None, ""
    try:
        prefix = await measure_prefix_cache(
            replace(server.endpoint, tries=1, timeout=scope.seconds), choice.model
        )
    except ModelError as error:
        prefix_failed = str(error)
    stream_model, agent_model = target.make_model(scope.tokens), target.make_model(_AGENT_TOKENS)
    # Warm up: open the connections and detect the dialects.
    await measure_streams(stream_model, LoadProfile(len(target.servers), 1, scope.seconds))
    levels: list[LoadLevel] = []
    for size in scope.concurrency:
        load = LoadProfile(size, scope.each, scope.seconds)
        on_step(f"{size} at a time: streams")
        streams = await measure_streams(stream_model, load)
        on_step(f"{size} at a time: agents")
        levels.append(LoadLevel(size, streams, await measure_agents(agent_model, load)))
    return BenchReport(
        tuple(server.endpoint.display_url for server in target.servers),
        choice.model,
        choice.dialect.name,
        scope,
        prefix,
        prefix_failed,
        tuple(levels),
    )


__all__ = [
    "BenchReport",
    "BenchScope",
    "BenchServer",
    "BenchTarget",
    "measure",
]
