"""The main program of a contestant: a JSON line in for each duty, a JSON line out with figures.

A line in has the duty (`do`, a method of `DutyRunner`), the server's `url`, the `folder` with the
functions and the `task`. Imports little of the standard library and nothing else, because the
imports are part of a cold start.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from resource import RUSAGE_SELF, getrusage
from typing import Any, NamedTuple, Protocol

from benchmarks.overhead.task import ANSWER, Task

KEY = "no-key"
CLIENT_TIMEOUT = 600.0
"""Timeout of the clients; the official one's default for a connection is 5 seconds."""
FUNCTIONS = "made_functions.py"
DEFINITIONS = "definitions.json"
WITHOUT_WALK = "--without-walk"
_SHORT = 10
"""Runs with more steps are not warmed up."""

Function = Callable[..., str]
Run = Callable[[], Awaitable[object]]
Stream = Callable[[], AsyncIterator[object]]


class Job(NamedTuple):
    """The input of a run: the server's URL, the task and the folder with the tools."""

    url: str
    task: Task
    folder: Path

    @property
    def functions(self) -> Sequence[Function]:
        """The functions for the tools."""
        return load_functions(self.folder / FUNCTIONS, self.task.tools)

    @property
    def definitions(self) -> list[dict[str, Any]]:
        """The tool objects that say the same."""
        found = json.loads((self.folder / DEFINITIONS).read_text("utf-8"))
        return found[: self.task.tools]


class Adapter(Protocol):
    """What is measured: a way of doing the task."""

    packages: Iterable[str]

    def run(self, job: Job) -> Run:
        """Prepare a run; calling the result does one run and returns its answer."""
        ...

    def stream(self, job: Job) -> Stream:
        """Prepare a streamed run; calling the result yields the pieces of its answer."""
        ...

    def schemas(self, functions: Sequence[Function]) -> object:
        """Make tools of functions."""
        ...


def load_functions(path: Path, count: int) -> Sequence[Function]:
    """Load the first `count` functions of a file."""
    module = sys.modules.get(path.stem)
    if module is None or module.__file__ != str(path):
        spec = spec_from_file_location(path.stem, path)
        assert spec is not None
        assert spec.loader is not None
        module = sys.modules[path.stem] = module_from_spec(spec)
        spec.loader.exec_module(module)
    made = [v for v in vars(module).values() if getattr(v, "__module__", "") == path.stem]
    return made[:count]


class DutyRunner:
    """Runs duties in one event loop."""

    def __init__(self, adapter: Adapter) -> None:
        self._adapter = adapter
        self._loop = asyncio.new_event_loop()
        self._ready: dict[Job, Run] = {}

    def run_duty(self, line: dict[str, Any]) -> dict[str, Any]:
        """Run the duty of a line and return its figures."""
        job = Job(line["url"], Task(*line["task"]), Path(line["folder"]))
        duty = getattr(self, f"_{line['do']}")
        return self._loop.run_until_complete(duty(job, line))

    async def _versions(self, job: Job, line: dict[str, Any]) -> dict[str, str]:
        """Return the versions of the packages."""
        from importlib.metadata import version  # not part of the cold start

        return {name: version(name) for name in self._adapter.packages}

    async def _first(self, job: Job, line: dict[str, Any]) -> dict[str, float]:
        """Do one run."""
        _check(await self._adapter.run(job)())
        return {}

    async def _runs(self, job: Job, line: dict[str, Any]) -> dict[str, float]:
        """Measure the CPU seconds of a run, averaged over as many as fit into `seconds`."""
        run, made = self._ready.get(job), 0
        if run is None:
            run = self._ready[job] = self._adapter.run(job)
            if job.task.steps <= _SHORT:
                await run()  # to warm up
        gc.collect()
        began, cpu = time.perf_counter(), time.process_time()
        while not made or time.perf_counter() - began < line["seconds"]:
            answer = await run()
            made += 1
        spent = time.process_time() - cpu
        _check(answer)
        return {"cpu": spent / made}

    async def _crowd(self, job: Job, line: dict[str, Any]) -> dict[str, float]:
        """Measure the seconds of `at_once` concurrent runs, and the peak of memory in bytes."""
        run = self._adapter.run(job)
        _check(await run())
        before = measure_resident()
        began, cpu = time.perf_counter(), time.process_time()
        answers = await asyncio.gather(*(run() for _ in range(line["at_once"])))
        wall, spent = time.perf_counter() - began, time.process_time() - cpu
        for answer in answers:
            _check(answer)
        return {"wall": wall, "cpu": spent, "peak": measure_peak(), "before": before}

    async def _streams(self, job: Job, line: dict[str, Any]) -> dict[str, float]:
        """Measure the CPU seconds of a streamed answer, and the seconds until its first piece."""
        stream, made, firsts, pieces = self._adapter.stream(job), 0, 0.0, 0
        gc.collect()
        began, cpu = time.perf_counter(), time.process_time()
        while not made or time.perf_counter() - began < line["seconds"]:
            asked, seen = time.perf_counter(), 0
            async for _ in stream():
                if not seen:
                    firsts += time.perf_counter() - asked
                seen += 1
            pieces += seen
            made += 1
        spent = time.process_time() - cpu
        return {"cpu": spent / made, "first": firsts / made, "pieces": pieces / made}

    async def _schemas(self, job: Job, line: dict[str, Any]) -> dict[str, float]:
        """Measure the CPU seconds of making tools of functions for the first time."""
        functions = job.functions
        cpu = time.process_time()
        self._adapter.schemas(functions)
        return {"cpu": time.process_time() - cpu}

    async def _survival(self, job: Job, line: dict[str, Any]) -> dict[str, float]:
        """Measure the share of `runs` that end with the answer; ten run concurrently."""
        run, gate = self._adapter.run(job), asyncio.Semaphore(10)

        async def survives() -> bool:
            async with gate:
                try:
                    return _is_answer(await run())
                except Exception:  # the run has failed, whatever it raised
                    return False

        well = await asyncio.gather(*(survives() for _ in range(line["runs"])))
        return {"well": sum(well) / len(well)}


def _is_answer(answer: object) -> bool:
    return str(answer).strip() == ANSWER


def _check(answer: object) -> None:
    if not _is_answer(answer):
        raise ValueError(f"the answer is {answer!r}, not {ANSWER!r}")


def measure_resident() -> float:
    """Return the process's resident memory in bytes."""
    pages = int(Path("/proc/self/statm").read_text("ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def measure_peak() -> float:
    """Return the process's peak of resident memory in bytes."""
    return getrusage(RUSAGE_SELF).ru_maxrss * 1024


def serve(adapter: Adapter) -> None:
    """Run the duties of standard input, line by line; write figures, or an `error`."""
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # a framework's own output must not mix with the lines
    if WITHOUT_WALK in sys.argv:
        disable_walk()
    worker = DutyRunner(adapter)
    for line in sys.stdin:
        try:
            said: dict[str, Any] = worker.run_duty(json.loads(line))
        except Exception as error:  # reported to the parent process
            said = {"error": f"{type(error).__name__}: {error}"[:500]}
        _write_line(said, out)


def _write_line(value: object, out: Any) -> None:
    out.write(json.dumps(value) + "\n")
    out.flush()


def disable_walk() -> None:
    """Keep the official client from converting the whole conversation for every request.

    It searches each message for fields to rename. Chat completions have none, so the requests stay
    the same.
    """
    from openai._utils import is_given  # the openai package is not everywhere
    from openai.resources.chat.completions import completions

    def given(data: dict[str, Any]) -> dict[str, Any]:
        return {key: value for key, value in data.items() if is_given(value)}

    async def given_later(data: dict[str, Any], _: object) -> dict[str, Any]:
        return given(data)

    completions.maybe_transform = lambda data, _: given(data)
    completions.async_maybe_transform = given_later
