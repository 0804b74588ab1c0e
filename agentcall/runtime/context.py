"""Where a run begins, and what it hands down to the runs of agents that are its tools."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, Protocol

from agentcall.approvals import ApprovalRule, FinalDecision
from agentcall.events import Emit
from agentcall.messages import Message, Usage
from agentcall.result import PausedAgentCall, PendingCall, RunResult
from agentcall.runtime.budget import Budget
from agentcall.runtime.checkpoint import StepExecutor
from agentcall.runtime.hooks import Instrumentation, get_instrumentation
from agentcall.runtime.spec import AgentSpec
from agentcall.workers.invoke import ControlFlowSignal


@dataclass(frozen=True, slots=True, eq=False)
class RunInput:
    """Where a run begins: the conversation, its new part, and what the tools depend on.

    A run that is resumed brings what waited, what was decided, what it had used, and the name of
    the `agent` that goes on. `paused` are its calls of agents that wait themselves; `children` are
    those that go on, by call id. `spent` are the seconds that it had taken.
    """

    run_id: str
    messages: Sequence[Message]
    start: int
    deps: object = None
    pending: tuple[PendingCall, ...] = ()
    decisions: Mapping[str, FinalDecision] = field(default_factory=dict[str, FinalDecision])
    usage: Usage = field(default_factory=Usage)
    turns: int = 0
    agent: str = ""
    approval_rules: tuple[ApprovalRule, ...] = ()
    paused: tuple[PausedAgentCall, ...] = ()
    children: Mapping[str, RunInput] = field(default_factory=dict[str, "RunInput"])
    parent: RunScope | None = None
    elapsed_seconds: float = 0.0


@dataclass(frozen=True, slots=True, eq=False)
class RunScope:
    """What a run hands down to an agent that is one of its tools.

    path: the names of the agents down to this run, joined by slashes.
    asker: the own name of the agent of this run, which as a tool may be called otherwise.
    children: where those begin that were paused and go on, by call id.
    """

    path: str
    depth: int
    steps: StepExecutor
    budget: Budget
    emit: Emit | None = None
    approval_rules: tuple[ApprovalRule, ...] = ()
    children: Mapping[str, RunInput] = field(default_factory=dict[str, RunInput])
    instrumentation: Instrumentation | None = None
    own_name: str = ""

    @property
    def agent(self) -> str:
        """The name of the agent of this run."""
        return self.path.rpartition("/")[2]

    def sibling_path(self, name: str) -> str:
        """The path of another agent in the same place."""
        return "/".join([*self.path.split("/")[:-1], name])


def create_scope(spec: AgentSpec, run_input: RunInput, emit: Emit | None) -> RunScope:
    """What a run of this plan hands down."""
    parent = run_input.parent
    return RunScope(
        path=spec.name if parent is None else f"{parent.path}/{spec.name}",
        depth=0 if parent is None else parent.depth + 1,
        steps=spec.steps,
        budget=Budget(spec.limits, run_input.usage, None if parent is None else parent.budget),
        emit=emit,
        approval_rules=run_input.approval_rules,
        children=run_input.children,
        instrumentation=get_instrumentation() if parent is None else parent.instrumentation,
        own_name=spec.agent,
    )


current_scope: ContextVar[RunScope | None] = ContextVar("lineage", default=None)
"""The run in which a tool that is an agent is called; None outside of any."""


class AgentRunPaused(ControlFlowSignal):
    """The agent's own run waits for approval."""

    def __init__(self, result: RunResult[Any]) -> None:  # Any: the output is not there yet
        super().__init__("the run waits for approval")
        self.result = result


class AgentRunFailed(ControlFlowSignal):
    """The agent's own run raised what ends the run above too: its program has to change."""

    def __init__(self, error: Exception) -> None:
        super().__init__(str(error))
        self.error = error


class AgentToolFunction(Protocol):
    """The function of a tool that is an agent."""

    def get_spec(self) -> AgentSpec:
        """The agent's plan."""
        ...
