"""The process of a contestant's adapter, which runs until it is closed."""

from __future__ import annotations

import json
import os
import select
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from benchmarks.overhead.adapters.worker import WITHOUT_WALK
from benchmarks.overhead.field import Contestant
from benchmarks.overhead.task import Task

ROOT = Path(__file__).parents[2]
DUTY_TIMEOUT = 600.0
"""Timeout of a duty, in seconds."""

_QUIET = {
    "AGNO_TELEMETRY": "false",
    "HF_HUB_OFFLINE": "1",
    "LANGSMITH_TRACING": "false",
    "OPENAI_AGENTS_DISABLE_TRACING": "1",
    "OTEL_SDK_DISABLED": "true",
    "PYTHONUNBUFFERED": "1",
}

Figures = dict[str, Any]  # Any: numbers, and the versions' texts


class ContestantError(Exception):
    """A contestant failed; the message has its name, the duty and the reason."""


@dataclass
class ContestantProcess:
    """The process of a contestant's adapter."""

    contestant: Contestant
    url: str
    _process: subprocess.Popen[str] | None = field(default=None)

    def run_duty(self, duty: str, task: Task, folder: Path, **more: object) -> Figures:
        """Run a duty with the functions in a folder; return its figures. Raises ContestantError."""
        process = self._process or self._start()
        line = {"do": duty, "url": self.url, "folder": str(folder), "task": task, **more}
        assert process.stdin is not None
        process.stdin.write(json.dumps(line) + "\n")
        process.stdin.flush()
        said = self._read_line(process)
        if "error" in said:
            raise ContestantError(f"{self.contestant.name}, {duty} of {task}: {said['error']}")
        return said

    def close(self) -> Figures:
        """End the process; return its CPU seconds and its peak of memory."""
        process, self._process = self._process, None
        if process is None:
            return {}
        assert process.stdin is not None
        process.stdin.close()
        _, _, used = os.wait4(process.pid, 0)
        process.returncode = 0
        assert process.stdout is not None
        process.stdout.close()
        return {"cpu": used.ru_utime + used.ru_stime, "peak": used.ru_maxrss * 1024}

    def _start(self) -> subprocess.Popen[str]:
        module = f"benchmarks.overhead.adapters.{self.contestant.adapter}"
        command = [str(self.contestant.python), "-m", module]
        self._process = subprocess.Popen(
            command if self.contestant.walk else [*command, WITHOUT_WALK],
            cwd=ROOT,
            env=_build_environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        return self._process

    def _read_line(self, process: subprocess.Popen[str]) -> Figures:
        out: IO[str] | None = process.stdout
        assert out is not None
        ready, _, _ = select.select([out], [], [], DUTY_TIMEOUT)
        line = out.readline() if ready else ""
        if not line:
            process.kill()
            why = "the process died" if ready else f"no end after {DUTY_TIMEOUT:g} seconds"
            raise ContestantError(f"{self.contestant.name}: {why}; see: {process.args}")
        return json.loads(line)


def cold_run(contestant: Contestant, url: str, task: Task, folder: Path) -> Figures:
    """Measure a process that does one run and ends: CPU and wall-clock seconds."""
    start = time.perf_counter()
    worker = ContestantProcess(contestant, url)
    worker.run_duty("first", task, folder)
    used = worker.close()
    return {**used, "wall": time.perf_counter() - start}


def cold_import(contestant: Contestant) -> Figures:
    """Measure the imports of a user's file: CPU seconds and memory in bytes."""
    code = (
        "import time; began = time.process_time()\n"
        f"{contestant.imports}\n"
        "spent = time.process_time() - began\n"
        "from resource import RUSAGE_SELF, getrusage\n"
        "print(spent, getrusage(RUSAGE_SELF).ru_maxrss * 1024)"
    )
    command = [str(contestant.python), "-c", code]
    done = subprocess.run(
        command, cwd=ROOT, env=_build_environment(), capture_output=True, text=True, check=True
    )
    spent, peak = map(float, done.stdout.split()[-2:])
    return {"cpu": spent, "peak": peak}


def _build_environment() -> dict[str, str]:
    """Return our environment, with compiled modules cached, as in normal use."""
    kept = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    return {**kept, **_QUIET}
