"""The setup of a measurement: the server, the contestants' processes, the functions on disk."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.overhead.contestant_process import ContestantProcess, Figures, cold_import, cold_run
from benchmarks.overhead.field import Contestant
from benchmarks.overhead.functions import write_functions
from benchmarks.overhead.server import run_server
from benchmarks.overhead.task import Task


class Stage:
    """Measures contestants; their processes are reused for warm measurements."""

    def __init__(self, url: str, folder: Path, stack: ExitStack) -> None:
        self._url = url
        self._folder = folder
        self._stack = stack
        self._staying: dict[Contestant, ContestantProcess] = {}

    def measure_warm(
        self, contestant: Contestant, duty: str, task: Task, **more: object
    ) -> Figures:
        """Run a duty in the contestant's reused process."""
        if contestant not in self._staying:
            worker = self._staying[contestant] = ContestantProcess(contestant, self._url)
            self._stack.callback(worker.close)
        return self._staying[contestant].run_duty(duty, task, self._write_functions(task), **more)

    def measure_fresh(
        self, contestant: Contestant, duty: str, task: Task, **more: object
    ) -> Figures:
        """Run a duty in a new process."""
        with closing(ContestantProcess(contestant, self._url)) as worker:
            return worker.run_duty(duty, task, self._write_functions(task), **more)

    def cold_run(self, contestant: Contestant, task: Task) -> Figures:
        """Measure a process that does one run and ends."""
        return cold_run(contestant, self._url, task, self._write_functions(task))

    def cold_import(self, contestant: Contestant) -> Figures:
        """Measure the imports of a user's file."""
        return cold_import(contestant)

    def _write_functions(self, task: Task) -> Path:
        folder = self._folder / f"{task.tools}-{task.output}"
        if not folder.exists():
            folder.mkdir()
            write_functions(folder, task.tools, task.output)
        return folder


@contextmanager
def open_stage() -> Generator[Stage]:
    """Open a stage that is cleaned up at the end of the block."""
    with TemporaryDirectory() as folder, run_server() as url, ExitStack() as stack:
        yield Stage(url, Path(folder), stack)
