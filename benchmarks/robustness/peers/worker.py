"""The main program of an adapter: a JSON line in for each run, a JSON line out.

A line in: `{"url", "tools": [names], "question", "stream"}`. A line out: `{"answer", "executions",
"error", "seconds"}`. The first line out, before any comes in, is `{"versions": {...}}`.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib.metadata import version
from time import perf_counter
from typing import Any, TypeAlias

from benchmarks.robustness import tools

KEY = "no-key"
MODEL = "fake-model"
INSTRUCTIONS = "Answer the question. Use the tools."


@dataclass(frozen=True)
class Task:
    """The input of a run."""

    url: str
    tools: tuple[Callable[..., Any], ...]  # Any: a framework looks at the signature itself
    question: str
    stream: bool


Drive: TypeAlias = Callable[[Task], object]


def serve(drive: Drive, packages: Iterable[str]) -> None:
    """Run the tasks of standard input and write the answers, or the exceptions."""
    sys.addaudithook(_only_loopback)
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # a framework's own output must not mix with the lines
    _write_line({"versions": {name: version(name) for name in packages}}, out)
    for line in sys.stdin:
        _write_line(_run_task(drive, json.loads(line)), out)


def _run_task(drive: Drive, line: dict[str, Any]) -> dict[str, object]:  # Any: JSON
    functions = tuple(getattr(tools, name) for name in line["tools"])
    tools.EXECUTIONS.clear()
    answer, error, start = None, "", perf_counter()
    try:
        answer = drive(Task(line["url"], functions, line["question"], line["stream"]))
    except Exception as raised:  # any exception is a failure of the run
        error = f"raised {type(raised).__name__}: {raised}"[:300]
    return {
        "answer": None if answer is None else str(answer),
        "executions": list(tools.EXECUTIONS),
        "error": error,
        "seconds": perf_counter() - start,
    }


def _write_line(value: object, out: Any) -> None:  # Any: a text stream
    out.write(json.dumps(value, default=str) + "\n")
    out.flush()


def _only_loopback(event: str, arguments: tuple[object, ...]) -> None:
    """Refuse connections that leave the machine: no telemetry, no downloads."""
    if event != "socket.connect":
        return
    address = arguments[1]
    if isinstance(address, tuple) and address[0] not in ("127.0.0.1", "::1", "localhost"):  # pyright: ignore[reportUnknownVariableType]
        raise PermissionError(f"the battery stays on loopback; refused: {address}")
