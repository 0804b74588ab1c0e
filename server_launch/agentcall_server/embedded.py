"""A model on this machine's own CPU, behind an OpenAI-compatible door on loopback.

    with EmbeddedServer("qwen2.5-coder-1.5b") as server:
        print(server.url, server.model)

llama.cpp runs in a process of its own (`agentcall_server.door`), so that a crash of it is an error
here and not the end of the program, and so that its memory goes when it stops. It ends with this
process, however that one ends.
"""

from __future__ import annotations

import atexit
import os
import threading
from dataclasses import dataclass, field
from pathlib import Path

from agentcall_server.catalogue import EmbeddedModel, lookup
from agentcall_server.download import fetch
from agentcall_server.process import LlamaProcess, require_runtime, start_llama_process
from agentcall_server.progress import ProgressReporter, make_progress


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
