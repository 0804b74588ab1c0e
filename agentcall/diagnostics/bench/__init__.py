"""How fast a model server answers streams and agents: a bounded measurement, and its figures.

One measurement of a server: its prefix cache, then streams and agents, ever more at a time.
"""

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
"""Tokens that an agent's answer may have: a call, or a sentence."""


@dataclass(frozen=True, slots=True)
class BenchScope:
    """How much is measured.

    concurrency: how many streams, and agents, at the same time. each: answers of a stream, and
    runs of an agent, one after the other. tokens: of a bare answer at most. seconds: that one
    measurement may take; there are two for each of `concurrency`, and two requests before them.
    """

    concurrency: tuple[int, ...] = (1, 8, 32)
    each: int = 2
    tokens: int = 128
    seconds: float = 30.0

    def __post_init__(self) -> None:
        if not self.concurrency or min(self.concurrency) < 1 or max(self.concurrency) > 1024:
            raise UsageError(f"concurrency is {self.concurrency}; use numbers from 1 to 1024")
        if self.each < 1 or self.tokens < 2 or not self.seconds > 0:
            raise UsageError("a measurement needs at least 1 of each, 2 tokens, and some seconds")


@dataclass(frozen=True, slots=True)
class BenchServer:
    """A server, and the name of its model there; None takes the first that it serves."""

    endpoint: HTTPEndpoint
    model: str | None = None
    dialect: Dialect | str = "auto"

    def make_chat(self, settings: ModelSettings) -> HTTPChat:
        """Its model."""
        return HTTPChat(self.endpoint, self.model, dialect=self.dialect, settings=settings)


@dataclass(frozen=True, slots=True)
class BenchTarget:
    """What is measured: one server, or several that serve one model."""

    servers: tuple[BenchServer, ...]

    def make_model(self, tokens: int) -> Model:
        """The model, which answers in so many tokens at most."""
        settings = ModelSettings(temperature=0.0, max_tokens=tokens)
        chats = [server.make_chat(settings) for server in self.servers]
        return chats[0] if len(chats) == 1 else LoadBalancer(*chats)


@dataclass(frozen=True, slots=True)
class LoadLevel:
    """The figures for so many at the same time."""

    concurrency: int
    streams: StreamStats
    agents: AgentStats


@dataclass(frozen=True, slots=True)
class BenchReport:
    """What was measured. `prefix` is of the first server; None, and why, where it failed."""

    servers: tuple[str, ...]
    model: str
    dialect: str
    scope: BenchScope
    prefix: PrefixCacheStats | None
    prefix_failed: str
    levels: tuple[LoadLevel, ...]


async def measure(
    target: BenchTarget, scope: BenchScope, on_step: Callable[[str], None] = lambda _words: None
) -> BenchReport:
    """Measures a server; `say` gets a line for each step.

    Raises ModelError if it does not answer at all, UsageError.
    """
    first = target.servers[0]
    on_step(f"asking {first.endpoint.display_url} what it is")
    choice = await first.make_chat(ModelSettings()).resolve_dialect()
    on_step("prefix cache")
    patient = replace(first.endpoint, tries=1, timeout=scope.seconds)
    prefix, failed = await _measure_prefix(patient, choice.model)
    bare, armed = target.make_model(scope.tokens), target.make_model(_AGENT_TOKENS)
    await measure_streams(
        bare, LoadProfile(len(target.servers), 1, scope.seconds)
    )  # connections, dialects
    levels: list[LoadLevel] = []
    for size in scope.concurrency:
        crowd = LoadProfile(size, scope.each, scope.seconds)
        on_step(f"{size} at a time: streams")
        streamed = await measure_streams(bare, crowd)
        on_step(f"{size} at a time: agents")
        levels.append(LoadLevel(size, streamed, await measure_agents(armed, crowd)))
    places = tuple(server.endpoint.display_url for server in target.servers)
    return BenchReport(
        places, choice.model, choice.dialect.name, scope, prefix, failed, tuple(levels)
    )


async def _measure_prefix(
    endpoint: HTTPEndpoint, model: str
) -> tuple[PrefixCacheStats | None, str]:
    try:
        return await measure_prefix_cache(endpoint, model), ""
    except ModelError as error:
        return None, str(error)


__all__ = [
    "BenchReport",
    "BenchScope",
    "BenchServer",
    "BenchTarget",
    "measure",
]
