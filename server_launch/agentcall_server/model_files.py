"""The files of a model on disk: which there are, which are missing, how large the weights."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from agentcall_server.errors import QuantizeFailed, UnknownArchitecture
from agentcall_server.model_config import LANGUAGE_MODEL_KEYS, read_model_config

_WEIGHTS = ("*.safetensors", "pytorch_model*.bin")
_INDEXES = ("model.safetensors.index.json", "pytorch_model.bin.index.json")
_TOKENIZERS = ("tokenizer_config.json", "tokenizer.json", "tokenizer.model")


@dataclass(frozen=True, slots=True)
class ModelFiles:
    """`size` is that of the weight files in bytes, `method` '' where nothing is quantized."""

    method: str
    size: int
    missing: tuple[str, ...]


def read_model_files(folder: Path) -> ModelFiles:
    """What lies in a model's folder. Raises QuantizeFailed if it is none."""
    try:
        configuration = read_model_config(folder)
    except UnknownArchitecture as error:
        raise QuantizeFailed(str(error)) from error
    quantization = configuration.get_section("quantization_config")
    inner = configuration.get_section(*LANGUAGE_MODEL_KEYS)
    if quantization is None and inner is not None:
        quantization = inner.get_section("quantization_config")
    files = [file for pattern in _WEIGHTS for file in folder.glob(pattern)]
    missing = _find_missing_shards(folder)
    if not files:
        missing.append("the weights (*.safetensors)")
    if not any((folder / name).is_file() for name in _TOKENIZERS):
        missing.append("the tokenizer")
    size = sum(file.stat().st_size for file in files)
    return ModelFiles(
        quantization.get_str("quant_method") if quantization else "", size, tuple(missing)
    )


def _find_missing_shards(folder: Path) -> list[str]:
    """Files that an index names and that are not there."""
    named: set[str] = set()
    for index in _INDEXES:
        try:
            loaded: object = json.loads((folder / index).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        weights: object = loaded.get("weight_map") if isinstance(loaded, dict) else None  # pyright: ignore[reportUnknownVariableType, reportUnknownMemberType]
        if isinstance(weights, dict):
            named |= {str(name) for name in weights.values()}  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
    return sorted(name for name in named if not (folder / name).is_file())
