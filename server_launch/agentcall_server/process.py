"""Starts the door's process, waits until it is ready, and says why if it never is."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from agentcall_server.courier import make_child_environment
from agentcall_server.errors import (
    BadModelFile,
    EmbeddedError,
    OutOfMemory,
    RuntimeMissing,
    ServerDied,
)
from agentcall_server.progress import ProgressReporter
from agentcall_server.store import get_cache_folder

INSTALL_COMMAND = "pip install 'agentcall[embedded]'"
MAX_LOGS = 20
LOG_TAIL_LINES = 8
REPORT_SECONDS = 5.0
_OUT_OF_MEMORY_TEXTS = (
    "failed to allocate",
    "bad_alloc",
    "out of memory",
    "cannot allocate memory",
)


@dataclass(frozen=True, slots=True)
class LlamaProcess:
    """A door that listens. Only the process that opened it may stop it."""

    process: subprocess.Popen[bytes]
    port: int
    log: Path
    owner_pid: int

    @property
    def is_alive(self) -> bool:
        """Whether it runs and is ours (a forked process holds a copy that is not)."""
        return self.owner_pid == os.getpid() and self.process.poll() is None

    def stop(self) -> None:
        """End it: its input ends, and if that is not enough it is killed."""
        if self.owner_pid == os.getpid():
            _end_process(self.process)


def require_runtime() -> None:
    """Raise RuntimeMissing unless llama.cpp's wheel is installed."""
    if importlib.util.find_spec("xllamacpp") is None:
        raise _make_runtime_missing("xllamacpp is not installed")


def start_llama_process(
    model: Path, options: list[str], *, cache: Path | None, report: ProgressReporter
) -> LlamaProcess:
    """Serve the file; returns when it answers. Raises an EmbeddedError."""
    _require_gguf(model)
    log = _create_log((cache or get_cache_folder()) / "logs", model.stem)
    process = _spawn(model, options, log)
    try:
        answer = _wait_for_ready_line(process, model.stem, report)
        if "port" not in answer:
            raise _make_error(model, process, answer, log)
    except BaseException:
        _end_process(process)
        raise
    return LlamaProcess(process, int(str(answer["port"])), log, os.getpid())


def _spawn(model: Path, options: list[str], log: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "agentcall_server.door", "--model", str(model), "--port", "0"]
    with log.open("wb") as errors:
        return subprocess.Popen(  # noqa: S603  (a fixed command, no shell)
            command + options,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            cwd=log.parent,
            env={**make_child_environment(), "OMP_WAIT_POLICY": "passive"},
            start_new_session=True,  # Ctrl-C is for the program, not for its model
        )


def _wait_for_ready_line(
    process: subprocess.Popen[bytes], name: str, report: ProgressReporter
) -> dict[str, object]:
    """The one line that the door says, or {} if it ended without."""
    started = time.monotonic()
    lines: list[bytes] = []
    reader = threading.Thread(target=_read_line, args=(process, lines), daemon=True)
    reader.start()
    report.say(f"loading {name} ...")
    while reader.is_alive():
        reader.join(REPORT_SECONDS)
        seconds = time.monotonic() - started
        if reader.is_alive():
            report.say(f"loading {name} ... {seconds:.0f} s")
    if not lines or not lines[0]:
        process.wait()
        return {}
    report.say(f"loaded {name} in {time.monotonic() - started:.1f} s")
    answer: dict[str, object] = json.loads(lines[0])
    return answer


def _read_line(process: subprocess.Popen[bytes], lines: list[bytes]) -> None:
    if process.stdout is not None:
        lines.append(process.stdout.readline())


def _make_error(
    model: Path, process: subprocess.Popen[bytes], answer: dict[str, object], log: Path
) -> EmbeddedError:
    tail = log.read_text(encoding="utf-8", errors="replace").splitlines()
    size = f"{model.stat().st_size / 1e9:.1f} GB"
    killed = process.poll() == -getattr(signal, "SIGKILL", 9)
    if killed or any(word in line.lower() for line in tail for word in _OUT_OF_MEMORY_TEXTS):
        return OutOfMemory(
            f"{model} ({size}) does not fit into memory; close other programs, give a smaller "
            f"context, or take a smaller model; log: {log}"
        )
    if answer.get("failed") == "runtime":
        return _make_runtime_missing(f"xllamacpp cannot be imported: {answer.get('why')}")
    if answer.get("failed") == "model":
        return BadModelFile(
            f"llama.cpp cannot load {model} ({size}): {_find_error_text(tail, answer)}; delete it to "
            f"have it downloaded again, or name another GGUF file; log: {log}"
        )
    last = "\n".join(f"  {line}" for line in tail[-LOG_TAIL_LINES:]) or "  (nothing)"
    return ServerDied(
        f"the server of {model} ended with code {process.poll()} before it was ready; "
        f"the last lines of its log ({log}):\n{last}"
    )


def _find_error_text(tail: list[str], answer: dict[str, object]) -> str:
    errors = [line.partition(" E ")[2] for line in tail if " E " in line]
    return errors[0] if errors else str(answer.get("why"))


def _make_runtime_missing(reason: str) -> RuntimeMissing:
    return RuntimeMissing(f"{reason}; the embedded model needs it: {INSTALL_COMMAND}")


def _require_gguf(model: Path) -> None:
    with model.open("rb") as stream:
        magic = stream.read(4)
    if magic != b"GGUF":
        raise BadModelFile(
            f"{model} is not a GGUF file: it begins with {magic!r}; give the path of a file that "
            f"llama.cpp can load"
        )


def _create_log(folder: Path, name: str) -> Path:
    """A log file of this process; the oldest ones go."""
    folder.mkdir(parents=True, exist_ok=True)
    logs = sorted(folder.glob("*.log"), key=_read_modified_time)
    for old in logs[: max(0, len(logs) - MAX_LOGS + 1)]:
        old.unlink(missing_ok=True)
    return folder / f"{name}-{os.getpid()}-{time.time_ns()}.log"


def _read_modified_time(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0


def _end_process(process: subprocess.Popen[bytes]) -> None:
    if process.stdin is not None:
        process.stdin.close()
    try:
        process.wait(timeout=3.0)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    if process.stdout is not None:
        process.stdout.close()
