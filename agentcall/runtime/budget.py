"""What a run has used, and what it may still use of its own limits and of those above it.

Rules:
1. What an agent uses that a tool of another agent's run is, that run has used too.
2. So it may use what is left of both limits, and one request less than the run above it has left:
   that one is for the answer.
3. A request is taken before it is made, so that agents that work at the same time do not use more
   together than there is.
"""

from __future__ import annotations

from dataclasses import replace

from agentcall.messages import Usage
from agentcall.result import StopReason
from agentcall.settings import Limits

_NO_USAGE = Usage()


class Budget:
    """Counts what a run uses; `above` is the budget of the run whose tool this agent is.

    `used` is what was used, `taken` counts the requests that are under way.
    """

    def __init__(
        self, limits: Limits, used: Usage = _NO_USAGE, parent: Budget | None = None
    ) -> None:
        self.limits = limits
        self.used = used
        self.reserved = 0
        self.chain: tuple[Budget, ...] = (self, *(parent.chain if parent is not None else ()))

    @property
    def requests_left(self) -> int | None:
        """How many requests may still be made; None for no bound."""
        return min(
            (
                each.limits.requests - each.used.requests - each.reserved - kept
                for kept, each in enumerate(self.chain)
                if each.limits.requests is not None
            ),
            default=None,
        )

    def reserve_request(self) -> bool:
        """Takes a request that is going to be made; False where none is left."""
        for kept, each in enumerate(self.chain):
            limit = each.limits.requests
            if limit is not None and limit - each.used.requests - each.reserved <= kept:
                return False
        for each in self.chain:
            each.reserved += 1
        return True

    def commit_usage(self, reserved: int, usage: Usage) -> None:
        """Counts what was used by so many requests that were taken."""
        for each in self.chain:
            each.reserved -= reserved
            each.used += usage

    def add_to_parents(self, usage: Usage) -> None:
        """Counts above what this run had used when an earlier process was cut off."""
        for each in self.chain[1:]:
            each.used += usage

    def count_tool_call(self, *, approved: bool = False) -> int | None:
        """Counts a tool call; or else gives the limit that is reached, here or above.

        approved: a person has approved it, whatever is left.
        """
        for each in self.chain:
            limit = each.limits.tool_calls
            if limit is not None and each.used.tool_calls >= limit and not approved:
                return limit
        for each in self.chain:
            each.used = replace(each.used, tool_calls=each.used.tool_calls + 1)
        return None

    def find_exceeded_limit(self) -> tuple[StopReason, str] | None:
        """Why no further request may be made, in a word and in words."""
        shared = ", and the run that asked it may have used the rest" if self.chain[1:] else ""
        for kept, each in enumerate(self.chain):
            limits, used = each.limits, each.used
            made = used.requests + each.reserved + kept
            if limits.requests is not None and made >= limits.requests:
                return "max_requests", f"it made {self.used.requests} requests{shared}"
            if limits.tokens is not None and used.total_tokens >= limits.tokens:
                return "max_tokens", f"it used {self.used.total_tokens} tokens{shared}"
        return None
