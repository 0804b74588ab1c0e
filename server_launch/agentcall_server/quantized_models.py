"""The models that were quantized here, by name: a small file in the cache folder."""

from __future__ import annotations

import json
from pathlib import Path

from agentcall_server.model_cache import get_cache_folder, hold_lock


def load_quantized_models(cache: Path | None = None) -> dict[str, Path]:
    """Name and folder of each model that was put here; those that have gone are still named."""
    try:
        loaded: object = json.loads(_get_registry_file(cache).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    if not isinstance(loaded, dict):
        return {}
    return {str(k): Path(str(v)) for k, v in loaded.items()}  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]


def save_quantized_model(name: str, folder: Path, cache: Path | None = None) -> None:
    """Name a model's folder from now on."""
    file = _get_registry_file(cache)
    file.parent.mkdir(parents=True, exist_ok=True)
    with hold_lock(file.with_suffix(".lock"), lambda: None):
        named = {**load_quantized_models(cache), name: folder.absolute()}
        draft = file.with_suffix(".partial")
        text = json.dumps({k: str(v) for k, v in named.items()}, indent=2, sort_keys=True)
        draft.write_text(text + "\n", encoding="utf-8")
        draft.replace(file)


def _get_registry_file(cache: Path | None) -> Path:
    return (cache or get_cache_folder()) / "language_models.json"
