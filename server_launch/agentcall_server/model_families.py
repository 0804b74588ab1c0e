"""The family of a model, for LMDeploy's tool-call parser and --trust-remote-code.

It is determined by the model's files, by the list of known models, or else by the name.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from agentcall_server.architecture import ModelArchitecture
from agentcall_server.errors import UnknownArchitecture, UnknownModelName
from agentcall_server.language_models import find_architecture
from agentcall_server.model_files import LANGUAGE_MODEL_KEYS, read_model_config

TOOL_CALL_PARSERS = {
    "internlm2": "internlm",
    "qwen2": "qwen",
    "qwen3": "qwen",
    "qwen3_moe": "qwen",
    "llama3": "llama3",
}
"""Tool-call parsers of LMDeploy 0.18.0 (serve/parsers/tool_parser) by `model_type`."""
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
    """One family.

    kind: `model_type` of the language model; Llama 3 is `llama3`.
    has_custom_code: the model needs --trust-remote-code. has_vision: it accepts images.
    """

    kind: str
    has_custom_code: bool
    has_vision: bool
    architecture: ModelArchitecture | None = None

    @property
    def tool_call_parser(self) -> str | None:
        """The name of LMDeploy's parser, or None."""
        return TOOL_CALL_PARSERS.get(self.kind)


def find_family(model: str) -> ModelFamily:
    """Return the family of a model: a folder or a name, known or not."""
    try:
        return family_from_architecture(find_architecture(model))
    except (UnknownModelName, UnknownArchitecture):
        folder = Path(model)
    if (folder / "config.json").is_file():
        config = read_model_config(folder)
        inner = config.get_section(*LANGUAGE_MODEL_KEYS)
        kind = (inner or config).get_str("model_type")
        return ModelFamily(kind, "auto_map" in config.values, inner is not None)
    name = model.lower()
    kinds = [kind for kind, pattern in _NAME_PATTERNS if re.search(pattern, name)]
    has_custom_code = re.search(_CUSTOM_CODE_NAMES, name) is not None
    return ModelFamily(kinds[0] if kinds else "", has_custom_code, "vl" in name)


def family_from_architecture(architecture: ModelArchitecture) -> ModelFamily:
    """Return the family of a known shape."""
    kind = architecture.kind
    if kind == "llama" and architecture.vocabulary == _LLAMA_3_VOCABULARY:
        kind = "llama3"
    has_vision = architecture.vision_parameters > 0
    return ModelFamily(kind, architecture.has_custom_code, has_vision, architecture)
