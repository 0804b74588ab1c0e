"""Reads a model's config.json: typed access to what may be missing, nested or renamed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from agentcall_server.errors import UnknownArchitecture

LANGUAGE_MODEL_KEYS = ("llm_config", "text_config", "language_config")
"""Where a vision model keeps the configuration of its language model."""


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """The object of a config.json, and whose it is (for messages)."""

    values: Mapping[str, object]
    name: str

    def get_section(self, *keys: str) -> ModelConfig | None:
        """The first of these that is an object."""
        for key in keys:
            value = self.values.get(key)
            if isinstance(value, Mapping):
                inner: dict[str, object] = {str(k): v for k, v in value.items()}  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
                return ModelConfig(inner, f"{self.name}: {key}")
        return None

    def get_int(self, key: str, default: int | None = None) -> int:
        """A whole number. Raises UnknownShape if it is missing and there is no default."""
        value = self.values.get(key)
        if value is None and default is not None:
            return default
        if isinstance(value, bool) or not isinstance(value, (int, float)) or value != int(value):
            raise UnknownArchitecture(
                f"{self.name}: {key} is {value!r} where a whole number is needed, so the memory "
                f"cannot be computed; give the config.json of a decoder language model"
            )
        return int(value)

    def get_positive_int(self, key: str, default: int | None = None) -> int:
        """A whole number above zero. Raises UnknownShape."""
        value = self.get_int(key, default)
        if value <= 0:
            raise UnknownArchitecture(f"{self.name}: {key} is {value}, which no model has")
        return value

    def get_float(self, key: str, default: float) -> float:
        """A number, or the default."""
        value = self.values.get(key)
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            return float(value)
        return default

    def get_bool(self, key: str, *, default: bool = False) -> bool:
        """A truth value, or the default."""
        value = self.values.get(key)
        return value if isinstance(value, bool) else default

    def get_str(self, *keys: str) -> str:
        """The first of these that is text, or ''."""
        for key in keys:
            value = self.values.get(key)
            if isinstance(value, str):
                return value
        return ""

    def get_strs(self, key: str) -> tuple[str, ...]:
        """The texts of a list, or none."""
        value = self.values.get(key)
        return tuple(str(v) for v in value) if isinstance(value, list) else ()  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]


def read_model_config(folder: Path) -> ModelConfig:
    """The config.json of a model's folder. Raises UnknownShape."""
    file = folder / "config.json"
    try:
        loaded: object = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise UnknownArchitecture(
            f"{folder} has no readable config.json ({error.strerror}); give the folder of a "
            f"model as Hugging Face lays it out"
        ) from error
    except ValueError as error:
        raise UnknownArchitecture(f"{file} is no JSON: {error}") from error
    if not isinstance(loaded, dict):
        raise UnknownArchitecture(f"{file} holds no object")
    values: dict[str, object] = {str(k): v for k, v in loaded.items()}  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
    return ModelConfig(values, str(file))
