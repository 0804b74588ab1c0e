"""The frozen configuration that a run uses: an `Agent` with its model and tools resolved."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from types import UnionType
from typing import (
    TYPE_CHECKING,
    Annotated,
    Any,
    Protocol,
    TypeAlias,
    TypeVar,
    Union,
    cast,
    get_args,
    get_origin,
)

from agentcall.dialects.dialect import PromptSpec
from agentcall.errors import UsageError
from agentcall.policy import Policy
from agentcall.runtime.output import OutputParser
from agentcall.settings import Limits, ModelSettings, check_settings, merge_settings
from agentcall.tools.registry import ToolRegistry
from agentcall.tools.tool import RunContext, Tool

InstructionsFunction: TypeAlias = Callable[[RunContext[Any]], str | Awaitable[str]]
"""Returns the instructions of a run; Any: the type of `deps` is the user's own."""

if TYPE_CHECKING:  # `Agent` imports this file, and a file of agents needs none of these
    from agentcall.models.model import Model
    from agentcall.result import SavedOverrides, ToolErrorHandler
    from agentcall.runtime.call_rules import CallRules
    from agentcall.runtime.checkpoint import StepExecutor
    from agentcall.runtime.compaction import CompactionStrategy
    from agentcall.runtime.hooks import HookSet
    from agentcall.tools.selection import ToolFinder

    class AgentToolFunction(Protocol):
        """The function of a tool that is an agent."""

        def get_spec(self) -> AgentSpec:
            """Return the spec of the agent."""
            ...


def _create_step_executor() -> StepExecutor:
    from agentcall.runtime.checkpoint import InProcessExecutor

    return InProcessExecutor()


@dataclass(frozen=True, slots=True, eq=False)
class AgentSpec:
    """An agent as a run sees it.

    instructions: the parts of the instructions if one of them is a function; they replace those of
        the prompt when the run begins.
    name: its name in the run: its own name, or the name of the tool that it is called as.
    agent: its own name.
    refresh: returns the spec with the tools of now; None if they do not change during a run.
    handoffs: the agents that may take the conversation over, by the names of the handoff tools.
    settings: how its model answers; those of a run replace them.
    required_deps: who needs the deps of the run, and of which type; empty if nobody does.
    rules: those that the tools declare and the required tools; None if there are none.
    overrides: the arguments with which the run changed its agent.
    hooks: the hooks and checks of the user's; None if there are none.
    first: the spec that the run began with, if it has overrides: handing back leads to it.
    compact: the rule for a conversation that is longer than the window of the model.
    """

    model: Model
    registry: ToolRegistry
    prompt: PromptSpec
    output: OutputParser
    limits: Limits
    steps: StepExecutor = field(default_factory=_create_step_executor)
    policy: Policy | None = None
    on_tool_error: ToolErrorHandler | None = None
    finder: ToolFinder | None = None
    refresh: Callable[[], Awaitable[AgentSpec]] | None = None
    instructions: tuple[str | InstructionsFunction, ...] = ()
    name: str = "agent"
    agent: str = "agent"
    handoffs: Mapping[str, Callable[[], AgentSpec]] = field(
        default_factory=dict[str, "Callable[[], AgentSpec]"]
    )
    settings: ModelSettings | None = None
    required_deps: str = ""
    rules: CallRules | None = None
    overrides: SavedOverrides | None = None
    hooks: HookSet | None = None
    first: AgentSpec | None = None
    compact: CompactionStrategy | None = None

    @property
    def tools(self) -> tuple[Tool, ...]:
        """The agent's tools and handoff tools, offered from the start or found by search."""
        return self.prompt.tools if self.finder is None else self.finder.tools

    def check_settings(self, settings: ModelSettings | None) -> None:
        """Raise UsageError for settings that do not fit this agent or one that may take over."""
        check_settings(settings)
        merged = merge_settings(self.settings, settings)
        if merged is not None:
            self._check_tool_choice(merged.tool_choice)
        for spec in self.iter_reachable() if self.handoffs else ():
            if spec.settings is not None and spec is not self:
                spec._check_tool_choice(spec.settings.tool_choice)  # noqa: SLF001 - of this class

    def check_deps(self, deps: object) -> None:
        """Raise UsageError if this agent, or one that may take over, needs deps and has none."""
        if deps is not None:
            return
        for spec in self.iter_reachable() if self.handoffs else (self,):
            if spec.required_deps:
                raise UsageError(
                    f"{spec.required_deps}, but the run has no deps; pass deps= to the run"
                )

    def _check_tool_choice(self, choice: str | None) -> None:
        if choice in (None, "auto", "none") or choice in self.registry:
            return
        if choice != "required":
            known = ", ".join(self.registry.names) or "it has no tools"
            raise UsageError(
                f"tool_choice={choice!r}: the agent {self.name!r} has no such tool ({known}); "
                'it is "auto", "none", "required", or the name of a tool'
            )
        if not self.registry:
            raise UsageError(f'tool_choice="required": the agent {self.name!r} has no tools')

    def is_trusted_tool(self, name: str) -> bool:
        """Whether a reachable agent has the tool, and its results are never untrusted."""
        found = self._find_tools(name)
        return bool(found) and not any(map(_can_return_untrusted_content, found))

    def is_untrusted_tool(self, name: str) -> bool:
        """Whether a reachable agent has a tool of this name that is marked untrusted."""
        return any(tool.options.untrusted for tool in self._find_tools(name))

    @property
    def can_read_untrusted_content(self) -> bool:
        """Whether a tool of a reachable agent may return untrusted content."""
        return any(
            _can_return_untrusted_content(tool)
            for spec in self.iter_reachable()
            for tool in spec.registry
        )

    @property
    def may_change_answers(self) -> bool:
        """Whether a hook or a check of a reachable agent may change or block an answer."""
        sets = (spec.hooks for spec in self.iter_reachable())
        return any(hooks and (hooks.after_model or hooks.checks_output) for hooks in sets)

    def _find_tools(self, name: str) -> list[Tool]:
        specs = self.iter_reachable() if self.handoffs else (self,)
        return [spec.registry.by_name[name] for spec in specs if name in spec.registry.by_name]

    def for_agent(self, name: str) -> AgentSpec:
        """Return the spec of the reachable agent of this name. Raises UsageError."""
        known: list[str] = []
        for spec in self.iter_reachable():
            if spec.name == name:
                return spec if spec is self else self.hand_over_to(spec)
            known.append(spec.name)
        raise UsageError(
            f"the result is from the agent {name!r}, which is not among: {', '.join(known)}"
        )

    def hand_over_to(self, other: AgentSpec) -> AgentSpec:
        """Return the spec of another agent that continues the run, within the limits of the run.

        The window is that of the other agent's model.
        """
        first = self if self.overrides is not None else self.first
        if first is not None and other.agent == first.agent:
            other = first
        limits = self.limits
        if limits.context != other.limits.context:
            limits = replace(limits, context=other.limits.context)
        compact = other.compact or self.compact
        first = None if other is first else first
        return replace(other, limits=limits, steps=self.steps, compact=compact, first=first)

    def iter_reachable(self) -> Iterator[AgentSpec]:
        """Yield this spec and all that handoffs lead to, the nearest first, each name once."""
        queue: list[AgentSpec] = [self]
        seen = {self.name}
        while queue:
            spec = queue.pop(0)
            yield spec
            for get_spec in spec.handoffs.values():
                other = get_spec()
                if self.first is not None and other.agent == self.first.agent:
                    other = self.first
                if other.name not in seen:
                    seen.add(other.name)
                    queue.append(other)


def check_compaction(rule: object) -> None:
    """Raise UsageError for anything but None or a `CompactionStrategy`."""
    if rule is None or (hasattr(rule, "plan_compaction") and not isinstance(rule, type)):
        return
    raise UsageError(
        f"compact={rule!r:.100} is not a rule: use Summary(keep=10) or Window(20) of "
        "agentcall.sessions"
    )


def find_required_deps(name: str, deps_type: object, tools: Iterable[Tool]) -> str:
    """Return who needs the deps of a run, and of which type; empty if nobody does."""
    if not _accepts_none(deps_type):
        return f"the agent {name!r} needs deps of the type {_format_type(deps_type)}"
    for tool in tools:
        context = None if tool.schema.context_parameter is None else tool.schema.context_type
        (declared,) = get_args(context) if get_origin(context) is RunContext else (None,)
        if not _accepts_none(declared):
            return f"the tool {tool.name} takes RunContext[{_format_type(declared)}]"
    return ""


def _accepts_none(declared: object) -> bool:
    """Whether None is of the type, or may be."""
    if declared in (None, type(None), Any, object) or isinstance(declared, (str, TypeVar)):
        return True
    if hasattr(declared, "__value__"):  # of a `type` statement
        return _accepts_none(getattr(declared, "__value__"))  # noqa: B009 - of an object
    if get_origin(declared) is Annotated:
        return _accepts_none(get_args(declared)[0])
    is_union = get_origin(declared) in (Union, UnionType)
    return is_union and any(map(_accepts_none, get_args(declared)))


def _format_type(declared: object) -> str:
    return declared.__name__ if type(declared) is type else str(declared)


def get_agent_spec(tool: Tool) -> AgentSpec | None:
    """Return the spec of the agent that a tool is; None for any other tool."""
    if not tool.options.delegates:
        return None
    return cast("AgentToolFunction", tool.function).get_spec()


def _can_return_untrusted_content(tool: Tool, above: tuple[Tool, ...] = ()) -> bool:
    """Whether the results of a tool, or of a tool of the agent that it is, may be untrusted."""
    if tool.is_untrusted_source:
        return True
    agent = None if tool in above else get_agent_spec(tool)
    if agent is None:
        return False
    tools = (own for spec in agent.iter_reachable() for own in spec.registry)
    return any(_can_return_untrusted_content(own, (*above, tool)) for own in tools)
