"""The options of a server to launch: its model, its address and its limits."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from agentcall_server.errors import BadValue
from agentcall_server.language_models import ARCHITECTURES
from agentcall_server.ports import is_loopback
from agentcall_server.quantized_models import load_quantized_models

ServerKind = Literal["lmdeploy", "embedded"]
LOOPBACK = "127.0.0.1"
LMDEPLOY_PORT = 23333
"""LMDeploy's default port."""
_NAME_PATTERN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_RENAMED_FLAGS = {"--server-name": "--host", "--server-port": "--port"}


@dataclass(frozen=True, slots=True)
class Launch:
    """One server. A value of None or '' leaves the choice to LMDeploy or to the launcher.

    model: a folder, a name on the hub, a name of `agentcall server plan`, or `embedded[:NAME]`.
    name: the name of the server; by default the last part of the model.
    port: 0 takes any free one.
    protected: require an API key; always the case if `host` is reachable from other machines.
    cache: --cache-max-entry-count. context: --session-len, in tokens. kv_bits: 16, 8 or 4.
    template: `auto` gives InternLM2.5 a chat template that renders tools, `none` keeps the model's
        own; else a file (.json or .jinja), or a name that LMDeploy knows.
    lmdeploy: the program; by default the one beside this Python or on PATH.
    patience: seconds until it must be ready.
    flags: further arguments of LMDeploy, which take precedence over the other options.
    """

    model: str
    name: str = ""
    host: str = LOOPBACK
    port: int = 0
    protected: bool = False
    backend: str = ""
    cache: float | None = None
    context: int | None = None
    kv_bits: int = 16
    tp: int = 1
    template: str = "auto"
    lmdeploy: str | None = None
    patience: float = 3600.0
    flags: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for find_problem in (_find_name_problem, _find_number_problem, _find_flag_problem):
            if problem := find_problem(self):
                raise BadValue(problem)

    @property
    def kind(self) -> ServerKind:
        return "embedded" if self.model.partition(":")[0] == "embedded" else "lmdeploy"

    @property
    def short_name(self) -> str:
        """The model's name without its owner or folder."""
        if self.kind == "embedded":
            name = Path(self.model.partition(":")[2]).stem
            return f"embedded-{name}" if name else "embedded"
        return Path(self.model.rstrip("/")).name

    @property
    def has_key(self) -> bool:
        """Whether the server requires an API key."""
        return self.protected or not is_loopback(self.host)

    @property
    def scheme(self) -> str:
        return "https" if "--ssl" in self.flags else "http"

    def has_flag(self, flag: str) -> bool:
        """Return whether `flags` contains the flag."""
        return any(word.partition("=")[0] == flag for word in self.flags)

    @property
    def default_name(self) -> str:
        """The name of the server if none is given."""
        return re.sub(r"[^A-Za-z0-9._-]+", "-", self.short_name).strip(".-") or "server"


def resolve_paths(launch: Launch) -> Launch:
    """Return the launch with absolute paths."""
    folder, template = Path(launch.model).expanduser(), Path(launch.template).expanduser()
    program = launch.lmdeploy
    return replace(
        launch,
        model=str(folder.absolute()) if folder.is_dir() else launch.model,
        template=str(template.absolute()) if template.is_file() else launch.template,
        lmdeploy=str(Path(program).absolute()) if program and "/" in program else program,
    )


def resolve_model_name(model: str) -> str:
    """Return the folder or the full name of a model that may be given by a known short name.

    >>> resolve_model_name("internlm2_5-7b-chat")
    'internlm/internlm2_5-7b-chat'
    """
    folder = Path(model).expanduser()
    if folder.is_dir():
        return str(folder.absolute())
    if (quantized := load_quantized_models().get(model)) is not None:
        return str(quantized)
    for known in ARCHITECTURES:
        if model.lower() == known.name.rpartition("/")[2].lower():
            return known.name
    return model


def _find_name_problem(launch: Launch) -> str:
    if not launch.model.strip():
        return "there is no model to launch; give a folder, a name on the hub, or embedded"
    if launch.name and not _NAME_PATTERN.fullmatch(launch.name):
        return f"--name {launch.name!r}: use letters, digits, dots, dashes and underscores"
    if launch.kind == "embedded" and not is_loopback(launch.host):
        return f"--host {launch.host}: the embedded model is served to this machine only"
    if launch.kind == "embedded" and launch.flags:
        return (
            f"{launch.flags[0]}: arguments after -- are for LMDeploy, which does not serve "
            f"{launch.model}"
        )
    return ""


def _find_number_problem(launch: Launch) -> str:
    if not 0 <= launch.port <= 65535:
        return f"--port {launch.port}: a port is between 1 and 65535; 0 takes any free one"
    if launch.cache is not None and not 0 < launch.cache < 1:
        return f"--cache {launch.cache:g}: give a share of the free memory, between 0 and 1"
    if launch.kv_bits not in (16, 8, 4):
        return f"--kv {launch.kv_bits}: give 16, int8 or int4"
    if launch.tp < 1 or (launch.context is not None and launch.context < 1):
        return "--tp and --context are at least 1"
    if launch.patience <= 0:
        return f"--patience {launch.patience:g}: give seconds, above 0"
    return ""


def _find_flag_problem(launch: Launch) -> str:
    for word in launch.flags:
        flag = word.partition("=")[0]
        if flag in _RENAMED_FLAGS:
            return f"{flag}: use {_RENAMED_FLAGS[flag]} instead, before the --"
        if flag == "--api-keys":
            return (
                "a key on a command line is visible to everybody on this machine; replace "
                "--api-keys by --api-key, which creates a key in a file that you may edit"
            )
    if launch.flags and not launch.flags[0].startswith("-"):
        return f"{launch.flags[0]!r} is not a flag of LMDeploy; one model is launched at a time"
    return ""
