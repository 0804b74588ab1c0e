"""From a launch to what a supervisor runs: the model found, the command made, its port fixed."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

from agentcall_server import tether
from agentcall_server.catalogue import lookup
from agentcall_server.chat_template import TemplateSource, prepare_chat_template
from agentcall_server.download import fetch
from agentcall_server.families import find_family
from agentcall_server.launch import Launch, resolve_model_name
from agentcall_server.launch_command import SERVE_COMMAND, build_launch_command
from agentcall_server.ledger import ServerEntry, Wanted
from agentcall_server.manual import find_lmdeploy, find_python, read_command_flags
from agentcall_server.process import require_runtime
from agentcall_server.progress import ProgressReporter


@dataclass(frozen=True, slots=True)
class CommandContext:
    """Where a command is made: the server's folder, whom to tell, and how long it may live."""

    entry: ServerEntry
    report: ProgressReporter
    ends_with_parent: bool


def build_server_command(launch: Launch, context: CommandContext) -> Wanted:
    """What is to be run. Takes seconds; downloads the embedded model if it is not here.

    Raises NoLMDeploy, BadValue, EmbeddedError, DownloadError, UnknownModel.
    """
    if launch.kind == "embedded":
        (model, command), folder = _build_embedded(launch, context), context.entry.folder
    else:
        (model, command), folder = _build_lmdeploy(launch, context), Path.cwd()
    return Wanted(
        kind=launch.kind,
        model=model,
        command=tuple(command),
        folder=str(folder),
        host=launch.host,
        port=launch.port,
        scheme=launch.scheme,
        has_key=launch.has_key,
        leashed=context.ends_with_parent,
        patience=launch.patience,
    )


def _build_lmdeploy(launch: Launch, context: CommandContext) -> tuple[str, list[str]]:
    program = find_lmdeploy(launch.lmdeploy)
    context.report.say(f"asking {program} what it takes")
    manual = read_command_flags(program, SERVE_COMMAND)
    model = resolve_model_name(launch.model)
    family, python = find_family(model), find_python(program)
    template = ""
    if not launch.has_flag("--chat-template"):
        source = TemplateSource(model, family, manual, python)
        template = prepare_chat_template(
            launch.template, source, context.entry.folder / "template", context.report
        )
    words = build_launch_command(launch, manual, family, model=model, template=template)
    return model, _build_run_command(
        program, python, words, context.entry if launch.has_key else None
    )


def _build_run_command(
    program: Path, python: Path | None, words: list[str], keyed: ServerEntry | None
) -> list[str]:
    """The command: by the program's own Python where there is one, so that the key stays hidden."""
    if python is not None:
        key_file = str(keyed.key_file) if keyed else "-"
        return [str(python), str(Path(tether.__file__).absolute()), key_file, str(program), *words]
    return [str(program), *words, *(["--api-keys", keyed.read_key()] if keyed else [])]


def _build_embedded(launch: Launch, context: CommandContext) -> tuple[str, list[str]]:
    require_runtime()
    entry = lookup(launch.model.partition(":")[2] or None)
    model = fetch(entry, report=context.report)
    command = [sys.executable, "-m", "agentcall_server.door", "--model", str(model)]
    command += ["--alias", entry.name, "--port", str(launch.port)]
    return entry.name, [*command, "--context", str(launch.context or entry.served_context)]
