"""What a run is made of and does not change: everything that an agent decides."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from agentcall.dialects.base import PromptSpec
from agentcall.errors import UsageError
from agentcall.policy import Policy
from agentcall.runtime.checkpoint import InProcessExecutor, StepExecutor
from agentcall.runtime.output import OutputParser
from agentcall.settings import Limits
from agentcall.tools.registry import ToolRegistry
from agentcall.tools.tool import Tool

if TYPE_CHECKING:
    from agentcall.models.base import Model
    from agentcall.tools.selection import ToolFinder


@dataclass(frozen=True, slots=True, eq=False)
class AgentSpec:
    """An agent as a run sees it.

    name: what it is called in the run: its own name, or that of the tool that it is.
    agent: its own name.
    handoffs: the agents that may take the conversation over, by the name of the tool for it.
    """

    model: Model
    registry: ToolRegistry
    prompt: PromptSpec
    output: OutputParser
    limits: Limits
    steps: StepExecutor = field(default_factory=InProcessExecutor)
    policy: Policy | None = None
    finder: ToolFinder | None = None
    name: str = "agent"
    agent: str = "agent"
    handoffs: Mapping[str, Callable[[], AgentSpec]] = field(
        default_factory=dict[str, "Callable[[], AgentSpec]"]
    )

    @property
    def tools(self) -> tuple[Tool, ...]:
        """The agent's own tools and its handoffs, offered or not."""
        return self.prompt.tools if self.finder is None else self.finder.tools

    def is_trusted_tool(self, name: str) -> bool:
        """Whether this agent, or one that it hands over to, knows the tool and trusts it."""
        found = self._find_tools(name)
        return bool(found) and not any(map(_can_return_untrusted_content, found))

    def is_untrusted_tool(self, name: str) -> bool:
        """Whether a tool of this name is known that is marked untrusted."""
        return any(tool.options.untrusted for tool in self._find_tools(name))

    @property
    def can_read_untrusted_content(self) -> bool:
        """Whether any tool that the conversation can come to may bring untrusted content in."""
        return any(
            _can_return_untrusted_content(t)
            for plan in self.iter_reachable()
            for t in plan.registry
        )

    def _find_tools(self, name: str) -> list[Tool]:
        plans = self.iter_reachable() if self.handoffs else (self,)
        return [plan.registry.by_name[name] for plan in plans if name in plan.registry.by_name]

    def for_agent(self, name: str) -> AgentSpec:
        """This plan, or that of the agent of this name which the conversation may come to.

        Raises UsageError if there is none.
        """
        known: list[str] = []
        for plan in self.iter_reachable():
            if plan.name == name:
                return plan if plan is self else self.hand_over_to(plan)
            known.append(plan.name)
        raise UsageError(
            f"the result is one of the agent {name!r}, which is not among: {', '.join(known)}"
        )

    def hand_over_to(self, other: AgentSpec) -> AgentSpec:
        """The plan of another agent that goes on, within the limits of this run."""
        return replace(other, limits=self.limits, steps=self.steps)

    def iter_reachable(self) -> Iterator[AgentSpec]:
        """This plan and all that handoffs lead to, the nearest first, each name once."""
        waiting: list[AgentSpec] = [self]
        seen = {self.name}
        while waiting:
            plan = waiting.pop(0)
            yield plan
            for make in plan.handoffs.values():
                other = make()
                if other.name not in seen:
                    seen.add(other.name)
                    waiting.append(other)


def _can_return_untrusted_content(tool: Tool, above: tuple[Tool, ...] = ()) -> bool:
    """Whether the results of a tool may be untrusted; of an agent, whether a tool of its own is."""
    if tool.is_untrusted_source:
        return True
    if not tool.options.delegates or tool in above:
        return False
    plan: AgentSpec = getattr(tool.function, "get_spec")()  # noqa: B009 - `origin.Delegate`, a layer above
    tools = (own for each in plan.iter_reachable() for own in each.registry)
    return any(_can_return_untrusted_content(own, (*above, tool)) for own in tools)
