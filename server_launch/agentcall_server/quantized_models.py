"""The models that were quantized on this machine, by name: a JSON file in the cache folder."""

from __future__ import annotations

from pathlib import Path

from agentcall_server.model_cache import get_cache_folder, hold_lock, load_texts, save_texts


def load_quantized_models(cache: Path | None = None) -> dict[str, Path]:
    """Return name and folder of each recorded model, including folders that no longer exist."""
    return {name: Path(folder) for name, folder in load_texts(_get_file(cache)).items()}


def save_quantized_model(name: str, folder: Path, cache: Path | None = None) -> None:
    """Record the folder of a model under a name."""
    file = _get_file(cache)
    file.parent.mkdir(parents=True, exist_ok=True)
    with hold_lock(file.with_suffix(".lock"), lambda: None):
        save_texts(file, {**load_texts(file), name: str(folder.absolute())})


def _get_file(cache: Path | None) -> Path:
    return (cache or get_cache_folder()) / "language_models.json"
