"""The embedded model's server that all programs of this user share, and that outlives them a while.

    server = ensure("qwen2.5-coder-1.5b")
    print(server.url, server.model)

Loading the model takes seconds, and reading an agent's instructions more. The server of one program
is therefore kept for the next, for `AGENTCALL_KEEP_ALIVE` after the last one has ended (5 minutes
by default), as Ollama does. It is a process group of its own, listens on loopback with a key, and
ends by itself (see `leases`). A server with other options, or of another version, is replaced.
"""

from __future__ import annotations

import atexit
import hashlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal

from agentcall_server.download import fetch
from agentcall_server.embedded_models import EmbeddedModel, lookup
from agentcall_server.embedded_server import (
    create_log,
    make_start_error,
    require_gguf,
    require_runtime,
    wait_for_load,
)
from agentcall_server.errors import EmbeddedError
from agentcall_server.leases import Lease, LeaseLost, ServerState, load_state
from agentcall_server.model_cache import get_cache_folder, hold_lock
from agentcall_server.processes import make_child_environment
from agentcall_server.progress import ProgressReporter, make_progress
from agentcall_server.units import parse_duration

KEEP_ALIVE_VARIABLE = "AGENTCALL_KEEP_ALIVE"
KEEP_ALIVE_SECONDS = 300.0
_PROTOCOL = 2
"""Incremented when a program of one version cannot use the server of another."""
_END_SECONDS = 5.0

ServerPhase = Literal["stopped", "fetching", "loading", "ready"]


def get_keep_alive() -> float:
    """Return the seconds of AGENTCALL_KEEP_ALIVE, else KEEP_ALIVE_SECONDS. Raises BadValue."""
    text = os.environ.get(KEEP_ALIVE_VARIABLE, "").strip()
    return parse_duration(text) if text else KEEP_ALIVE_SECONDS


class SharedServer:
    """This program's share of a server: `start()` joins or starts it, `stop()` gives it back.

    keep_alive: seconds that the server waits for the next program; None reads
        AGENTCALL_KEEP_ALIVE, 0 ends it with its last program.
    phase: what `start()` is doing; `fetched` are the bytes of the model that have arrived, and all.
    """

    def __init__(
        self,
        model: str | Path | None = None,
        *,
        keep_alive: float | None = None,
        context: int | None = None,
        cache: Path | None = None,
        report: ProgressReporter | None = None,
    ) -> None:
        self._embedded_model = lookup(model)
        self._context = context or self._embedded_model.served_context
        self._keep_alive = get_keep_alive() if keep_alive is None else keep_alive
        self._cache = cache or get_cache_folder()
        self._report = report
        self._lease: Lease | None = None
        self._state: ServerState | None = None
        self._port = 0
        self._log = Path()
        self._lock = threading.Lock()
        self.phase: ServerPhase = "stopped"
        self.fetched: tuple[int, int | None] = (0, self._embedded_model.size)

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
        if self._lease is None:
            raise RuntimeError(f"the embedded server of {self.model} is not started; call start()")
        return f"http://127.0.0.1:{self._port}/v1"

    @property
    def api_key(self) -> str:
        """The key of the API; empty if not started."""
        return "" if self._state is None else self._state.key

    @property
    def pid(self) -> int | None:
        """The ID of the server process, None if not started."""
        return None if self._state is None else self._state.pid

    @property
    def log(self) -> Path | None:
        """The log file of the server process, None if not started."""
        return None if self._state is None else Path(self._state.log)

    @property
    def is_running(self) -> bool:
        """Whether this program holds a lease of a server that is alive."""
        lease = self._lease
        return lease is not None and lease.is_held

    def start(self) -> SharedServer:
        """Join the running server, or download the model, load it and listen. Blocks.

        Raises RuntimeMissing, DownloadError, BadModelFile, OutOfMemory, ServerDied.
        """
        with self._lock:
            if not self.is_running:
                self._release()
                try:
                    self._acquire()
                except BaseException:
                    self._release()
                    raise
                atexit.register(self.stop)
                self.phase = "ready"
        return self

    def stop(self) -> None:
        """Give the lease back; do nothing if there is none."""
        with self._lock:
            self._release()

    def read_prompt(self, messages: object) -> Iterator[tuple[int, int]]:
        """Have the server read the messages that conversations begin with, or load their state.

        Yields the tokens read, and all. Does nothing if the server has read them. Blocks.
        """
        if self._lease is not None:
            yield from self._lease.read_prompt(messages)

    def _release(self) -> None:
        lease, self._lease = self._lease, None
        self._state, self.phase = None, "stopped"
        if lease is not None:
            atexit.unregister(self.stop)
            lease.close()

    def _acquire(self) -> None:
        require_runtime()
        report = self._report or make_progress()
        self.phase = "fetching"
        file = fetch(self._embedded_model, cache=self._cache, report=_FetchReport(self, report))
        self.phase = "loading"
        require_gguf(file)
        folder = self._cache / "servers"
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        state_file = folder / f"{file.stem}-{_digest(str(file))}.json"
        flags = self._describe_flags(file)
        with hold_lock(state_file.with_suffix(".lock"), lambda: report.say("waiting for a server")):
            process = None
            lease = self._join(state_file, flags)
            if lease is None:
                process = self._start_process(file, state_file, flags)
                lease = self._join(state_file, flags)
        if lease is None:
            raise self._make_error(file, process, {})
        self._lease = lease
        outcome = wait_for_load(lease.wait_until_ready, file.stem, report)
        if "port" not in outcome:
            raise self._make_error(file, process, outcome)
        self._port = int(str(outcome["port"]))

    def _join(self, state_file: Path, flags: str) -> Lease | None:
        """Return a lease of the running server; None if there is none, or one with other flags."""
        state = load_state(state_file)
        if state is None:
            return None
        try:
            lease = Lease(state, self._keep_alive)
        except LeaseLost:
            return None
        if state.flags == flags:
            self._state = state
            return lease
        lease.retire()
        lease.close()
        return None

    def _describe_flags(self, file: Path) -> str:
        try:
            runtime = version("xllamacpp")
        except PackageNotFoundError:  # a copy that is not installed
            runtime = ""
        stat = file.stat()
        flags = [_PROTOCOL, runtime, str(file), stat.st_size, stat.st_mtime_ns, self._context]
        return json.dumps(flags)

    def _start_process(self, file: Path, state_file: Path, flags: str) -> subprocess.Popen[bytes]:
        """Start the server process and wait until it has written its state file, or has ended."""
        log = self._log = create_log(self._cache / "logs", file.stem)
        command = [sys.executable, "-m", "agentcall_server.llama_server", "--model", str(file)]
        command += ["--alias", self.model, "--context", str(self._context)]
        command += ["--state", str(state_file), "--flags", flags]
        command += ["--states", str(self._cache / "prompts"), "--log", str(log)]
        command += ["--keep-alive", str(self._keep_alive)]
        with log.open("wb") as errors:
            process = subprocess.Popen(  # noqa: S603  (a fixed command, no shell)
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=errors,
                cwd=log.parent,
                env={**make_child_environment(), "OMP_WAIT_POLICY": "passive"},
                start_new_session=True,  # it outlives this program and its terminal
            )
        if process.stdout is not None:
            with process.stdout:
                process.stdout.readline()
        # reaps the process when it ends before this program
        threading.Thread(target=process.wait, daemon=True).start()
        return process

    def _make_error(
        self,
        file: Path,
        process: subprocess.Popen[bytes] | None,
        outcome: Mapping[str, object],
    ) -> EmbeddedError:
        code: int | None = None
        if process is not None:
            with suppress(subprocess.TimeoutExpired):
                code = process.wait(_END_SECONDS)
        log = self._log if self._state is None else Path(self._state.log)
        return make_start_error(file, code, outcome, log)


class _FetchReport:
    """Passes the progress of a download on, and keeps it in the server's `fetched`."""

    def __init__(self, server: SharedServer, report: ProgressReporter) -> None:
        self._server = server
        self._report = report

    def say(self, text: str) -> None:
        self._report.say(text)

    def advance(self, done: int, total: int | None) -> None:
        self._server.fetched = (done, total)
        self._report.advance(done, total)

    def wait(self, text: str) -> None:
        self._report.wait(text)


# a forked process shares no lease with its parent, hence the process ID in the key
_servers: dict[tuple[int, str], SharedServer] = {}
_servers_lock = threading.Lock()


def find_shared(
    name: str | Path | None = None, *, report: ProgressReporter | None = None
) -> SharedServer:
    """Return this process's share of a model's server, started or not. Raises UnknownModelName."""
    model = lookup(name)
    source = model.local_path or model.name
    with _servers_lock:
        key = os.getpid(), str(source)
        return _servers.setdefault(key, SharedServer(source, report=report))


def ensure(
    name: str | Path | None = None, *, report: ProgressReporter | None = None
) -> SharedServer:
    """Return this process's share of a model's server, started (and downloaded) if needed.

    Blocks while the model is downloaded and loaded. May be called from several threads at once,
    which share one lease. Raises the errors of `lookup` and `SharedServer.start`.
    """
    return find_shared(name, report=report).start()


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:8]
