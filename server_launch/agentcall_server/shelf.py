"""The models that were quantized here, by name: a small file in the cache folder."""

from __future__ import annotations

import json
from pathlib import Path

from agentcall_server.store import cache_folder, locked


def shelf(cache: Path | None = None) -> dict[str, Path]:
    """Name and folder of each model that was put here; those that have gone are still named."""
    try:
        loaded: object = json.loads(_file(cache).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    if not isinstance(loaded, dict):
        return {}
    return {str(k): Path(str(v)) for k, v in loaded.items()}  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]


def put_on_shelf(name: str, folder: Path, cache: Path | None = None) -> None:
    """Name a model's folder from now on."""
    file = _file(cache)
    file.parent.mkdir(parents=True, exist_ok=True)
    with locked(file.with_suffix(".lock"), lambda: None):
        named = {**shelf(cache), name: folder.absolute()}
        draft = file.with_suffix(".partial")
        text = json.dumps({k: str(v) for k, v in named.items()}, indent=2, sort_keys=True)
        draft.write_text(text + "\n", encoding="utf-8")
        draft.replace(file)


def _file(cache: Path | None) -> Path:
    return (cache or cache_folder()) / "language_models.json"
