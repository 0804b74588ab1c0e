"""The options of commands that go on with a run: what is decided, and by whom it is made."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Annotated

import typer

from agentcall.cli.flags import AgentPlace, OneJson, OtherModel, OtherTools, Quiet

Ids = list[str] | None


@dataclass(frozen=True, slots=True)
class Decisions:
    """What the command line decides; an id may be `all`."""

    approve: Annotated[
        Ids, typer.Option("--approve", metavar="ID", help="Carry this call out. Repeatable.")
    ] = None
    always_tool: Annotated[
        Ids,
        typer.Option("--always-tool", metavar="ID", help="And every other call of its tool."),
    ] = None
    always_call: Annotated[
        Ids, typer.Option("--always-call", metavar="ID", help="And every call like it.")
    ] = None
    deny: Annotated[
        Ids,
        typer.Option("--deny", metavar="ID[=WHY]", help="Do not; the model is told why."),
    ] = None
    edit: Annotated[
        Ids,
        typer.Option("--edit", metavar="ID=JSON", help="Carry it out with these arguments."),
    ] = None

    @property
    def is_said(self) -> bool:
        """Whether anything was decided."""
        return any(getattr(self, field.name) for field in fields(Decisions))


@dataclass(frozen=True, slots=True)
class GoingOn(Decisions):
    """A run that goes on: with which decisions, made of what, shown how."""

    model: OtherModel = None
    tools: OtherTools = None
    agent: AgentPlace = None
    json: OneJson = False
    quiet: Quiet = False
