"""What a session is: a conversation that is kept from run to run."""

from __future__ import annotations

from collections.abc import Collection
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any, Protocol

from agentcall.grants import ApprovalRule
from agentcall.messages import Message
from agentcall.result import RunResult


@dataclass(frozen=True, slots=True)
class SessionSnapshot:
    """What a session gives a run to begin with: the conversation, and what was approved always."""

    messages: tuple[Message, ...] = ()
    approval_rules: tuple[ApprovalRule, ...] = ()


class Session(Protocol):
    """Keeps a conversation; `agent.run(prompt, session=...)` goes on with it."""

    def acquire(
        self, run_id: str, waiting: Collection[str] = ()
    ) -> AbstractAsyncContextManager[SessionSnapshot]:
        """The conversation before this run, held for one run at a time.

        waiting: the ids of the calls that a resumed run waits for. Raises UsageError if the session
            knows that the run has gone on since.
        """
        ...

    async def save(self, result: RunResult[Any]) -> None:
        """Puts down what a run has come to: before each of its steps, and when it has ended.

        The last word about a run takes the place of those before.
        """
        ...
