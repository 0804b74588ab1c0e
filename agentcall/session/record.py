"""What a session file holds, as values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from agentcall.messages import Message, Usage


@dataclass(frozen=True, slots=True)
class SessionSummary:
    """A session in a list; times are seconds since the epoch.

    title: the first words of the user. waiting: runs that wait for approval.
    """

    id: str
    began: float
    changed: float
    runs: int
    messages: int
    waiting: int
    title: str


@dataclass(frozen=True, slots=True)
class StoredRun:
    """A run of a session, with its own messages."""

    id: str
    began: float
    agent: str
    stop_reason: str
    usage: Usage
    messages: tuple[Message, ...]


@dataclass(frozen=True, slots=True)
class StoredSession:
    """A session, whole.

    compacted: how many of its messages the next run is no longer given; `head` stands for them.
    """

    id: str
    began: float
    changed: float
    runs: tuple[StoredRun, ...]
    compacted: int = 0
    head: tuple[Message, ...] = ()

    @property
    def messages(self) -> Sequence[Message]:
        """All messages, in order."""
        return [message for run in self.runs for message in run.messages]


@dataclass(frozen=True, slots=True)
class SearchHit:
    """A message that a search found: where, whose, and the words around the hit."""

    session: str
    place: int
    role: str
    at: float
    excerpt: str
