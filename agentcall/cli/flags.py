"""The options that several commands have, said once: the same letters, the same words."""

from __future__ import annotations

from typing import Annotated

import typer

ModelOption = Annotated[
    str | None,
    typer.Option(
        "-m",
        "--model",
        help="lmdeploy:NAME, http://host:port/v1, http://host:port/v1#NAME or embedded; "
        "several servers of one model with commas between. "
        "Default: AGENTCALL_MODEL, else a local LMDeploy, else embedded.",
    ),
]
OtherModelOption = Annotated[
    str | None, typer.Option("-m", "--model", help="Another model than it began with.")
]
ToolsOption = Annotated[
    list[str] | None,
    typer.Option(
        "-t",
        "--tool",
        metavar="TOOL",
        help="A ready tool's name, files=FOLDER and its like, module, module:name, file.py, "
        "file.py:name, or mcp:COMMAND or mcp:URL of an MCP server. Repeatable.",
    ),
]
OtherToolsOption = Annotated[
    list[str] | None,
    typer.Option("-t", "--tool", metavar="TOOL", help="Other tools than it began with."),
]
AgentOption = Annotated[
    str | None,
    typer.Option(
        "-a", "--agent", metavar="PLACE", help="Your own Agent: module:name or file.py:name."
    ),
]
InstructionsOption = Annotated[
    str | None,
    typer.Option("-i", "--instructions", metavar="TEXT", help="What the model is told first."),
]
MaxRequestsOption = Annotated[
    int | None,
    typer.Option(
        "--max-requests", min=1, metavar="N", help="Requests to the model at most, per run."
    ),
]
HostOption = Annotated[str, typer.Option("--host", help="Where to listen.")]
PortOption = Annotated[
    int, typer.Option("--port", min=0, max=65535, help="0 takes one that is free.")
]
OriginsOption = Annotated[
    list[str] | None,
    typer.Option(
        "--origin",
        metavar="URL",
        help="A page of this origin may ask, too, such as https://chat.example. Repeatable.",
    ),
]
MaxRunningOption = Annotated[int, typer.Option("--running", min=1, help="Runs at the same time.")]
DatabaseOption = Annotated[
    str | None,
    typer.Option(
        "--db",
        metavar="URL",
        help="The journal: sqlite:///FILE or postgresql://user@host:port/name. "
        "Default: AGENTCALL_DB, else a file in the user's state folder.",
    ),
]
JSONObjectOption = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
EventsOption = Annotated[
    bool, typer.Option("--events", help="Print each event as a line of JSON as it happens.")
]
QuietOption = Annotated[
    bool, typer.Option("-q", "--quiet", help="Print the answer and errors only.")
]
