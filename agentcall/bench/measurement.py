"""One measurement of a server: its prefix cache, then streams and agents, ever more at a time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from agentcall.bench.figures import AgentFigures, StreamFigures
from agentcall.bench.load import Crowd, agents, streams
from agentcall.bench.prefix import PrefixFigures, prefix_figures
from agentcall.dialects.protocol import Dialect
from agentcall.errors import ModelError, UsageError
from agentcall.models.balance import Balanced
from agentcall.models.endpoint import Endpoint
from agentcall.models.http_chat import HTTPChat
from agentcall.models.protocol import Model, Settings

_AGENT_TOKENS = 512
"""Tokens that an agent's answer may have: a call, or a sentence."""


@dataclass(frozen=True, slots=True)
class Scope:
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
class Server:
    """A server, and the name of its model there; None takes the first that it serves."""

    endpoint: Endpoint
    model: str | None = None
    dialect: Dialect | str = "auto"

    def speaking(self, settings: Settings) -> HTTPChat:
        """Its model."""
        return HTTPChat(self.endpoint, self.model, dialect=self.dialect, settings=settings)


@dataclass(frozen=True, slots=True)
class Target:
    """What is measured: one server, or several that serve one model."""

    servers: tuple[Server, ...]

    def speaking(self, tokens: int) -> Model:
        """The model, which answers in so many tokens at most."""
        settings = Settings(temperature=0.0, max_tokens=tokens)
        chats = [server.speaking(settings) for server in self.servers]
        return chats[0] if len(chats) == 1 else Balanced(*chats)


@dataclass(frozen=True, slots=True)
class Level:
    """The figures for so many at the same time."""

    concurrency: int
    streams: StreamFigures
    agents: AgentFigures


@dataclass(frozen=True, slots=True)
class Report:
    """What was measured. `prefix` is of the first server; None, and why, where it failed."""

    servers: tuple[str, ...]
    model: str
    dialect: str
    scope: Scope
    prefix: PrefixFigures | None
    prefix_failed: str
    levels: tuple[Level, ...]


async def measure(
    target: Target, scope: Scope, say: Callable[[str], None] = lambda _words: None
) -> Report:
    """Measures a server; `say` gets a line for each step.

    Raises ModelError if it does not answer at all, UsageError.
    """
    first = target.servers[0]
    say(f"asking {first.endpoint.place} what it is")
    choice = await first.speaking(Settings()).choice()
    say("prefix cache")
    patient = replace(first.endpoint, tries=1, timeout=scope.seconds)
    prefix, failed = await _prefix(patient, choice.model)
    bare, armed = target.speaking(scope.tokens), target.speaking(_AGENT_TOKENS)
    await streams(bare, Crowd(len(target.servers), 1, scope.seconds))  # connections, dialects
    levels: list[Level] = []
    for size in scope.concurrency:
        crowd = Crowd(size, scope.each, scope.seconds)
        say(f"{size} at a time: streams")
        streamed = await streams(bare, crowd)
        say(f"{size} at a time: agents")
        levels.append(Level(size, streamed, await agents(armed, crowd)))
    places = tuple(server.endpoint.place for server in target.servers)
    return Report(places, choice.model, choice.dialect.name, scope, prefix, failed, tuple(levels))


async def _prefix(endpoint: Endpoint, model: str) -> tuple[PrefixFigures | None, str]:
    try:
        return await prefix_figures(endpoint, model), ""
    except ModelError as error:
        return None, str(error)
