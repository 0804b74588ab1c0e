"""A batch: many tasks, each a durable run, executed in this process or by workers.

Tasks and results are files of JSON lines. A task is a text, or an object with `prompt` or
`messages` (as in the chat completions API) and optionally an `id`; the default id is the line
number. A result has `id`, `run_id`, `output`, `stop_reason`, `usage` and `error`, and is written
when its run ends.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, cast

import orjson
from typing_extensions import Self

from agentcall.durable.durable_agent import DurableAgent
from agentcall.durable.run_state import DurableRunState
from agentcall.errors import AgentCallError, JournalError, UsageError
from agentcall.messages import JSON, Message, encode_json, usage_to_json
from agentcall.result import MissingOutput
from agentcall.runtime.history import read_history
from agentcall.settings import ModelSettings
from agentcall.storage.codec import AnyResult, compute_digest
from agentcall.storage.locks import try_lock
from agentcall.storage.private_files import open_private
from agentcall.tools.serialize import to_json_value


@dataclass(frozen=True, slots=True)
class BatchTask:
    """A line of the tasks; `error` describes an invalid one."""

    id: str | int
    run_id: str
    prompt: str | None = None
    messages: tuple[Message, ...] = ()
    error: str = ""


def parse_tasks(data: bytes, batch: str = "") -> list[BatchTask]:
    """Read tasks. `batch` is a prefix of their run ids.

    A run id contains the line number and a digest of the line, so an edited task is a new run.
    Raises UsageError if two tasks have the same id.
    """
    tasks: list[BatchTask] = []
    seen: set[str | int] = set()
    for number, line in enumerate(data.removeprefix(b"\xef\xbb\xbf").splitlines(), start=1):
        if not line.strip():
            continue
        run_id = f"{batch}{number}-{compute_digest(line.decode('utf-8', 'replace').strip())[:8]}"
        task = _parse_task(number, run_id, line)
        if task.id in seen:
            raise UsageError(f"line {number} has the id {task.id!r}, which an earlier line has too")
        seen.add(task.id)
        tasks.append(task)
    return tasks


def _parse_task(number: int, run_id: str, line: bytes) -> BatchTask:
    """Read a line; an invalid one is a task with an error."""
    try:
        wire: object = orjson.loads(line)
    except ValueError as problem:
        return BatchTask(number, run_id, error=f"line {number} is not JSON: {problem}")
    if isinstance(wire, str):
        wire = {"prompt": wire}
    if not isinstance(wire, Mapping):
        return BatchTask(number, run_id, error=f'line {number}: use a text, or {{"prompt": "..."}}')
    fields = cast("Mapping[str, JSON]", wire)
    given_id, prompt = fields.get("id", number), fields.get("prompt")
    task_id = given_id if isinstance(given_id, (str, int)) else number
    try:
        messages = read_history(fields.get("messages", ()))
    except (UsageError, TypeError, AttributeError) as problem:
        return BatchTask(task_id, run_id, error=f"line {number}: {problem}")
    if unknown := ", ".join(fields.keys() - {"id", "prompt", "messages"}):
        error = f"line {number} has {unknown}; use id, prompt, messages"
        return BatchTask(task_id, run_id, error=error)
    text = prompt if isinstance(prompt, str) and prompt.strip() else None
    if text is None and (prompt is not None or not messages):
        error = f'line {number} has no prompt; it needs a "prompt"'
        return BatchTask(task_id, run_id, error=error)
    return BatchTask(task_id, run_id, text, messages)


def build_result_line(task: BatchTask, result: AnyResult) -> dict[str, JSON]:
    """Return the line of a run that has ended or waits for approval."""
    is_missing = isinstance(result.answer, MissingOutput)
    line: dict[str, JSON] = {
        "id": task.id,
        "run_id": task.run_id,
        "output": None if is_missing else to_json_value(result.answer),
        "stop_reason": result.stop_reason,
        "usage": usage_to_json(result.usage),
        "error": None,
    }
    if isinstance(result.answer, MissingOutput):
        line["error"] = {"type": "NoOutput", "message": result.answer.reason}
    if result.notes:
        line["notes"] = list(result.notes)
    return line


def build_error_line(task: BatchTask, kind: str, message: str) -> dict[str, JSON]:
    """Return the line of a run without a result."""
    return {
        "id": task.id,
        "run_id": task.run_id,
        "output": None,
        "stop_reason": "error",
        "usage": None,
        "error": {"type": kind, "message": message},
    }


class BatchResults:
    """The file of results, locked by this process and private to its owner; a context manager.

    An incomplete last line is removed. Raises UsageError if another process writes the file, or if
    it contains something else.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = open_private(path, os.O_CREAT | os.O_RDWR)
        if not try_lock(self._file):
            os.close(self._file)
            raise UsageError(
                f"another process writes {path}; wait for it to end, or choose another file"
            )
        self.lines = self._read_lines()

    @property
    def finished_ids(self) -> set[str]:
        """The ids of the runs that have a line."""
        return {str(line["run_id"]) for line in self.lines}

    def remove(self, run_ids: Iterable[str]) -> None:
        """Remove the lines of these runs."""
        removed = set(run_ids)
        self.lines = [line for line in self.lines if line["run_id"] not in removed]
        data = b"".join(encode_json(line) + b"\n" for line in self.lines)
        os.lseek(self._file, 0, os.SEEK_SET)
        _write_all(self._file, data)
        os.ftruncate(self._file, len(data))

    def add(self, line: dict[str, JSON]) -> None:
        """Append a line."""
        self.lines.append(line)
        _write_all(self._file, encode_json(line) + b"\n")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        os.fsync(self._file)
        os.close(self._file)

    def _read_lines(self) -> list[dict[str, JSON]]:
        data = self._path.read_bytes()
        complete = data[: data.rfind(b"\n") + 1]
        os.ftruncate(self._file, len(complete))
        os.lseek(self._file, len(complete), os.SEEK_SET)
        lines = enumerate(complete.splitlines(), start=1)
        return [self._parse_line(number, line) for number, line in lines]

    def _parse_line(self, number: int, line: bytes) -> dict[str, JSON]:
        try:
            wire: object = orjson.loads(line)
        except ValueError:
            wire = None
        if not isinstance(wire, dict) or "run_id" not in wire:
            raise UsageError(
                f"line {number} of {self._path} is not a result of a batch; choose another file"
            )
        return cast("dict[str, JSON]", wire)


def _write_all(file: int, data: bytes) -> None:
    try:
        while data:
            data = data[os.write(file, data) :]
    except OSError as error:
        raise AgentCallError(f"the results cannot be written: {error.strerror}") from error


ResultLine = dict[str, JSON]

MAX_FAILURES = 10
POLL_SECONDS = 0.5
"""Seconds between two checks of the runs that workers execute."""


async def run_tasks(
    durable: DurableAgent[Any, Any], tasks: Sequence[BatchTask], concurrency: int
) -> AsyncIterator[ResultLine]:
    """Execute tasks in this process and yield their result lines as they end.

    concurrency: how many tasks run at the same time.
    The error of a task is in its line. Raises JournalError, and the last error after
    `MAX_FAILURES` failures in a row: then the remaining tasks can be executed later.
    """
    remaining = iter(tasks)
    outcomes: asyncio.Queue[_TaskOutcome] = asyncio.Queue()

    async def slot() -> None:
        for task in remaining:
            await outcomes.put(await _run_task(durable, task))

    slots = [asyncio.ensure_future(slot()) for _ in range(concurrency)]
    failures = 0
    try:
        for _ in tasks:
            line, error = await outcomes.get()
            failures = failures + 1 if error is not None else 0
            if line is not None:
                yield line
            if error is not None and (line is None or failures == MAX_FAILURES):
                raise error
    finally:
        for running in slots:
            running.cancel()
        await asyncio.gather(*slots, return_exceptions=True)


class _TaskOutcome(NamedTuple):
    """The outcome of a task; there is no line if the journal failed."""

    line: ResultLine | None
    error: AgentCallError | None = None


async def _run_task(durable: DurableAgent[Any, Any], task: BatchTask) -> _TaskOutcome:
    if task.error:
        return _TaskOutcome(build_error_line(task, "BadTask", task.error))
    try:
        result = await durable.run(task.prompt, run_id=task.run_id, messages=task.messages)
    except JournalError as error:
        return _TaskOutcome(None, error)
    except AgentCallError as error:
        return _TaskOutcome(build_error_line(task, type(error).__name__, str(error)), error)
    return _TaskOutcome(build_result_line(task, result))


async def run_on_workers(
    durable: DurableAgent[Any, Any],
    tasks: Sequence[BatchTask],
    settings: ModelSettings | None = None,
) -> AsyncIterator[ResultLine]:
    """Queue tasks for workers and yield their result lines as they end; failed ones are retried.

    settings: of the runs; they replace those of the workers' agent. Raises JournalError, and
    UsageError for settings with `extra_headers`.
    """
    waiting = {task.run_id: task for task in tasks}
    for task in tasks:
        if task.error:
            del waiting[task.run_id]
            yield build_error_line(task, "BadTask", task.error)
        else:
            await durable.enqueue(
                task.prompt, run_id=task.run_id, messages=task.messages, settings=settings
            )
    queue = durable.agent.name
    failed = await durable.query_journal(lambda journal: journal.list_ended(queue, "failed"))
    for run_id in waiting.keys() & set(failed):
        await durable.reopen(run_id)
    while waiting:
        for run_id in await durable.query_journal(lambda journal: journal.list_ended(queue)):
            ended = waiting.pop(run_id, None)
            if ended is not None:
                yield await _read_result_line(durable, ended)
        if waiting:
            await asyncio.sleep(POLL_SECONDS)


async def _read_result_line(durable: DurableAgent[Any, Any], task: BatchTask) -> ResultLine:
    records = await durable.query_journal(lambda journal: journal.read_records(task.run_id))
    state = DurableRunState(task.run_id, records)
    if state.result is not None:
        return build_result_line(task, state.result)
    kind, message = state.error or ("Unknown", "")
    return build_error_line(task, kind, message)
