"""The files of a model's folder: its config.json, its weights and what is missing.

A config.json is read with typed access to values that may be missing, nested or renamed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from agentcall_server.errors import UnknownArchitecture

LANGUAGE_MODEL_KEYS = ("llm_config", "text_config", "language_config")
"""Keys under which a vision model has the configuration of its language model."""
_WEIGHTS = ("*.safetensors", "pytorch_model*.bin")
_INDEXES = ("model.safetensors.index.json", "pytorch_model.bin.index.json")
_TOKENIZERS = ("tokenizer_config.json", "tokenizer.json", "tokenizer.model")


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """The object of a config.json; `name` is used in error messages."""

    values: Mapping[str, object]
    name: str

    def get_section(self, *keys: str) -> ModelConfig | None:
        """Return the first of these values that is an object."""
        for key in keys:
            value = self.values.get(key)
            if isinstance(value, Mapping):
                return ModelConfig(cast("Mapping[str, object]", value), f"{self.name}: {key}")
        return None

    def get_int(self, key: str, default: int | None = None) -> int:
        """Return an integer. Raises UnknownArchitecture if it is missing without a default."""
        value = self.values.get(key)
        if value is None and default is not None:
            return default
        if isinstance(value, bool) or not isinstance(value, (int, float)) or value != int(value):
            raise UnknownArchitecture(
                f"{self.name}: {key} is {value!r} and not an integer, so the memory cannot be "
                f"computed; give the config.json of a decoder language model"
            )
        return int(value)

    def get_positive_int(self, key: str, default: int | None = None) -> int:
        """Return an integer above zero. Raises UnknownArchitecture."""
        value = self.get_int(key, default)
        if value <= 0:
            raise UnknownArchitecture(f"{self.name}: {key} is {value}, but must be above 0")
        return value

    def get_float(self, key: str, default: float) -> float:
        """Return a number, or the default."""
        value = self.values.get(key)
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            return float(value)
        return default

    def get_bool(self, key: str, *, default: bool = False) -> bool:
        """Return a boolean, or the default."""
        value = self.values.get(key)
        return value if isinstance(value, bool) else default

    def get_str(self, *keys: str) -> str:
        """Return the first of these values that is a string, or ''."""
        values = (self.values.get(key) for key in keys)
        return next((value for value in values if isinstance(value, str)), "")

    def get_strs(self, key: str) -> tuple[str, ...]:
        """Return the strings of a list, or none."""
        value = self.values.get(key)
        return tuple(map(str, cast("list[object]", value))) if isinstance(value, list) else ()


def read_model_config(folder: Path) -> ModelConfig:
    """Return the config.json of a model's folder. Raises UnknownArchitecture."""
    file = folder / "config.json"
    try:
        loaded: object = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise UnknownArchitecture(
            f"{folder} has no readable config.json ({error.strerror}); give the folder of a "
            f"model in the layout of Hugging Face"
        ) from error
    except ValueError as error:
        raise UnknownArchitecture(f"{file} is not JSON: {error}") from error
    if not isinstance(loaded, dict):
        raise UnknownArchitecture(f"{file} does not contain an object")
    return ModelConfig(cast("dict[str, object]", loaded), str(file))


def read_quant_config(config: ModelConfig) -> ModelConfig | None:
    """Return the quantization of a model, or of a vision model's language model."""
    language = config.get_section(*LANGUAGE_MODEL_KEYS) or config
    key = "quantization_config"
    return config.get_section(key) or language.get_section(key)


@dataclass(frozen=True, slots=True)
class ModelFiles:
    """method: quantization method, '' if none. size: bytes of the weight files. missing: names."""

    method: str
    size: int
    missing: tuple[str, ...]


def read_model_files(folder: Path) -> ModelFiles:
    """Return the state of a model's folder. Raises UnknownArchitecture if it has no config.json."""
    quantization = read_quant_config(read_model_config(folder))
    files = [file for pattern in _WEIGHTS for file in folder.glob(pattern)]
    missing = _find_missing_shards(folder)
    if not files:
        missing.append("the weights (*.safetensors)")
    if not any((folder / name).is_file() for name in _TOKENIZERS):
        missing.append("the tokenizer")
    size = sum(file.stat().st_size for file in files)
    method = quantization.get_str("quant_method") if quantization else ""
    return ModelFiles(method, size, tuple(missing))


def _find_missing_shards(folder: Path) -> list[str]:
    """Return the files that an index lists and that do not exist."""
    names: set[str] = set()
    for index in _INDEXES:
        try:
            loaded: object = json.loads((folder / index).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        if not isinstance(loaded, dict):
            continue
        weights = ModelConfig(cast("dict[str, object]", loaded), index).get_section("weight_map")
        names |= {str(name) for name in weights.values.values()} if weights else set()
    return sorted(name for name in names if not (folder / name).is_file())
