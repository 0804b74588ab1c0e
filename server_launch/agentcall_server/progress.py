"""What the user sees while a model is fetched and loaded: a bar on a terminal, else plain lines."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Protocol, TextIO

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress
    from rich.progress import TaskID
    from rich.status import Status

LINE_SECONDS = 10.0


class ProgressReporter(Protocol):
    """Where a download reports."""

    def say(self, text: str) -> None:
        """Show one line."""

    def advance(self, done: int, total: int | None) -> None:
        """Show that `done` of `total` bytes are here."""

    def wait(self, text: str) -> None:
        """Show what is waited for, each text in place of the last; '' when the waiting is over."""


class NoProgress:
    """Shows nothing."""

    def say(self, text: str) -> None:
        """Nothing."""

    def advance(self, done: int, total: int | None) -> None:
        """Nothing."""

    def wait(self, text: str) -> None:
        """Nothing."""


class LineProgress:
    """Plain lines, one about every ten seconds: for logs and pipes."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream
        self._last = -LINE_SECONDS

    def say(self, text: str) -> None:
        stream = self._stream or sys.stderr
        stream.write(text + "\n")
        stream.flush()

    def advance(self, done: int, total: int | None) -> None:
        now = time.monotonic()
        if not done or now - self._last < LINE_SECONDS:
            return
        self._last = now
        share = f"{done * 100 // total} %, " if total else ""
        self.say(f"  {share}{done / 1e6:,.0f} MB{f' of {total / 1e6:,.0f} MB' if total else ''}")

    def wait(self, text: str) -> None:
        now = time.monotonic()
        if text and now - self._last >= LINE_SECONDS:
            self._last = now
            self.say(text)


class BarProgress:
    """A bar or a spinner on a terminal; a line said ends it, what comes next begins another."""

    def __init__(self) -> None:
        self._bar: RichProgress | None = None
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
        if total is not None and done >= total:
            self._stop()

    def wait(self, text: str) -> None:
        if not text:
            self._stop()
            return
        if self._spinner is None:
            self._stop()
            self._spinner = _start_spinner()
        self._spinner.update(text)

    def _stop(self) -> None:
        for moving in (self._bar, self._spinner):
            if moving is not None:
                moving.stop()
        self._bar = self._task = self._spinner = None


def make_progress() -> ProgressReporter:
    """A bar if standard error is a terminal, else plain lines."""
    return BarProgress() if sys.stderr.isatty() else LineProgress()


def _start_bar(total: int | None) -> tuple[RichProgress, TaskID]:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        Progress,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    columns = BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn()
    bar = Progress(*columns, console=Console(stderr=True), transient=True)
    task = bar.add_task("download", total=total)
    bar.start()
    return bar, task


def _start_spinner() -> Status:
    from rich.console import Console

    console = Console(stderr=True, highlight=False, markup=False)
    spinner = console.status("")
    spinner.start()
    return spinner
