"""The folder of model files: where it is, who may write, how much fits, which hashes are known."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from agentcall_server.errors import NotEnoughSpace

CHUNK_BYTES = 1 << 22
SPARE_BYTES = 200_000_000
"""Bytes that a download leaves free."""


def get_cache_folder() -> Path:
    """AGENTCALL_CACHE, else $XDG_CACHE_HOME/agentcall, else ~/.cache/agentcall. Not created."""
    if own := os.environ.get("AGENTCALL_CACHE"):
        return Path(own).expanduser().absolute()
    if shared := os.environ.get("XDG_CACHE_HOME"):
        return Path(shared).expanduser().absolute() / "agentcall"
    return Path.home() / ".cache" / "agentcall"


def get_models_folder(cache: Path | None = None) -> Path:
    """The folder of model files inside the cache, created if it is not there."""
    folder = (cache or get_cache_folder()) / "models"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def require_space(folder: Path, size: int) -> None:
    """Raise NotEnoughSpace unless `size` bytes (and a few more) are free on the folder's disk."""
    free = shutil.disk_usage(folder).free
    if free < size + SPARE_BYTES:
        raise NotEnoughSpace(
            f"{(size + SPARE_BYTES) / 1e9:.1f} GB are needed in {folder} and {free / 1e9:.1f} "
            "GB are "
            f"free; free some space, or set AGENTCALL_CACHE to a folder on a larger disk"
        )


def count_bytes(folder: Path) -> int:
    """Bytes of all files under the folder, those that vanish meanwhile left out."""
    total = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            with suppress(OSError):
                total += (Path(parent) / name).stat().st_size
    return total


def copy_and_hash(sources: list[Path], target: Path) -> tuple[int, str]:
    """Join the files into `target`; its size in bytes and its SHA-256."""
    digest, size = hashlib.sha256(), 0
    with target.open("wb") as out:
        for source in sources:
            for chunk in _read_chunks(source):
                out.write(chunk)
                digest.update(chunk)
                size += len(chunk)
        out.flush()
        os.fsync(out.fileno())
    return size, digest.hexdigest()


def hash_file(path: Path) -> tuple[int, str]:
    """Size in bytes and SHA-256 of a file."""
    digest, size = hashlib.sha256(), 0
    for chunk in _read_chunks(path):
        digest.update(chunk)
        size += len(chunk)
    return size, digest.hexdigest()


def _read_chunks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as stream:
        while chunk := stream.read(CHUNK_BYTES):
            yield chunk


def load_hash(folder: Path, file: str) -> str | None:
    """The SHA-256 that was taken when this file first came, or None."""
    return _load_hashes(folder).get(file)


def save_hash(folder: Path, file: str, sha256: str) -> None:
    """Remember a hash from now on."""
    hashes = _load_hashes(folder) | {file: sha256}
    draft = folder / "sha256.json.partial"
    draft.write_text(json.dumps(hashes, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    draft.replace(get_hashes_file(folder))


def get_hashes_file(folder: Path) -> Path:
    """The JSON file of hashes taken on first download."""
    return folder / "sha256.json"


def _load_hashes(folder: Path) -> dict[str, str]:
    try:
        loaded: object = json.loads(get_hashes_file(folder).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    if not isinstance(loaded, dict):
        return {}
    return {str(k): str(v) for k, v in loaded.items()}  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]


@contextmanager
def hold_lock(path: Path, on_wait: Callable[[], None]) -> Generator[None, None, None]:
    """Hold the lock file, alone among processes and threads; if it is held, `on_wait` and wait.

    The lock goes with its holder, however that one ends.
    """
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        if not _try_lock(handle):
            on_wait()
            while not _try_lock(handle):
                time.sleep(0.2)
        yield
    finally:
        os.close(handle)


if sys.platform == "win32":  # pragma: no cover
    import msvcrt

    def _try_lock(handle: int) -> bool:
        try:
            msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True
else:
    import fcntl

    def _try_lock(handle: int) -> bool:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True
