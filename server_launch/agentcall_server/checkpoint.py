"""The files of a model on disk: which there are, which are missing, how large the weights."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from agentcall_server.configuration import INNER, read_configuration
from agentcall_server.refusals import QuantizeFailed, UnknownShape

_WEIGHTS = ("*.safetensors", "pytorch_model*.bin")
_INDEXES = ("model.safetensors.index.json", "pytorch_model.bin.index.json")
_TOKENIZERS = ("tokenizer_config.json", "tokenizer.json", "tokenizer.model")


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """`size` is that of the weight files in bytes, `method` '' where nothing is quantized."""

    method: str
    size: int
    missing: tuple[str, ...]


def read_checkpoint(folder: Path) -> Checkpoint:
    """What lies in a model's folder. Raises QuantizeFailed if it is none."""
    try:
        configuration = read_configuration(folder)
    except UnknownShape as error:
        raise QuantizeFailed(str(error)) from error
    quantization = configuration.section("quantization_config")
    inner = configuration.section(*INNER)
    if quantization is None and inner is not None:
        quantization = inner.section("quantization_config")
    files = [file for pattern in _WEIGHTS for file in folder.glob(pattern)]
    missing = _missing_shards(folder)
    if not files:
        missing.append("the weights (*.safetensors)")
    if not any((folder / name).is_file() for name in _TOKENIZERS):
        missing.append("the tokenizer")
    size = sum(file.stat().st_size for file in files)
    return Checkpoint(
        quantization.word("quant_method") if quantization else "", size, tuple(missing)
    )


def _missing_shards(folder: Path) -> list[str]:
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
