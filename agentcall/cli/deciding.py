"""The options of commands that go on with a run: what is decided, and by whom it is made."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Annotated

import typer

from agentcall.cli.flags import (
    AgentOption,
    JSONObjectOption,
    OtherModelOption,
    OtherToolsOption,
    QuietOption,
)

CallIds = list[str] | None


@dataclass(frozen=True, slots=True)
class DecisionOptions:
    """What the command line decides; an id may be `all`."""

    approve: Annotated[
        CallIds, typer.Option("--approve", metavar="ID", help="Carry this call out. Repeatable.")
    ] = None
    always_tool: Annotated[
        CallIds,
        typer.Option("--always-tool", metavar="ID", help="And every other call of its tool."),
    ] = None
    always_call: Annotated[
        CallIds, typer.Option("--always-call", metavar="ID", help="And every call like it.")
    ] = None
    deny: Annotated[
        CallIds,
        typer.Option("--deny", metavar="ID[=WHY]", help="Do not; the model is told why."),
    ] = None
    edit: Annotated[
        CallIds,
        typer.Option("--edit", metavar="ID=JSON", help="Carry it out with these arguments."),
    ] = None

    @property
    def has_decisions(self) -> bool:
        """Whether anything was decided."""
        return any(getattr(self, field.name) for field in fields(DecisionOptions))


@dataclass(frozen=True, slots=True)
class CommonResumeOptions(DecisionOptions):
    """A run that goes on: with which decisions, made of what, shown how."""

    model: OtherModelOption = None
    tools: OtherToolsOption = None
    agent: AgentOption = None
    json: JSONObjectOption = False
    quiet: QuietOption = False
