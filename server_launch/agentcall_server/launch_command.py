"""The command that launches a model, built from the flags that the installed LMDeploy has."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

from agentcall_server.chat_template import TemplateSource, prepare_chat_template
from agentcall_server.cli_flags import CommandFlags, find_lmdeploy, find_python, read_command_flags
from agentcall_server.download import fetch
from agentcall_server.embedded_models import lookup
from agentcall_server.embedded_server import require_runtime
from agentcall_server.errors import LMDeployUnavailable
from agentcall_server.launch import Launch, resolve_model_name
from agentcall_server.model_families import ModelFamily, find_family
from agentcall_server.progress import ProgressReporter
from agentcall_server.releases import infer_min_release
from agentcall_server.server_registry import ServerEntry, Wanted

_CHILD_MAIN = Path(__file__).absolute().with_name("child_main.py")
SERVE_COMMAND = ("serve", "api_server")
ALLOWED_ORIGIN = "http://127.0.0.1"
"""The origin that may send requests from a browser: LMDeploy's default is every web page."""


def build_server_command(
    launch: Launch, entry: ServerEntry, report: ProgressReporter, *, ends_with_parent: bool = False
) -> Wanted:
    """Return the task of the supervisor. Takes seconds; downloads an embedded model if needed.

    Raises LMDeployUnavailable, BadValue, EmbeddedError, DownloadError, UnknownModelName.
    """
    if launch.kind == "embedded":
        (model, command), folder = _build_embedded(launch, report), entry.folder
    else:
        (model, command), folder = _build_lmdeploy(launch, entry, report), Path.cwd()
    return Wanted(
        kind=launch.kind,
        model=model,
        command=tuple(command),
        folder=str(folder),
        host=launch.host,
        port=launch.port,
        scheme=launch.scheme,
        has_key=launch.has_key,
        leashed=ends_with_parent,
        patience=launch.patience,
    )


def _build_embedded(launch: Launch, report: ProgressReporter) -> tuple[str, list[str]]:
    require_runtime()
    model = lookup(launch.model.partition(":")[2] or None)
    file = fetch(model, report=report)
    command = [sys.executable, "-m", "agentcall_server.llama_server", "--model", str(file)]
    command += ["--alias", model.name, "--port", str(launch.port)]
    return model.name, [*command, "--context", str(launch.context or model.served_context)]


def _build_lmdeploy(
    launch: Launch, entry: ServerEntry, report: ProgressReporter
) -> tuple[str, list[str]]:
    program = find_lmdeploy(launch.lmdeploy)
    report.say(f"reading the options of {program}")
    known_flags = read_command_flags(program, SERVE_COMMAND)
    model = resolve_model_name(launch.model)
    family, python = find_family(model), find_python(program)
    template = ""
    if not launch.has_flag("--chat-template"):
        source = TemplateSource(model, family, known_flags, python)
        template = prepare_chat_template(
            launch.template, source, entry.folder / "template", report.say
        )
    arguments = build_launch_command(launch, known_flags, family, model=model, template=template)
    if python is None:  # not a script of Python, so the key cannot be kept out of the command line
        key = ["--api-keys", entry.read_key()] if launch.has_key else []
        return model, [str(program), *arguments, *key]
    key_file = str(entry.key_file) if launch.has_key else "-"
    return model, [str(python), str(_CHILD_MAIN), key_file, str(program), *arguments]


def build_launch_command(
    launch: Launch, known_flags: CommandFlags, family: ModelFamily, *, model: str, template: str
) -> list[str]:
    """Return the arguments after `lmdeploy`, with `--chat-template` unless `template` is empty."""
    _check_flags(launch, known_flags)
    builder = _FlagBuilder(launch, known_flags)
    stored = family.architecture.stored_scheme if family.architecture else "16"
    required = {
        "--server-name": launch.host,
        "--server-port": str(launch.port),
        "--backend": launch.backend,
        "--cache-max-entry-count": "" if launch.cache is None else f"{launch.cache:g}",
        "--session-len": "" if launch.context is None else str(launch.context),
        "--quant-policy": str(launch.kv_bits) if launch.kv_bits != 16 else "",
        "--tp": str(launch.tp) if launch.tp > 1 else "",
        # smooth_quant is read from config.json: --model-format has no name for it
        "--model-format": stored if stored in ("awq", "gptq", "fp8") else "",
    }
    arguments = [*SERVE_COMMAND, model]
    for flag, value in required.items():
        arguments += builder.build_required(flag, value) if value else []
    arguments += builder.build_optional("--allow-origins", ALLOWED_ORIGIN)
    scaling = None
    if family.architecture and launch.context:
        scaling = family.architecture.plan_rope_scaling(
            launch.context, infer_min_release(known_flags)
        )
    # past the trained length a block's keys depend on the session's length, so none is shared
    if scaling is None or scaling.kind != "dynamic":
        arguments += builder.build_optional("--enable-prefix-caching")
    if scaling is not None:
        for flag, value in zip(scaling.flags[::2], scaling.flags[1::2], strict=True):
            arguments += builder.build_optional(flag, value)
    if family.tool_call_parser:
        arguments += builder.build_optional("--tool-call-parser", family.tool_call_parser)
    if template:
        arguments += builder.build_required("--chat-template", template)
    if family.has_custom_code:  # before 0.13 there is no such flag, and the code is always trusted
        arguments += builder.build_optional("--trust-remote-code")
    return [*arguments, *launch.flags]


@dataclass(frozen=True, slots=True)
class _FlagBuilder:
    """Builds flags, except those that the user gave."""

    launch: Launch
    known_flags: CommandFlags

    def build_required(self, flag: str, value: str) -> list[str]:
        """Return a flag that an option needs. Raises LMDeployUnavailable if there is none."""
        if self.launch.has_flag(flag):
            return []
        if flag not in self.known_flags:
            raise LMDeployUnavailable(
                f"the installed LMDeploy has no {flag}, which is needed for {value}; leave that "
                f"option out, or update LMDeploy"
            )
        choices = self.known_flags[flag].choices
        if choices and value not in choices:
            raise LMDeployUnavailable(
                f"{flag} {value}: the installed LMDeploy has {', '.join(choices)}"
            )
        return [flag, value]

    def build_optional(self, flag: str, *values: str) -> list[str]:
        """Return a flag if this release has it."""
        return [] if self.launch.has_flag(flag) or flag not in self.known_flags else [flag, *values]


def _check_flags(launch: Launch, known_flags: CommandFlags) -> None:
    """Reject a flag that LMDeploy would reject, before anything is loaded."""
    for word in launch.flags:
        flag = word.partition("=")[0]
        if not flag.startswith("--") or any(known.startswith(flag) for known in known_flags.names):
            continue
        near = get_close_matches(flag, known_flags.names, 1)
        hint = (
            f"did you mean {near[0]}?"
            if near
            else f"`lmdeploy {known_flags.command} --help` lists its flags"
        )
        raise LMDeployUnavailable(f"the installed LMDeploy has no {flag}; {hint}")
