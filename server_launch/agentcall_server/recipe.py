"""From a launch to what a supervisor runs: the model found, the command made, its port fixed."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

from agentcall_server import tether
from agentcall_server.catalogue import lookup
from agentcall_server.chat_template import Source, chat_template
from agentcall_server.download import fetch
from agentcall_server.families import family_of
from agentcall_server.launch import Launch, hub_name
from agentcall_server.launch_command import COMMAND, launch_command
from agentcall_server.ledger import Entry, Wanted
from agentcall_server.manual import ask_manual, find_lmdeploy, python_of
from agentcall_server.process import require_runtime
from agentcall_server.progress import Progress


@dataclass(frozen=True, slots=True)
class Kitchen:
    """Where a command is made: the server's folder, whom to tell, and how long it may live."""

    entry: Entry
    report: Progress
    leashed: bool


def cook(launch: Launch, kitchen: Kitchen) -> Wanted:
    """What is to be run. Takes seconds; downloads the embedded model if it is not here.

    Raises NoLMDeploy, BadValue, EmbeddedError, DownloadError, UnknownModel.
    """
    if launch.kind == "embedded":
        (model, command), folder = _embedded(launch, kitchen), kitchen.entry.folder
    else:
        (model, command), folder = _lmdeploy(launch, kitchen), Path.cwd()
    return Wanted(
        kind=launch.kind,
        model=model,
        command=tuple(command),
        folder=str(folder),
        host=launch.host,
        port=launch.port,
        scheme=launch.scheme,
        has_key=launch.has_key,
        leashed=kitchen.leashed,
        patience=launch.patience,
    )


def _lmdeploy(launch: Launch, kitchen: Kitchen) -> tuple[str, list[str]]:
    program = find_lmdeploy(launch.lmdeploy)
    kitchen.report.say(f"asking {program} what it takes")
    manual = ask_manual(program, COMMAND)
    model = hub_name(launch.model)
    family, python = family_of(model), python_of(program)
    template = ""
    if not launch.has("--chat-template"):
        source = Source(model, family, manual, python)
        template = chat_template(
            launch.template, source, kitchen.entry.folder / "template", kitchen.report
        )
    words = launch_command(launch, manual, family, model=model, template=template)
    return model, _run(program, python, words, kitchen.entry if launch.has_key else None)


def _run(program: Path, python: Path | None, words: list[str], keyed: Entry | None) -> list[str]:
    """The command: by the program's own Python where there is one, so that the key stays hidden."""
    if python is not None:
        key_file = str(keyed.key_file) if keyed else "-"
        return [str(python), str(Path(tether.__file__).absolute()), key_file, str(program), *words]
    return [str(program), *words, *(["--api-keys", keyed.key()] if keyed else [])]


def _embedded(launch: Launch, kitchen: Kitchen) -> tuple[str, list[str]]:
    require_runtime()
    entry = lookup(launch.model.partition(":")[2] or None)
    model = fetch(entry, report=kitchen.report)
    command = [sys.executable, "-m", "agentcall_server.door", "--model", str(model)]
    command += ["--alias", entry.name, "--port", str(launch.port)]
    return entry.name, [*command, "--context", str(launch.context or entry.served_context)]
