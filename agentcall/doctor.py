"""What is right and what is wrong with a model server, and what to change: findings from facts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from agentcall.models.endpoint import Endpoint
from agentcall.models.facts import Fate

Level: TypeAlias = Literal["ok", "warn", "error"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing seen: how bad it is, what it is, and what to change (empty if nothing)."""

    level: Level
    what: str
    advice: str = ""


@dataclass(frozen=True, slots=True)
class Report:
    """What there is to know about a server and a model.

    server: who it says it is ("lmdeploy", "vllm", "llamacpp", "library" for Ollama, ...), or "".
    version: the guess, such as "0.17 or 0.18"; "" where nothing can be told.
    model: the model's full name on the server; "" where none was found.
    served: the names of all models there.
    context: the window in tokens; None where the server does not tell.
    tools: what happens to the tools of a request; see `Fate`.
    streams_with_tools: whether a stream comes back for a request with tools; None if not known.
    dialect, reason: what `dialect="auto"` chooses, and why; "" where nothing could be chosen.
    """

    url: str
    server: str = ""
    version: str = ""
    model: str = ""
    served: tuple[str, ...] = ()
    context: int | None = None
    tools: Fate = "unknown"
    streams_with_tools: bool | None = None
    dialect: str = ""
    reason: str = ""
    findings: tuple[Finding, ...] = ()

    @property
    def healthy(self) -> bool:
        """Whether nothing is an error: an agent can work with this server."""
        return all(finding.level != "error" for finding in self.findings)


async def examine(endpoint: Endpoint | str, model: str | None = None) -> Report:
    """Asks a server who it is and what it does with tools; never raises a ModelError.

    endpoint: the server, or its base URL. model: as in `Agent`; None takes the first it serves.
    """
    raise NotImplementedError
