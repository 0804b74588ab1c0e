"""Starts the door's process, waits until it is ready, and says why if it never is.

A model on this machine's own CPU, behind an OpenAI-compatible door on loopback.

    with EmbeddedServer("qwen2.5-coder-1.5b") as server:
        print(server.url, server.model)

llama.cpp runs in a process of its own (`agentcall_server.llama_server`), so a crash is an error
here and not the end of the program, and so that its memory goes when it stops. It ends with this
process, however that one ends.
"""

from __future__ import annotations

import atexit
import importlib.util
import json
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

from agentcall_server.download import fetch
from agentcall_server.downloader import make_child_environment
from agentcall_server.embedded_models import EmbeddedModel, lookup
from agentcall_server.errors import (
    BadModelFile,
    EmbeddedError,
    OutOfMemory,
    RuntimeMissing,
    ServerDied,
)
from agentcall_server.model_cache import get_cache_folder
from agentcall_server.progress import ProgressReporter, make_progress

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
    command = [
        sys.executable,
        "-m",
        "agentcall_server.llama_server",
        "--model",
        str(model),
        "--port",
        "0",
    ]
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
            f"llama.cpp cannot load {model} ({size}): {_find_error_text(tail, answer)}; delete "
            "it to "
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


class EmbeddedServer:
    """A server of one embedded model: a context manager, or `start()` and `stop()`.

    `model` is a name of the catalogue or the path of a GGUF file; without one, what
    AGENTCALL_EMBEDDED names, else the default. `context` is the window in tokens, shared by the
    `slots` that answer at the same time (further requests wait their turn).
    """

    def __init__(
        self,
        model: str | Path | None = None,
        *,
        context: int | None = None,
        threads: int | None = None,
        slots: int = 1,
        cache: Path | None = None,
        report: ProgressReporter | None = None,
    ) -> None:
        self._embedded_model = lookup(model)
        self._context = context or self._embedded_model.served_context
        self._threads = threads
        self._slots = slots
        self._cache = cache
        self._report = report
        self._process: LlamaProcess | None = None
        self._lock = threading.Lock()

    @property
    def embedded_model(self) -> EmbeddedModel:
        """The catalogue entry that is served."""
        return self._embedded_model

    @property
    def model(self) -> str:
        """The model's name, as `/v1/models` shows it."""
        return self._embedded_model.name

    @property
    def context(self) -> int:
        """The window in tokens."""
        return self._context

    @property
    def url(self) -> str:
        """The base URL of the OpenAI API, `http://127.0.0.1:PORT/v1`. Raises if not started."""
        if self._process is None:
            raise RuntimeError(f"the embedded server of {self.model} is not started; call start()")
        return f"http://127.0.0.1:{self._process.port}/v1"

    @property
    def pid(self) -> int | None:
        """The id of the server process, None if it is not started."""
        return None if self._process is None else self._process.process.pid

    @property
    def log(self) -> Path | None:
        """The file that the server process logs to, None if it is not started."""
        return None if self._process is None else self._process.log

    @property
    def is_running(self) -> bool:
        """Whether the server process is alive and belongs to this process."""
        process = self._process
        return process is not None and process.is_alive

    def start(self) -> EmbeddedServer:
        """Download the model if needed, load it and listen. Blocks; does nothing if it runs.

        Raises RuntimeMissing, DownloadError, BadModelFile, OutOfMemory, ServerDied.
        """
        with self._lock:
            if not self.is_running:
                self._stop_process()  # what is left of one that has died
                self._process = self._start_process()
        return self

    def stop(self) -> None:
        """End the server process; nothing if it does not run."""
        with self._lock:
            self._stop_process()

    def _stop_process(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            atexit.unregister(self.stop)
            process.stop()

    def _start_process(self) -> LlamaProcess:
        require_runtime()
        report = self._report or make_progress()
        path = fetch(self._embedded_model, cache=self._cache, report=report)
        options = ["--alias", self.model, "--context", str(self._context)]
        options += ["--slots", str(self._slots)]
        if self._threads is not None:
            options += ["--threads", str(self._threads)]
        process = start_llama_process(path, options, cache=self._cache, report=report)
        atexit.register(self.stop)
        return process

    def __enter__(self) -> EmbeddedServer:
        return self.start()

    def __exit__(self, *_error: object) -> None:
        self.stop()


@dataclass(slots=True)
class _ServerPool:
    """The servers of this process by model; a process forked off it has none of its own."""

    servers: dict[tuple[int, str], EmbeddedServer] = field(
        default_factory=dict[tuple[int, str], EmbeddedServer]
    )
    lock: threading.Lock = field(default_factory=threading.Lock)

    def get_server(self, model: EmbeddedModel, report: ProgressReporter | None) -> EmbeddedServer:
        key = os.getpid(), str(model.local_path or model.name)
        with self.lock:
            if key not in self.servers:
                wanted = model.local_path or model.name
                self.servers[key] = EmbeddedServer(wanted, report=report)
            return self.servers[key]


_pool = _ServerPool()


def ensure(
    name: str | Path | None = None, *, report: ProgressReporter | None = None
) -> EmbeddedServer:
    """The running server of that model in this process, started (and downloaded) if needed.

    Blocks while it downloads and loads; any number of threads may ask at the same time, and one
    server comes of it. It stops when the process ends, or by `stop()`. Raises what `lookup` and
    `EmbeddedServer.start` raise.
    """
    return _pool.get_server(lookup(name), report).start()
