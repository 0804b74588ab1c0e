"""What several commands are told alike: of which agent, and in which session."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import typer


@dataclass(frozen=True, slots=True)
class AgentOptions:
    """Of which agent; see `making.agent_of`."""

    model: Annotated[
        str | None,
        typer.Option(
            "-m",
            "--model",
            help="lmdeploy:NAME, http://host:port/v1, http://host:port/v1#NAME or embedded; "
            "several servers of one model with commas between. "
            "Default: AGENTCALL_MODEL, else a local LMDeploy, else embedded.",
        ),
    ] = None
    tools: Annotated[
        list[str] | None,
        typer.Option(
            "-t",
            "--tool",
            metavar="TOOL",
            help="A ready tool's name, files=FOLDER and its like, module, module:name, file.py, "
            "file.py:name, or mcp:COMMAND or mcp:URL of an MCP server. Repeatable.",
        ),
    ] = None
    agent: Annotated[
        str | None,
        typer.Option(
            "-a", "--agent", metavar="PLACE", help="Your own Agent: module:name or file.py:name."
        ),
    ] = None
    instructions: Annotated[
        str | None,
        typer.Option("-i", "--instructions", metavar="TEXT", help="What the model is told first."),
    ] = None
    max_requests: Annotated[
        int | None,
        typer.Option(
            "--max-requests", min=1, metavar="N", help="Requests to the model at most, for a run."
        ),
    ] = None
    launch: Annotated[
        bool,
        typer.Option("--launch", help="Start the server of -m lmdeploy:NAME if none is up."),
    ] = False


@dataclass(frozen=True, slots=True)
class TalkOptions(AgentOptions):
    """Of which agent, and in which session; see `running.session_of`."""

    session: Annotated[
        str | None,
        typer.Option(
            "--session", metavar="ID", help="Go on with the conversation of this id, or begin it."
        ),
    ] = None
    last: Annotated[bool, typer.Option("-c", "--continue", help="Go on with the last session.")] = (
        False
    )
