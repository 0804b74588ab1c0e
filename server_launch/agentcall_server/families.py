"""What LMDeploy has to be told of a model's family: its parser of calls, and to trust its code.

A model is known by its files, by the catalogue, or else by its name.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from agentcall_server.architecture import Architecture
from agentcall_server.configuration import INNER, read_configuration
from agentcall_server.errors import UnknownModel
from agentcall_server.language_models import find_architecture
from agentcall_server.refusals import UnknownShape

PARSERS = {
    "internlm2": "internlm",
    "qwen2": "qwen",
    "qwen3": "qwen",
    "qwen3_moe": "qwen",
    "llama3": "llama3",
}
"""Tool-call parsers of LMDeploy 0.18.0 (serve/parsers/tool_parser) by kind of model."""
_LLAMA_3_VOCABULARY = 128256
_NAMES = (
    ("internlm2", r"internlm2(?!\d)"),
    ("qwen2", r"qwen2(?![\d.]*-?vl)"),
    ("qwen3", r"qwen3(?!-?vl)"),
    ("llama3", r"llama-?3"),
)
_WITH_OWN_CODE = r"internlm|internvl|deepseek|baichuan|chatglm|minicpm"


@dataclass(frozen=True, slots=True)
class Family:
    """kind: config.json's `model_type` of the language model, with Llama 3 told apart.

    own_code: it needs --trust-remote-code. sees: it takes images.
    """

    kind: str
    own_code: bool
    sees: bool
    architecture: Architecture | None = None

    @property
    def parser(self) -> str | None:
        """The name of LMDeploy's parser, if it has one."""
        return PARSERS.get(self.kind)


def family_of(model: str) -> Family:
    """The family of a model: a folder, or a name that may be known or not."""
    try:
        return of_architecture(find_architecture(model))
    except (UnknownModel, UnknownShape):
        folder = Path(model)
        return _by_files(folder) if (folder / "config.json").is_file() else _by_name(model)


def of_architecture(architecture: Architecture) -> Family:
    """The family of a shape that is known."""
    kind = architecture.kind
    if kind == "llama" and architecture.vocabulary == _LLAMA_3_VOCABULARY:
        kind = "llama3"
    return Family(kind, architecture.own_code, architecture.vision > 0, architecture)


def _by_files(folder: Path) -> Family:
    found = read_configuration(folder)
    inner = found.section(*INNER)
    kind = (inner or found).word("model_type")
    return Family(kind, "auto_map" in found.values, inner is not None)


def _by_name(model: str) -> Family:
    name = model.lower()
    kinds = [kind for kind, pattern in _NAMES if re.search(pattern, name)]
    own_code = re.search(_WITH_OWN_CODE, name) is not None
    return Family(kinds[0] if kinds else "", own_code, "vl" in name)
