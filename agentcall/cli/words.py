"""What several commands are told alike: of which agent, and in which session."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import typer

from agentcall.cli.flags import (
    AgentOption,
    InstructionsOption,
    MaxRequestsOption,
    ModelOption,
    ToolsOption,
)


@dataclass(frozen=True, slots=True)
class AgentOptions:
    """Of which agent; see `making.agent_of`."""

    model: ModelOption = None
    tools: ToolsOption = None
    agent: AgentOption = None
    instructions: InstructionsOption = None
    max_requests: MaxRequestsOption = None
    launch: Annotated[
        bool,
        typer.Option("--launch", help="Start the server of -m lmdeploy:NAME if none is up."),
    ] = False


@dataclass(frozen=True, slots=True)
class AgentSessionOptions(AgentOptions):
    """Of which agent, and in which session; see `sessioned.session_of`."""

    session: Annotated[
        str | None,
        typer.Option(
            "--session", metavar="ID", help="Go on with the conversation of this id, or begin it."
        ),
    ] = None
    last: Annotated[bool, typer.Option("-c", "--continue", help="Go on with the last session.")] = (
        False
    )
