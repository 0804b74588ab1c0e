"""What a run is made of and does not change: everything that an agent decides."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from agentcall.dialects.protocol import Offer
from agentcall.errors import UsageError
from agentcall.limits import Limits
from agentcall.output import OutputReader
from agentcall.policy import Policy
from agentcall.registry import ToolRegistry
from agentcall.steps import Direct, Steps
from agentcall.tool import Tool

if TYPE_CHECKING:
    from agentcall.models.protocol import Model
    from agentcall.shortlist import Finder


@dataclass(frozen=True, slots=True, eq=False)
class Plan:
    """An agent as a run sees it.

    name: what it is called in the run: its own name, or that of the tool that it is.
    agent: its own name.
    handoffs: the agents that may take the conversation over, by the name of the tool for it.
    """

    model: Model
    registry: ToolRegistry
    offer: Offer
    output: OutputReader
    limits: Limits
    steps: Steps = field(default_factory=Direct)
    policy: Policy | None = None
    finder: Finder | None = None
    name: str = "agent"
    agent: str = "agent"
    handoffs: Mapping[str, Callable[[], Plan]] = field(
        default_factory=dict[str, "Callable[[], Plan]"]
    )

    @property
    def tools(self) -> tuple[Tool, ...]:
        """The agent's own tools and its handoffs, offered or not."""
        return self.offer.tools if self.finder is None else self.finder.tools

    def trusts(self, name: str) -> bool:
        """Whether this agent, or one that it hands over to, knows the tool and trusts it."""
        found = self._tools_named(name)
        return bool(found) and not any(map(_may_be_untrusted, found))

    def is_untrusted(self, name: str) -> bool:
        """Whether a tool of this name is known that is marked untrusted."""
        return any(tool.marks.untrusted for tool in self._tools_named(name))

    @property
    def reads_untrusted(self) -> bool:
        """Whether any tool that the conversation can come to may bring untrusted content in."""
        return any(_may_be_untrusted(t) for plan in self.reachable() for t in plan.registry)

    def _tools_named(self, name: str) -> list[Tool]:
        plans = self.reachable() if self.handoffs else (self,)
        return [plan.registry.by_name[name] for plan in plans if name in plan.registry.by_name]

    def of(self, name: str) -> Plan:
        """This plan, or that of the agent of this name which the conversation may come to.

        Raises UsageError if there is none.
        """
        known: list[str] = []
        for plan in self.reachable():
            if plan.name == name:
                return plan if plan is self else self.handed_to(plan)
            known.append(plan.name)
        raise UsageError(
            f"the result is one of the agent {name!r}, which is not among: {', '.join(known)}"
        )

    def handed_to(self, other: Plan) -> Plan:
        """The plan of another agent that goes on, within the limits of this run."""
        return replace(other, limits=self.limits, steps=self.steps)

    def reachable(self) -> Iterator[Plan]:
        """This plan and all that handoffs lead to, the nearest first, each name once."""
        waiting: list[Plan] = [self]
        seen = {self.name}
        while waiting:
            plan = waiting.pop(0)
            yield plan
            for make in plan.handoffs.values():
                other = make()
                if other.name not in seen:
                    seen.add(other.name)
                    waiting.append(other)


def _may_be_untrusted(tool: Tool, above: tuple[Tool, ...] = ()) -> bool:
    """Whether the results of a tool may be untrusted; of an agent, whether a tool of its own is."""
    if tool.may_be_untrusted:
        return True
    if not tool.marks.delegates or tool in above:
        return False
    plan: Plan = getattr(tool.function, "plan")()  # noqa: B009 - `origin.Delegate`, a layer above
    tools = (own for each in plan.reachable() for own in each.registry)
    return any(_may_be_untrusted(own, (*above, tool)) for own in tools)
