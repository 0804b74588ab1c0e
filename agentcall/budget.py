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

from agentcall.limits import Limits
from agentcall.messages import Usage
from agentcall.result import StopReason

_NOTHING = Usage()


class Budget:
    """Counts what a run uses; `above` is the budget of the run whose tool this agent is.

    `used` is what was used, `taken` counts the requests that are under way.
    """

    def __init__(self, limits: Limits, used: Usage = _NOTHING, above: Budget | None = None) -> None:
        self.limits = limits
        self.above = above
        self.used = used
        self.taken = 0

    @property
    def requests_left(self) -> int | None:
        """How many requests may still be made; None for no bound."""
        limit = self.limits.requests
        left = None if limit is None else limit - self.used.requests - self.taken
        above = None if self.above is None else self.above.requests_left
        if above is None:
            return left
        return above - 1 if left is None else min(left, above - 1)

    def take_request(self) -> bool:
        """Takes a request that is going to be made; False where none is left."""
        left = self.requests_left
        if left is not None and left <= 0:
            return False
        budget: Budget | None = self
        while budget is not None:
            budget.taken += 1
            budget = budget.above
        return True

    def settle(self, taken: int, usage: Usage) -> None:
        """Counts what was used by so many requests that were taken."""
        budget: Budget | None = self
        while budget is not None:
            budget.taken -= taken
            budget.used += usage
            budget = budget.above

    def take_call(self) -> int | None:
        """Counts a tool call; or else gives the limit that is reached, here or above."""
        budget: Budget | None = self
        while budget is not None:
            limit = budget.limits.tool_calls
            if limit is not None and budget.used.tool_calls >= limit:
                return limit
            budget = budget.above
        self.add_call()
        return None

    def add_call(self) -> None:
        """Counts a tool call, whatever is left: a person has approved it."""
        budget: Budget | None = self
        while budget is not None:
            made = budget.used.tool_calls + 1
            budget.used = replace(budget.used, tool_calls=made)
            budget = budget.above

    def spent(self) -> tuple[StopReason, str] | None:
        """Why no further request may be made, in a word and in words."""
        budget: Budget | None = self
        kept = 0
        while budget is not None:
            limits, used = budget.limits, budget.used
            made = used.requests + budget.taken + kept
            if limits.requests is not None and made >= limits.requests:
                return "max_requests", f"it made {self.used.requests} requests{self._told_above}"
            if limits.tokens is not None and used.total_tokens >= limits.tokens:
                return "max_tokens", f"it used {self.used.total_tokens} tokens{self._told_above}"
            budget, kept = budget.above, kept + 1
        return None

    @property
    def _told_above(self) -> str:
        return "" if self.above is None else ", and the run that asked it may have used the rest"
