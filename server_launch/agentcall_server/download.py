"""Brings a model file to this machine, once, checked, from the first source that has it."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, replace
from pathlib import Path

from agentcall_server.downloader import DownloadTimeouts
from agentcall_server.embedded_models import MODEL_VARIABLE, EmbeddedModel, ModelSource
from agentcall_server.errors import AllSourcesFailed, HashMismatch, SourceFailed, SourceTimeout
from agentcall_server.model_cache import (
    copy_and_hash,
    get_hashes_file,
    get_models_folder,
    hash_file,
    hold_lock,
    load_hash,
    save_hash,
)
from agentcall_server.model_sources import DownloadJob, fetch_files
from agentcall_server.progress import ProgressReporter, make_progress


def fetch(
    model: EmbeddedModel,
    *,
    cache: Path | None = None,
    report: ProgressReporter | None = None,
    timeouts: DownloadTimeouts | None = None,
) -> Path:
    """The path of the model's file, downloaded if it is not here yet.

    Blocks; two processes never download the same file twice. Raises NotEnoughSpace or
    SourcesFailed.
    """
    if model.local_path is not None:
        return model.local_path
    folder = get_models_folder(cache)
    if _is_downloaded(model, folder):
        return folder / model.file
    report = report or make_progress()
    waiting = f"another process is downloading {model.name}; waiting for it"
    with hold_lock(folder / f"{model.file}.lock", lambda: report.say(waiting)):
        if not _is_downloaded(model, folder):
            _ModelDownload(model, folder, report, timeouts or DownloadTimeouts()).run()
    return folder / model.file


def _is_downloaded(model: EmbeddedModel, folder: Path) -> bool:
    """A file gets its name only after it was checked, so its size is enough to look at."""
    path = folder / model.file
    return path.is_file() and model.size in (None, path.stat().st_size)


@dataclass(frozen=True, slots=True)
class _ModelDownload:
    """One model on its way: every source in turn, the silent ones again at the end."""

    model: EmbeddedModel
    folder: Path
    report: ProgressReporter
    timeouts: DownloadTimeouts

    @property
    def work_folder(self) -> Path:
        return self.folder / f"{self.model.file}.work"

    def run(self) -> None:
        reasons: dict[ModelSource, SourceFailed] = {}
        if self._try_sources(self.model.sources, self.timeouts, reasons):
            return
        silent = tuple(s for s, why in reasons.items() if isinstance(why, SourceTimeout))
        if silent and self.timeouts.answer < self.timeouts.retry_answer:
            later = replace(self.timeouts, answer=self.timeouts.retry_answer)
            self.report.say(f"no source is left; giving the silent ones {later.answer:g} s")
            if self._try_sources(silent, later, reasons):
                return
        raise AllSourcesFailed(self._describe_failures(reasons))

    def _try_sources(
        self,
        sources: tuple[ModelSource, ...],
        timeouts: DownloadTimeouts,
        reasons: dict[ModelSource, SourceFailed],
    ) -> bool:
        for source in sources:
            try:
                self._try_source(source, timeouts)
            except SourceFailed as error:
                reasons[source] = error
            else:
                return True
            self.report.say(f"{source}: {reasons[source]}; passed over")
        return False

    def _try_source(self, source: ModelSource, timeouts: DownloadTimeouts) -> None:
        size = f" ({self.model.size / 1e6:,.0f} MB)" if self.model.size else ""
        self.report.say(f"fetching {self.model.name}{size} from the {source}")
        self.work_folder.mkdir(exist_ok=True)
        job = DownloadJob(self.model.size, self.work_folder, self.report, timeouts)
        self._save(fetch_files(source, job))

    def _save(self, files: list[Path]) -> None:
        """Join, check, and give the file its name in one step."""
        whole = self.work_folder / "whole"
        if len(files) == 1 and self.work_folder in files[0].parents:
            whole = files[0]
            size, sha256 = hash_file(whole)
        else:
            size, sha256 = copy_and_hash(files, whole)
        try:
            self._check(size, sha256)
        except HashMismatch:
            self._delete([whole, *files])
            raise
        whole.replace(self.folder / self.model.file)
        shutil.rmtree(self.work_folder, ignore_errors=True)
        self.report.say(f"{self.model.name} is here: {self.folder / self.model.file}")

    def _delete(self, files: list[Path]) -> None:
        for file in files:
            if self.work_folder in file.parents:
                file.unlink(missing_ok=True)

    def _check(self, size: int, sha256: str) -> None:
        pinned = self.model.sha256
        expected = pinned or load_hash(self.folder, self.model.file)
        if expected is None:
            save_hash(self.folder, self.model.file, sha256)
            self.report.say(
                f"no SHA-256 is known for {self.model.file}; {sha256} is taken from this first "
                f"download and kept in {get_hashes_file(self.folder)}"
            )
        elif sha256 != expected:
            raise HashMismatch(self._describe_mismatch(size, sha256, expected, pinned is not None))

    def _describe_mismatch(self, size: int, sha256: str, expected: str, is_pinned: bool) -> str:
        told = f"what came is {size} bytes with SHA-256 {sha256}, expected was {expected}"
        if is_pinned:
            return f"{told}; it was thrown away"
        kept = get_hashes_file(self.folder)
        return (
            f"{told} (taken on the first download); to accept a new release remove it from {kept}"
        )

    def _describe_failures(self, reasons: dict[ModelSource, SourceFailed]) -> str:
        lines = "\n".join(f"  {source}: {reason}" for source, reason in reasons.items())
        return (
            f"{self.model.name} could not be downloaded from any source:\n{lines}\n"
            f"What is already here is kept; run again to go on, or get {self.model.file} "
            f"yourself and set {MODEL_VARIABLE}=/path/to/{self.model.file}"
        )
