"""The files of a batch: tasks, one a line of JSON, and their results, one a line as they end.

A task is a text, or an object: `prompt` or `messages` (as in the chat completions API), and an
`id` if the line's number is not enough. A result has `id`, `run_id`, `output`, `stop_reason`,
`usage` and `error`.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import orjson
from typing_extensions import Self

from agentcall.durable.record import compute_digest
from agentcall.errors import AgentCallError, UsageError
from agentcall.filelock import try_lock
from agentcall.messages import JSON, Message, encode_json, load_messages
from agentcall.privatefiles import open_private
from agentcall.result import MissingOutput, RunResult
from agentcall.snapshot import to_json_value


@dataclass(frozen=True, slots=True)
class BatchTask:
    """A line of the tasks; `fault` says what is wrong with it, if anything is."""

    id: str | int
    run_id: str
    prompt: str | None = None
    messages: tuple[Message, ...] = ()
    error: str = ""


def parse_tasks(data: bytes, batch: str = "") -> list[BatchTask]:
    """The tasks of a file's text. `batch` stands before their run ids.

    A run id is made of the line's number and its content: a task that is edited is another one.
    Raises UsageError for two tasks of one id.
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
    try:
        wire: object = orjson.loads(line)
    except ValueError as error:
        return BatchTask(number, run_id, error=f"line {number} is no JSON: {error}")
    if isinstance(wire, str):
        wire = {"prompt": wire}
    if not isinstance(wire, Mapping):
        return BatchTask(number, run_id, error=f'line {number}: use a text, or {{"prompt": "..."}}')
    fields = cast("Mapping[str, JSON]", wire)
    name = fields.get("id", number)
    name = name if isinstance(name, (str, int)) else number
    return _build_task(name, run_id, fields, f"line {number}")


def _build_task(name: str | int, run_id: str, fields: Mapping[str, JSON], where: str) -> BatchTask:
    prompt, history = fields.get("prompt"), fields.get("messages", ())
    unknown = ", ".join(fields.keys() - {"id", "prompt", "messages"})
    try:
        messages = load_messages(cast("Iterable[Mapping[str, JSON]]", history))
    except (UsageError, TypeError, AttributeError) as error:
        return BatchTask(name, run_id, error=f"{where}: {error}")
    if unknown:
        return BatchTask(name, run_id, error=f"{where} has {unknown}; use id, prompt, messages")
    said = prompt if isinstance(prompt, str) and prompt.strip() else None
    if said is None and (prompt is not None or not messages):
        return BatchTask(name, run_id, error=f'{where} asks for nothing; it needs a "prompt"')
    return BatchTask(name, run_id, said, messages)


def build_result_line(task: BatchTask, result: RunResult[Any]) -> dict[str, JSON]:
    """The line of a run that ended, or waits."""
    is_missing = isinstance(result.answer, MissingOutput)
    line: dict[str, JSON] = {
        "id": task.id,
        "run_id": task.run_id,
        "output": None if is_missing else to_json_value(result.answer),
        "stop_reason": result.stop_reason,
        "usage": asdict(result.usage),
        "error": None,
    }
    if isinstance(result.answer, MissingOutput):
        line["error"] = {"type": "NoOutput", "message": result.answer.reason}
    if result.notes:
        line["notes"] = list(result.notes)
    return line


def build_error_line(task: BatchTask, kind: str, message: str) -> dict[str, JSON]:
    """The line of a run that gave no result."""
    return {
        "id": task.id,
        "run_id": task.run_id,
        "output": None,
        "stop_reason": "error",
        "usage": None,
        "error": {"type": kind, "message": message},
    }


class BatchResults:
    """The file of results, open for one process alone, and for its owner; a context manager.

    A last line that was torn is cut off. `done` are the run ids that have a line.
    Raises UsageError if another process writes it, or if it holds something else.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = open_private(path, os.O_CREAT | os.O_RDWR)
        if not try_lock(self._file):
            os.close(self._file)
            raise UsageError(f"another process writes {path}; wait for it, or choose another file")
        self.lines = self._read_lines()

    @property
    def finished_ids(self) -> set[str]:
        """The run ids that have a line."""
        return {str(line["run_id"]) for line in self.lines}

    def remove(self, unwanted: Iterable[str]) -> None:
        """Takes the lines of these runs out."""
        gone = set(unwanted)
        self.lines = [line for line in self.lines if line["run_id"] not in gone]
        data = b"".join(encode_json(line) + b"\n" for line in self.lines)
        os.lseek(self._file, 0, os.SEEK_SET)
        _write_all(self._file, data)
        os.ftruncate(self._file, len(data))

    def add(self, line: dict[str, JSON]) -> None:
        """Writes a line."""
        self.lines.append(line)
        _write_all(self._file, encode_json(line) + b"\n")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        os.fsync(self._file)
        os.close(self._file)

    def _read_lines(self) -> list[dict[str, JSON]]:
        data = self._path.read_bytes()
        whole = data[: data.rfind(b"\n") + 1]
        os.ftruncate(self._file, len(whole))
        os.lseek(self._file, len(whole), os.SEEK_SET)
        return [self._parse_line(number, line) for number, line in enumerate(whole.splitlines(), 1)]

    def _parse_line(self, number: int, line: bytes) -> dict[str, JSON]:
        try:
            wire: object = orjson.loads(line)
        except ValueError:
            wire = None
        if not isinstance(wire, dict) or "run_id" not in wire:
            raise UsageError(
                f"line {number} of {self._path} is no result of a batch; choose another file"
            )
        return cast("dict[str, JSON]", wire)


def _write_all(file: int, data: bytes) -> None:
    try:
        while data:
            data = data[os.write(file, data) :]
    except OSError as error:
        raise AgentCallError(f"the results cannot be written: {error.strerror}") from error
