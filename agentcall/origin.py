"""Where a run begins, and what it hands down to the runs of agents that are its tools."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, Protocol

from agentcall.approval import Verdict
from agentcall.budget import Budget
from agentcall.events import Emit
from agentcall.grants import Grant
from agentcall.messages import Message, Usage
from agentcall.outcome import Through
from agentcall.plan import Plan
from agentcall.result import Paused, PendingCall, RunResult
from agentcall.steps import Steps
from agentcall.watch import Watcher, watching


@dataclass(frozen=True, slots=True, eq=False)
class Origin:
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
    verdicts: Mapping[str, Verdict] = field(default_factory=dict[str, Verdict])
    usage: Usage = field(default_factory=Usage)
    turns: int = 0
    agent: str = ""
    grants: tuple[Grant, ...] = ()
    paused: tuple[Paused, ...] = ()
    children: Mapping[str, Origin] = field(default_factory=dict[str, "Origin"])
    above: Lineage | None = None
    spent: float = 0.0


@dataclass(frozen=True, slots=True, eq=False)
class Lineage:
    """What a run hands down to an agent that is one of its tools.

    path: the names of the agents down to this run, joined by slashes.
    asker: the own name of the agent of this run, which as a tool may be called otherwise.
    children: where those begin that were paused and go on, by call id.
    """

    path: str
    depth: int
    steps: Steps
    budget: Budget
    emit: Emit | None = None
    grants: tuple[Grant, ...] = ()
    children: Mapping[str, Origin] = field(default_factory=dict[str, Origin])
    watcher: Watcher | None = None
    asker: str = ""

    @property
    def agent(self) -> str:
        """The name of the agent of this run."""
        return self.path.rpartition("/")[2]

    def beside(self, name: str) -> str:
        """The path of another agent in the same place."""
        return "/".join([*self.path.split("/")[:-1], name])


def lineage_of(plan: Plan, origin: Origin, emit: Emit | None) -> Lineage:
    """What a run of this plan hands down."""
    above = origin.above
    return Lineage(
        path=plan.name if above is None else f"{above.path}/{plan.name}",
        depth=0 if above is None else above.depth + 1,
        steps=plan.steps,
        budget=Budget(plan.limits, origin.usage, None if above is None else above.budget),
        emit=emit,
        grants=origin.grants,
        children=origin.children,
        watcher=watching() if above is None else above.watcher,
        asker=plan.agent,
    )


lineage: ContextVar[Lineage | None] = ContextVar("lineage", default=None)
"""The run in which a tool that is an agent is called; None outside of any."""


class Pause(Through):
    """The agent's own run waits for approval."""

    def __init__(self, result: RunResult[Any]) -> None:  # Any: the output is not there yet
        super().__init__("the run waits for approval")
        self.result = result


class Raised(Through):
    """The agent's own run raised what ends the run above too: its program has to change."""

    def __init__(self, error: Exception) -> None:
        super().__init__(str(error))
        self.error = error


class Delegate(Protocol):
    """The function of a tool that is an agent."""

    def plan(self) -> Plan:
        """The agent's plan."""
        ...
