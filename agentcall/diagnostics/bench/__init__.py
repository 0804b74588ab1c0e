"""Benchmark a model server: its prefix cache, then streams and agents at increasing concurrency."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from agentcall.diagnostics.bench.load import (
    LoadProfile,
    PrefixCacheStats,
    measure_agents,
    measure_prefix_cache,
    measure_streams,
)
from agentcall.diagnostics.bench.stats import AgentStats, StreamStats
from agentcall.dialects.base import Dialect
from agentcall.errors import ModelError, UsageError
from agentcall.models.base import Model
from agentcall.models.http import HTTPEndpoint
from agentcall.models.http_chat import HTTPChat
from agentcall.models.load_balancer import LoadBalancer
from agentcall.settings import ModelSettings

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
