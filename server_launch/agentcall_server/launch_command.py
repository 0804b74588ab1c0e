"""The command line that launches a model, of the flags that the installed LMDeploy has.

From a launch to what a supervisor runs: the model found, the command made, its port fixed.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

from agentcall_server import child_main
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
from agentcall_server.rope import ContextExtension, RopeScaling
from agentcall_server.server_registry import ServerEntry, Wanted

SERVE_COMMAND = ("serve", "api_server")
_KV_POLICIES = {8: "8", 4: "4"}
ALLOWED_ORIGIN = "http://127.0.0.1"
"""The origin that may ask from a browser: LMDeploy lets every web page do so by default."""


@dataclass(frozen=True, slots=True)
class FlagBuilder:
    """Collects words; a flag that the user wrote himself is his."""

    launch: Launch
    known_flags: CommandFlags

    def build_required(self, flag: str, value: str) -> list[str]:
        """What the user asked for. Raises NoLMDeploy where this release cannot do it."""
        if self.launch.has_flag(flag):
            return []
        if flag not in self.known_flags:
            raise LMDeployUnavailable(
                f"the installed LMDeploy takes no {flag}, which {value} would be given with; "
                f"leave that option out, or update LMDeploy"
            )
        choices = self.known_flags[flag].choices
        if choices and value not in choices:
            raise LMDeployUnavailable(
                f"{flag} {value}: the installed LMDeploy has {', '.join(choices)}"
            )
        return [flag, value]

    def build_optional(self, flag: str, *values: str) -> list[str]:
        """What is of use where this release has it."""
        return [] if self.launch.has_flag(flag) or flag not in self.known_flags else [flag, *values]


def build_launch_command(
    launch: Launch, known_flags: CommandFlags, family: ModelFamily, *, model: str, template: str
) -> list[str]:
    """The words after `lmdeploy`; the port is that of the launch. Raises NoLMDeploy.

    `model` is a folder or a name on the hub, `template` what `--chat-template` gets, or ''.
    """
    _check_flags(launch, known_flags)
    words = FlagBuilder(launch, known_flags)
    stretch = _plan_rope_scaling(launch, known_flags, family)
    return [
        *SERVE_COMMAND,
        model,
        *words.build_required("--server-name", launch.host),
        *words.build_required("--server-port", str(launch.port)),
        *words.build_optional("--allow-origins", ALLOWED_ORIGIN),
        *_build_size_flags(words),
        *_build_format_flags(words, family),
        *_build_rope_flags(words, stretch),
        *_build_tool_flags(words, family, template),
        *launch.flags,
    ]


def _build_size_flags(builder: FlagBuilder) -> list[str]:
    launch = builder.launch
    wanted = {
        "--backend": launch.backend,
        "--cache-max-entry-count": "" if launch.cache is None else f"{launch.cache:g}",
        "--session-len": "" if launch.context is None else str(launch.context),
        "--quant-policy": _KV_POLICIES.get(launch.kv_bits, ""),
        "--tp": str(launch.tp) if launch.tp > 1 else "",
    }
    return [
        word
        for flag, value in wanted.items()
        if value
        for word in builder.build_required(flag, value)
    ]


def _build_format_flags(builder: FlagBuilder, family: ModelFamily) -> list[str]:
    stored = family.architecture.stored_scheme if family.architecture else "16"
    # smooth_quant is read from config.json: --model-format has no name for it
    return (
        builder.build_required("--model-format", stored) if stored in ("awq", "gptq", "fp8") else []
    )


def _plan_rope_scaling(
    launch: Launch, known_flags: CommandFlags, family: ModelFamily
) -> RopeScaling | None:
    """How sessions past the trained length are served, where such were asked for."""
    shape = family.architecture
    if shape is None or launch.context is None:
        return None
    longer = ContextExtension(
        shape.rope, shape.kind, shape.head_dim, shape.trained_length, launch.context
    )
    return longer.plan_scaling(infer_min_release(known_flags))


def _build_rope_flags(builder: FlagBuilder, scaling: RopeScaling | None) -> list[str]:
    # past the trained length a block's keys depend on the session's length, so none is shared
    is_shared = scaling is None or scaling.kind != "dynamic"
    found = builder.build_optional("--enable-prefix-caching") if is_shared else []
    pairs = zip(scaling.flags[::2], scaling.flags[1::2], strict=True) if scaling else ()
    return [
        *found,
        *(word for flag, value in pairs for word in builder.build_optional(flag, value)),
    ]


def _build_tool_flags(builder: FlagBuilder, family: ModelFamily, template: str) -> list[str]:
    found = (
        builder.build_optional("--tool-call-parser", family.tool_call_parser)
        if family.tool_call_parser
        else []
    )
    if template:
        found += builder.build_required("--chat-template", template)
    # before 0.13 there is no such flag, and the code is always trusted
    return [
        *found,
        *(builder.build_optional("--trust-remote-code") if family.has_custom_code else []),
    ]


def _check_flags(launch: Launch, known_flags: CommandFlags) -> None:
    """Refuse a flag that LMDeploy would refuse, before anything is loaded."""
    for word in launch.flags:
        flag = word.partition("=")[0]
        if not flag.startswith("--") or any(known.startswith(flag) for known in known_flags.names):
            continue
        near = get_close_matches(flag, known_flags.names, 1)
        hint = (
            f"did you mean {near[0]}?" if near else f"`lmdeploy {known_flags.command} --help` lists"
        )
        raise LMDeployUnavailable(
            f"the installed LMDeploy takes no {flag}; {hint}{'' if near else ' what it takes'}"
        )


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
        return [
            str(python),
            str(Path(child_main.__file__).absolute()),
            key_file,
            str(program),
            *words,
        ]
    return [str(program), *words, *(["--api-keys", keyed.read_key()] if keyed else [])]


def _build_embedded(launch: Launch, context: CommandContext) -> tuple[str, list[str]]:
    require_runtime()
    entry = lookup(launch.model.partition(":")[2] or None)
    model = fetch(entry, report=context.report)
    command = [sys.executable, "-m", "agentcall_server.llama_server", "--model", str(model)]
    command += ["--alias", entry.name, "--port", str(launch.port)]
    return entry.name, [*command, "--context", str(launch.context or entry.served_context)]
