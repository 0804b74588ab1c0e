"""What LMDeploy has to be told of a model's family: its parser of calls, and to trust its code.

A model is known by its files, by the catalogue, or else by its name.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from agentcall_server.architecture import ModelArchitecture
from agentcall_server.errors import UnknownArchitecture, UnknownModelName
from agentcall_server.language_models import find_architecture
from agentcall_server.model_config import LANGUAGE_MODEL_KEYS, read_model_config

TOOL_CALL_PARSERS = {
    "internlm2": "internlm",
    "qwen2": "qwen",
    "qwen3": "qwen",
    "qwen3_moe": "qwen",
    "llama3": "llama3",
}
"""Tool-call parsers of LMDeploy 0.18.0 (serve/parsers/tool_parser) by kind of model."""
_LLAMA_3_VOCABULARY = 128256
_NAME_PATTERNS = (
    ("internlm2", r"internlm2(?!\d)"),
    ("qwen2", r"qwen2(?![\d.]*-?vl)"),
    ("qwen3", r"qwen3(?!-?vl)"),
    ("llama3", r"llama-?3"),
)
_CUSTOM_CODE_NAMES = r"internlm|internvl|deepseek|baichuan|chatglm|minicpm"


@dataclass(frozen=True, slots=True)
class ModelFamily:
    """kind: config.json's `model_type` of the language model, with Llama 3 told apart.

    own_code: it needs --trust-remote-code. sees: it takes images.
    """

    kind: str
    has_custom_code: bool
    has_vision: bool
    architecture: ModelArchitecture | None = None

    @property
    def tool_call_parser(self) -> str | None:
        """The name of LMDeploy's parser, if it has one."""
        return TOOL_CALL_PARSERS.get(self.kind)


def find_family(model: str) -> ModelFamily:
    """The family of a model: a folder, or a name that may be known or not."""
    try:
        return family_from_architecture(find_architecture(model))
    except (UnknownModelName, UnknownArchitecture):
        folder = Path(model)
        return (
            _family_from_files(folder)
            if (folder / "config.json").is_file()
            else _family_from_name(model)
        )


def family_from_architecture(architecture: ModelArchitecture) -> ModelFamily:
    """The family of a shape that is known."""
    kind = architecture.kind
    if kind == "llama" and architecture.vocabulary == _LLAMA_3_VOCABULARY:
        kind = "llama3"
    return ModelFamily(
        kind, architecture.has_custom_code, architecture.vision_parameters > 0, architecture
    )


def _family_from_files(folder: Path) -> ModelFamily:
    found = read_model_config(folder)
    inner = found.get_section(*LANGUAGE_MODEL_KEYS)
    kind = (inner or found).get_str("model_type")
    return ModelFamily(kind, "auto_map" in found.values, inner is not None)


def _family_from_name(model: str) -> ModelFamily:
    name = model.lower()
    kinds = [kind for kind, pattern in _NAME_PATTERNS if re.search(pattern, name)]
    own_code = re.search(_CUSTOM_CODE_NAMES, name) is not None
    return ModelFamily(kinds[0] if kinds else "", own_code, "vl" in name)
