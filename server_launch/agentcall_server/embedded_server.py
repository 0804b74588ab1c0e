"""A model on this machine's CPU, behind an OpenAI-compatible server on loopback.

    with EmbeddedServer("qwen2.5-coder-1.5b") as server:
        print(server.url, server.model)

llama.cpp runs in a process of its own (`agentcall_server.llama_server`), so that a crash is an
error and not the end of the program, and its memory is freed when it stops. It ends with this
process, even if this process is killed; `shared_server` has one that several programs share.
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
from collections.abc import Callable, Mapping
from pathlib import Path

from agentcall_server.download import fetch
from agentcall_server.embedded_models import EmbeddedModel, lookup
from agentcall_server.errors import (
    BadModelFile,
    EmbeddedError,
    OutOfMemory,
    RuntimeMissing,
    ServerDied,
)
from agentcall_server.extras import describe_missing_extra, format_install_command
from agentcall_server.model_cache import get_cache_folder
from agentcall_server.processes import make_child_environment
from agentcall_server.progress import ProgressReporter, make_progress

MAX_LOGS = 20
LOG_TAIL_LINES = 8
REPORT_SECONDS = 5.0
_SILENT_SECONDS = 0.2
"""A model that is ready within this time was loaded already."""
_OUT_OF_MEMORY_TEXTS = (
    "failed to allocate",
    "bad_alloc",
    "out of memory",
    "cannot allocate memory",
)


class EmbeddedServer:
    """A server of one embedded model: a context manager, or `start()` and `stop()`.

    `model` is a name in the catalogue or the path of a GGUF file; the default is the value of
    AGENTCALL_EMBEDDED, else the catalogue's default. `context` is the window in tokens, shared by
    the `slots` requests that are answered at the same time; further requests wait.
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
        self._process: subprocess.Popen[bytes] | None = None
        self._port = 0
        self._log: Path | None = None
        self._owner_pid = 0
        self._lock = threading.Lock()

    @property
    def embedded_model(self) -> EmbeddedModel:
        """The catalogue entry of the model."""
        return self._embedded_model

    @property
    def model(self) -> str:
        """The name of the model in `/v1/models`."""
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
        return f"http://127.0.0.1:{self._port}/v1"

    @property
    def pid(self) -> int | None:
        """The ID of the server process, None if it is not started."""
        return None if self._process is None else self._process.pid

    @property
    def log(self) -> Path | None:
        """The log file of the server process, None if it is not started."""
        return None if self._process is None else self._log

    @property
    def is_running(self) -> bool:
        """Whether the server process is alive and was not started by a parent of a fork."""
        process = self._process
        return process is not None and self._owner_pid == os.getpid() and process.poll() is None

    def start(self) -> EmbeddedServer:
        """Download the model if needed, load it and listen. Blocks; does nothing if it runs.

        Raises RuntimeMissing, DownloadError, BadModelFile, OutOfMemory, ServerDied.
        """
        with self._lock:
            if not self.is_running:
                self._stop_process()  # release what remains of a process that has died
                self._start_process()
                atexit.register(self.stop)
        return self

    def stop(self) -> None:
        """Stop the server process; do nothing if it is not running."""
        with self._lock:
            self._stop_process()

    def _stop_process(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            atexit.unregister(self.stop)
            if self._owner_pid == os.getpid():
                _end_process(process)

    def _start_process(self) -> None:
        require_runtime()
        report = self._report or make_progress()
        file = fetch(self._embedded_model, cache=self._cache, report=report)
        require_gguf(file)
        log = create_log((self._cache or get_cache_folder()) / "logs", file.stem)
        command = [sys.executable, "-m", "agentcall_server.llama_server", "--model", str(file)]
        command += ["--port", "0", "--alias", self.model, "--context", str(self._context)]
        command += ["--slots", str(self._slots)]
        if self._threads is not None:
            command += ["--threads", str(self._threads)]
        with log.open("wb") as errors:
            process = subprocess.Popen(  # noqa: S603  (a fixed command, no shell)
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                cwd=log.parent,
                env={**make_child_environment(), "OMP_WAIT_POLICY": "passive"},
                start_new_session=True,  # Ctrl-C is for the program, not for its model
            )
        try:
            answer = wait_for_load(lambda: _read_line(process), file.stem, report)
            if "port" not in answer:
                raise make_start_error(file, process.wait(), answer, log)
        except BaseException:
            _end_process(process)
            raise
        self._process, self._owner_pid = process, os.getpid()
        self._port, self._log = int(str(answer["port"])), log

    def __enter__(self) -> EmbeddedServer:
        return self.start()

    def __exit__(self, *_error: object) -> None:
        self.stop()


def require_runtime() -> None:
    """Raise RuntimeMissing unless llama.cpp's wheel is installed."""
    if importlib.util.find_spec("xllamacpp") is None:
        raise RuntimeMissing(describe_missing_extra("the embedded model", "embedded", "xllamacpp"))


def wait_for_load(
    read_outcome: Callable[[], Mapping[str, object]], name: str, report: ProgressReporter
) -> Mapping[str, object]:
    """Return what a blocking call returns, and report meanwhile that the model is loading."""
    start = time.monotonic()
    outcomes: list[Mapping[str, object]] = []
    reader = threading.Thread(target=lambda: outcomes.append(read_outcome()), daemon=True)
    reader.start()
    reader.join(_SILENT_SECONDS)
    if not reader.is_alive() and outcomes:
        return outcomes[0]
    report.say(f"loading {name} ...")
    while reader.is_alive():
        reader.join(REPORT_SECONDS)
        if reader.is_alive():
            report.say(f"loading {name} ... {time.monotonic() - start:.0f} s")
    if outcomes and "port" in outcomes[0]:
        report.say(f"loaded {name} in {time.monotonic() - start:.1f} s")
    return outcomes[0] if outcomes else {}


def _read_line(process: subprocess.Popen[bytes]) -> Mapping[str, object]:
    """Return the process's one line of output, or {} if it ended without one."""
    line = process.stdout.readline() if process.stdout is not None else b""
    return json.loads(line) if line else {}


def make_start_error(
    model: Path, code: int | None, answer: Mapping[str, object], log: Path
) -> EmbeddedError:
    """Return why a server process could not serve; `code` is None if it was started elsewhere."""
    tail = log.read_text(encoding="utf-8", errors="replace").splitlines()
    size = f"{model.stat().st_size / 1e9:.1f} GB"
    is_killed = code == -getattr(signal, "SIGKILL", 9)
    if is_killed or any(text in line.lower() for line in tail for text in _OUT_OF_MEMORY_TEXTS):
        return OutOfMemory(
            f"{model} ({size}) does not fit into memory; close other programs, give a smaller "
            f"context, or use a smaller model; log: {log}"
        )
    if answer.get("failed") == "runtime":
        return RuntimeMissing(
            f"xllamacpp, which the embedded model needs, cannot be imported: {answer.get('why')}. "
            f"To install it anew: {format_install_command('embedded')}"
        )
    if answer.get("failed") == "model":
        errors = [line.partition(" E ")[2] for line in tail if " E " in line]
        reason = errors[0] if errors else answer.get("why")
        return BadModelFile(
            f"llama.cpp cannot load {model} ({size}): {reason}; delete it to have it downloaded "
            f"again, or give another GGUF file; log: {log}"
        )
    last = "\n".join(f"  {line}" for line in tail[-LOG_TAIL_LINES:]) or "  (nothing)"
    return ServerDied(
        f"the server of {model} ended with code {code} before it was ready; "
        f"the last lines of its log ({log}):\n{last}"
    )


def require_gguf(file: Path) -> None:
    """Raise BadModelFile unless the file begins as a GGUF file does."""
    with file.open("rb") as stream:
        magic = stream.read(4)
    if magic != b"GGUF":
        raise BadModelFile(
            f"{file} is not a GGUF file: it begins with {magic!r}; give the path of a file that "
            f"llama.cpp can load"
        )


def create_log(folder: Path, name: str) -> Path:
    """Return a new log file of this process; delete the oldest ones."""
    folder.mkdir(parents=True, exist_ok=True)
    logs = sorted(folder.glob("*.log"), key=_read_modified_time)
    for old in logs[: max(0, len(logs) - MAX_LOGS + 1)]:
        old.unlink(missing_ok=True)
    return folder / f"{name}-{os.getpid()}-{time.time_ns()}.log"


def _read_modified_time(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:  # deleted meanwhile by another process
        return 0.0


def _end_process(process: subprocess.Popen[bytes]) -> None:
    """End the process by closing its input, or kill it if it does not end in time."""
    if process.stdin is not None:
        process.stdin.close()
    try:
        process.wait(timeout=3.0)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    if process.stdout is not None:
        process.stdout.close()
