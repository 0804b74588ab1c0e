"""The progress of downloading and loading a model: a bar on a terminal, else plain lines."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Protocol, TextIO

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID
    from rich.status import Status

LINE_SECONDS = 10.0


class ProgressReporter(Protocol):
    """Receives the progress of a download or of a server that starts."""

    def say(self, text: str) -> None:
        """Show one line."""

    def advance(self, done: int, total: int | None) -> None:
        """Show that `done` of `total` bytes have arrived."""

    def wait(self, text: str) -> None:
        """Show a status that replaces the last one; '' when waiting is over."""


class NoProgress:
    """Shows nothing."""

    def say(self, text: str) -> None:
        """Do nothing."""

    def advance(self, done: int, total: int | None) -> None:
        """Do nothing."""

    def wait(self, text: str) -> None:
        """Do nothing."""


class LineProgress:
    """Plain lines, at most one every ten seconds: for logs and pipes."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream
        self._last = -LINE_SECONDS

    def say(self, text: str) -> None:
        stream = self._stream or sys.stderr
        stream.write(text + "\n")
        stream.flush()

    def advance(self, done: int, total: int | None) -> None:
        share = f"{done * 100 // total} %, " if total else ""
        size = f"{done / 1e6:,.0f} MB{f' of {total / 1e6:,.0f} MB' if total else ''}"
        self.wait(f"  {share}{size}" if done else "")

    def wait(self, text: str) -> None:
        now = time.monotonic()
        if text and now - self._last >= LINE_SECONDS:
            self._last = now
            self.say(text)


class BarProgress:
    """A bar or a spinner on a terminal, until the next printed line."""

    def __init__(self) -> None:
        self._bar: Progress | None = None
        self._task: TaskID | None = None
        self._spinner: Status | None = None

    def say(self, text: str) -> None:
        self._stop()
        sys.stderr.write(text + "\n")
        sys.stderr.flush()

    def advance(self, done: int, total: int | None) -> None:
        if self._bar is None or self._task is None:
            self._stop()
            self._bar, self._task = _start_bar(total)
        self._bar.update(self._task, completed=done, total=total)

    def wait(self, text: str) -> None:
        if not text:
            self._stop()
            return
        if self._spinner is None:
            self._stop()
            self._spinner = _start_spinner()
        self._spinner.update(text)

    def _stop(self) -> None:
        for display in (self._bar, self._spinner):
            if display is not None:
                display.stop()
        self._bar = self._task = self._spinner = None


def make_progress() -> ProgressReporter:
    """Return a bar if standard error is a terminal, else plain lines."""
    return BarProgress() if sys.stderr.isatty() else LineProgress()


def _start_bar(total: int | None) -> tuple[Progress, TaskID]:
    from rich import progress
    from rich.console import Console

    bar = progress.Progress(
        progress.BarColumn(),
        progress.DownloadColumn(),
        progress.TransferSpeedColumn(),
        progress.TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
    )
    task = bar.add_task("download", total=total)
    bar.start()
    return bar, task


def _start_spinner() -> Status:
    from rich.console import Console

    spinner = Console(stderr=True, highlight=False, markup=False).status("")
    spinner.start()
    return spinner
