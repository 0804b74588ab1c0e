"""The options that several commands share, and those of `agentcall run` and `agentcall resume`.

An options class is a frozen dataclass whose fields typer reads as parameters; a command that
shares nothing has its class in its own file.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Annotated

import typer

ModelOption = Annotated[
    str | None,
    typer.Option(
        "-m",
        "--model",
        help="lmdeploy:NAME, ollama:NAME (or vllm, llamacpp, lmstudio, sglang, ...; "
        "NAME@host:port elsewhere), http://host:port/v1, http://host:port/v1#NAME or embedded; "
        "several servers of one model, separated by commas. "
        "Default: AGENTCALL_MODEL, else a local LMDeploy, else embedded.",
    ),
]
ToolsOption = Annotated[
    list[str] | None,
    typer.Option(
        "-t",
        "--tool",
        metavar="TOOL",
        help="A ready tool's name, a toolkit such as files=FOLDER, module, module:name, file.py, "
        "file.py:name, or mcp:COMMAND or mcp:URL of an MCP server. Repeatable.",
    ),
]
AgentOption = Annotated[
    str | None,
    typer.Option(
        "-a", "--agent", metavar="AGENT", help="Your own Agent: module:name or file.py:name."
    ),
]
InstructionsOption = Annotated[
    str | None,
    typer.Option("-i", "--instructions", metavar="TEXT", help="Instructions for the model."),
]
SkillsOption = Annotated[
    list[str] | None,
    typer.Option(
        "--skills",
        metavar="FOLDER",
        help="A skill, a folder with SKILL.md, or a folder of skills. Repeatable.",
    ),
]
MaxRequestsOption = Annotated[
    int | None,
    typer.Option(
        "--max-requests",
        min=1,
        metavar="N",
        help="Maximum requests to the model per run.",
    ),
]
KeepAliveOption = Annotated[
    str | None,
    typer.Option(
        "--keep-alive",
        metavar="TIME",
        help="How long the embedded model stays loaded after this command, such as 30m; 0 ends "
        "it. Default: AGENTCALL_KEEP_ALIVE, else 5m.",
    ),
]
HostOption = Annotated[str, typer.Option("--host", help="The address to listen on.")]
PortOption = Annotated[
    int, typer.Option("--port", min=0, max=65535, help="The port; 0 chooses a free one.")
]
OriginsOption = Annotated[
    list[str] | None,
    typer.Option(
        "--origin",
        metavar="URL",
        help="Also allow pages of this origin, such as https://chat.example. Repeatable.",
    ),
]
MaxRunningOption = Annotated[
    int, typer.Option("--running", min=1, help="Maximum number of runs at the same time.")
]
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
JSONArrayOption = Annotated[bool, typer.Option("--json", help="Print a JSON array.")]
JSONOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]
EventsOption = Annotated[
    bool, typer.Option("--events", help="Print each event as a line of JSON as it happens.")
]
QuietOption = Annotated[
    bool, typer.Option("-q", "--quiet", help="Print only the answer and errors.")
]
VerboseOption = Annotated[
    bool,
    typer.Option(
        "-v",
        "--verbose",
        help="Show the dialect, all thinking, complete results, and tracebacks of tools.",
    ),
]
LMDeployOption = Annotated[str | None, typer.Option(help="The `lmdeploy` program to use.")]
ServedModelOption = Annotated[
    str | None,
    typer.Option("-m", "--model", metavar="NAME", help="The model's name on that server."),
]

CallIds = list[str] | None


@dataclass(frozen=True, slots=True)
class DecisionOptions:
    """Decisions about pending calls; an id may be `all`."""

    approve: Annotated[
        CallIds, typer.Option("--approve", metavar="ID", help="Run this call. Repeatable.")
    ] = None
    always_tool: Annotated[
        CallIds,
        typer.Option(
            "--always-tool", metavar="ID", help="Run it, and every other call of its tool."
        ),
    ] = None
    always_call: Annotated[
        CallIds,
        typer.Option(
            "--always-call", metavar="ID", help="Run it, and every call with the same arguments."
        ),
    ] = None
    deny: Annotated[
        CallIds,
        typer.Option("--deny", metavar="ID[=WHY]", help="Do not run it; the model reads why."),
    ] = None
    edit: Annotated[
        CallIds,
        typer.Option(
            "--edit",
            metavar="ID=JSON",
            help="Run it with these arguments instead, or answer its question.",
        ),
    ] = None

    @property
    def has_decisions(self) -> bool:
        """Whether any decision was given."""
        return any(getattr(self, field.name) for field in fields(DecisionOptions))


@dataclass(frozen=True, slots=True)
class AgentOptions:
    """How to build the agent, and how its model answers; see `load.build_agent`."""

    model: ModelOption = None
    tools: ToolsOption = None
    agent: AgentOption = None
    instructions: InstructionsOption = None
    skills: SkillsOption = None
    max_requests: MaxRequestsOption = None
    temperature: Annotated[
        float | None,
        typer.Option(
            "--temperature",
            metavar="NUMBER",
            help="The sampling temperature; 0 takes the likeliest words.",
        ),
    ] = None
    top_p: Annotated[
        float | None,
        typer.Option(
            "--top-p",
            metavar="NUMBER",
            help="Sample from the likeliest words up to this probability.",
        ),
    ] = None
    max_tokens: Annotated[
        int | None,
        typer.Option("--max-tokens", metavar="N", help="Maximum tokens of one answer."),
    ] = None
    seed: Annotated[
        int | None, typer.Option("--seed", metavar="N", help="The seed of the sampling.")
    ] = None
    stop: Annotated[
        list[str] | None,
        typer.Option("--stop", metavar="TEXT", help="End an answer before this text. Repeatable."),
    ] = None
    tool_choice: Annotated[
        str | None,
        typer.Option(
            "--tool-choice",
            metavar="CHOICE",
            help="auto, none, required, or the tool that the model has to call first.",
        ),
    ] = None
    parallel_tool_calls: Annotated[
        bool | None,
        typer.Option(
            "--parallel-tool-calls/--no-parallel-tool-calls",
            help="Whether the model may call several tools at once.",
        ),
    ] = None
    reasoning_effort: Annotated[
        str | None,
        typer.Option("--reasoning-effort", metavar="LEVEL", help="Such as low, medium or high."),
    ] = None
    thinking: Annotated[
        bool | None,
        typer.Option(
            "--thinking/--no-thinking", help="Turn the model's thinking on or off, where it can."
        ),
    ] = None
    extra_body: Annotated[
        str | None,
        typer.Option(
            "--extra-body", metavar="JSON", help="Further fields of the requests, as an object."
        ),
    ] = None
    headers: Annotated[
        list[str] | None,
        typer.Option(
            "--header", metavar="NAME:VALUE", help="A header of the requests. Repeatable."
        ),
    ] = None
    timeout: Annotated[
        float | None,
        typer.Option("--timeout", metavar="SECONDS", help="Maximum time of one request."),
    ] = None
    keep_alive: KeepAliveOption = None


@dataclass(frozen=True, slots=True)
class LaunchOptions(AgentOptions):
    """How to build the agent, and whether to launch its server; see `cli.model_server`."""

    launch: Annotated[
        bool,
        typer.Option("--launch", help="Start the server of -m lmdeploy:NAME if it is not running."),
    ] = False


@dataclass(frozen=True, slots=True)
class AgentSessionOptions(LaunchOptions):
    """How to build the agent, and its session; see `load.open_session`."""

    session: Annotated[
        str | None,
        typer.Option("--session", metavar="ID", help="Continue or start the session of this id."),
    ] = None
    last: Annotated[bool, typer.Option("-c", "--continue", help="Continue the last session.")] = (
        False
    )


@dataclass(frozen=True, slots=True)
class RunOptions(AgentSessionOptions):
    """Options of `agentcall run`."""

    prompt: Annotated[
        str | None,
        typer.Argument(metavar="PROMPT", help="The prompt; - reads it from standard input."),
    ] = None
    images: Annotated[
        list[str] | None,
        typer.Option("--image", metavar="FILE", help="An image file or URL. Repeatable."),
    ] = None
    durable: Annotated[
        bool,
        typer.Option(
            "--durable", help="Record each step, so that `agentcall resume` can continue the run."
        ),
    ] = False
    db: DatabaseOption = None
    run_id: Annotated[
        str | None, typer.Option("--run-id", metavar="ID", help="The id of the durable run.")
    ] = None
    json: Annotated[
        bool,
        typer.Option(
            "--json",
            help="Print one JSON object: output, stop_reason, usage, tool_calls, messages.",
        ),
    ] = False
    events: EventsOption = False
    trace: Annotated[
        str | None,
        typer.Option(
            "--trace",
            metavar="FILE",
            help="Append a trace of the run to FILE: one JSON line for each request and tool call, "
            "with its duration.",
        ),
    ] = None
    trace_content: Annotated[
        bool,
        typer.Option(
            "--trace-content", help="With --trace: include messages, arguments and results."
        ),
    ] = False
    quiet: QuietOption = False
    verbose: VerboseOption = False


@dataclass(frozen=True, slots=True)
class ResumeOptions(DecisionOptions):
    """Options of `agentcall resume` and `agentcall runs resume`."""

    run_id: Annotated[
        str | None,
        typer.Argument(
            metavar="RUN", help="The run's id, or a file that holds `RunResult.to_json()`."
        ),
    ] = None
    model: Annotated[
        str | None, typer.Option("-m", "--model", help="A model other than the run's own.")
    ] = None
    tools: Annotated[
        list[str] | None,
        typer.Option("-t", "--tool", metavar="TOOL", help="Tools other than the run's own."),
    ] = None
    agent: AgentOption = None
    db: DatabaseOption = None
    json: JSONObjectOption = False
    events: EventsOption = False
    quiet: QuietOption = False
