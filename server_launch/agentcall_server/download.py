"""Brings a model file to this machine, once, checked, from the first source that has it."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, replace
from pathlib import Path

from agentcall_server.catalogue import ENVIRONMENT, EmbeddedModel, Source
from agentcall_server.courier import Patience
from agentcall_server.errors import SourceFailed, SourcesFailed, SourceSilent, WrongBytes
from agentcall_server.progress import Progress, screen
from agentcall_server.sources import Job, bring
from agentcall_server.store import (
    copy_hashed,
    hash_file,
    hashes_file,
    keep_hash,
    known_hash,
    locked,
    models_folder,
)


def fetch(
    model: EmbeddedModel,
    *,
    cache: Path | None = None,
    report: Progress | None = None,
    patience: Patience | None = None,
) -> Path:
    """The path of the model's file, downloaded if it is not here yet.

    Blocks; two processes never download the same file twice. Raises NotEnoughSpace or
    SourcesFailed.
    """
    if model.local_path is not None:
        return model.local_path
    folder = models_folder(cache)
    if _is_here(model, folder):
        return folder / model.file
    report = report or screen()
    waiting = f"another process is downloading {model.name}; waiting for it"
    with locked(folder / f"{model.file}.lock", lambda: report.say(waiting)):
        if not _is_here(model, folder):
            _Fetch(model, folder, report, patience or Patience()).run()
    return folder / model.file


def _is_here(model: EmbeddedModel, folder: Path) -> bool:
    """A file gets its name only after it was checked, so its size is enough to look at."""
    path = folder / model.file
    return path.is_file() and model.size in (None, path.stat().st_size)


@dataclass(frozen=True, slots=True)
class _Fetch:
    """One model on its way: every source in turn, the silent ones again at the end."""

    model: EmbeddedModel
    folder: Path
    report: Progress
    patience: Patience

    @property
    def work(self) -> Path:
        return self.folder / f"{self.model.file}.work"

    def run(self) -> None:
        reasons: dict[Source, SourceFailed] = {}
        if self._round(self.model.sources, self.patience, reasons):
            return
        silent = tuple(s for s, why in reasons.items() if isinstance(why, SourceSilent))
        if silent and self.patience.answer < self.patience.later_answer:
            later = replace(self.patience, answer=self.patience.later_answer)
            self.report.say(f"no source is left; giving the silent ones {later.answer:g} s")
            if self._round(silent, later, reasons):
                return
        raise SourcesFailed(self._every_reason(reasons))

    def _round(
        self, sources: tuple[Source, ...], patience: Patience, reasons: dict[Source, SourceFailed]
    ) -> bool:
        for source in sources:
            try:
                self._try(source, patience)
            except SourceFailed as error:
                reasons[source] = error
            else:
                return True
            self.report.say(f"{source}: {reasons[source]}; passed over")
        return False

    def _try(self, source: Source, patience: Patience) -> None:
        size = f" ({self.model.size / 1e6:,.0f} MB)" if self.model.size else ""
        self.report.say(f"fetching {self.model.name}{size} from the {source}")
        self.work.mkdir(exist_ok=True)
        job = Job(self.model.size, self.work, self.report, patience)
        self._keep(bring(source, job))

    def _keep(self, files: list[Path]) -> None:
        """Join, check, and give the file its name in one step."""
        whole = self.work / "whole"
        if len(files) == 1 and self.work in files[0].parents:
            whole = files[0]
            size, sha256 = hash_file(whole)
        else:
            size, sha256 = copy_hashed(files, whole)
        try:
            self._check(size, sha256)
        except WrongBytes:
            self._throw_away([whole, *files])
            raise
        whole.replace(self.folder / self.model.file)
        shutil.rmtree(self.work, ignore_errors=True)
        self.report.say(f"{self.model.name} is here: {self.folder / self.model.file}")

    def _throw_away(self, files: list[Path]) -> None:
        for file in files:
            if self.work in file.parents:
                file.unlink(missing_ok=True)

    def _check(self, size: int, sha256: str) -> None:
        pinned = self.model.sha256
        expected = pinned or known_hash(self.folder, self.model.file)
        if expected is None:
            keep_hash(self.folder, self.model.file, sha256)
            self.report.say(
                f"no SHA-256 is known for {self.model.file}; {sha256} is taken from this first "
                f"download and kept in {hashes_file(self.folder)}"
            )
        elif sha256 != expected:
            raise WrongBytes(self._mismatch(size, sha256, expected, pinned is not None))

    def _mismatch(self, size: int, sha256: str, expected: str, is_pinned: bool) -> str:
        told = f"what came is {size} bytes with SHA-256 {sha256}, expected was {expected}"
        if is_pinned:
            return f"{told}; it was thrown away"
        kept = hashes_file(self.folder)
        return (
            f"{told} (taken on the first download); to accept a new release remove it from {kept}"
        )

    def _every_reason(self, reasons: dict[Source, SourceFailed]) -> str:
        lines = "\n".join(f"  {source}: {reason}" for source, reason in reasons.items())
        return (
            f"{self.model.name} could not be downloaded from any source:\n{lines}\n"
            f"What is already here is kept; run again to go on, or get {self.model.file} "
            f"yourself and set {ENVIRONMENT}=/path/to/{self.model.file}"
        )
