"""The process that keeps one server running: starts it, checks its health and restarts it.

    python -m agentcall_server.supervisor FOLDER

It outlives the command that launched it, unless the server belongs to a program. Rules:

1. A folder has one supervisor, which holds the folder's lock as long as it runs.
2. A server that ends before it was ever ready is not restarted: nobody has used it yet, and the
   command that launched it reports the diagnosis.
3. A server that was ready is restarted after 1, 2, 4, ... seconds, at most 60. After five exits
   without a minute of readiness before any of them, the supervisor gives up.
4. SIGTERM ends the supervisor and its server. A server is a process group and ends as one.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from pathlib import Path

from agentcall_server.diagnosis import EndReason, ExitInfo, diagnose
from agentcall_server.log_file import LogFile
from agentcall_server.memory_advice import add_memory_advice
from agentcall_server.model_cache import hold_lock
from agentcall_server.ports import reserve_port
from agentcall_server.processes import (
    ProcessIdentity,
    call_when_parent_ends,
    end_group,
    identify_process,
    make_child_environment,
    make_program_environment,
    start_group,
)
from agentcall_server.server_registry import ServerEntry, Status, Wanted

POLL_SECONDS = 0.2
"""Seconds between two checks of a server that is loading."""


@dataclass(frozen=True, slots=True)
class RestartPolicy:
    """When to restart a server and when to give up. Times in seconds.

    first_wait, max_wait: delay of the first restart, and the longest delay.
    max_failures: number of exits in a row after which the supervisor gives up.
    stable_seconds: a server that was ready for that time starts a new count of exits.
    check_seconds: time between two health checks of a server that is ready.
    max_unhealthy: number of health checks in a row that report a dead engine before a restart.
    """

    first_wait: float = 1.0
    max_wait: float = 60.0
    max_failures: int = 5
    stable_seconds: float = 60.0
    check_seconds: float = 10.0
    max_unhealthy: int = 3

    def compute_wait(self, failures: int) -> float | None:
        """Return the delay after `failures` exits in a row; None to give up.

        >>> [RestartPolicy().compute_wait(failures) for failures in (1, 2, 5)]
        [1.0, 2.0, None]
        """
        if failures >= self.max_failures:
            return None
        return float(min(self.max_wait, self.first_wait * 2 ** (failures - 1)))


class Supervisor:
    """Keeps the server of a folder running until it is stopped or gives up."""

    def __init__(
        self,
        entry: ServerEntry,
        wanted: Wanted,
        identity: ProcessIdentity,
        policy: RestartPolicy | None = None,
    ) -> None:
        self._entry = entry
        self._wanted = wanted
        self._endpoint = entry.endpoint
        self._log = LogFile(entry.log, secrets=[entry.read_key()])
        self._stop = threading.Event()
        self._policy = policy or RestartPolicy()
        self._ready_since: float | None = None
        self._status = Status("starting", identity, time.time())

    def stop(self) -> None:
        """Request the end; may be called from a thread or a signal handler."""
        self._stop.set()

    def run(self) -> bool:
        """Run until it is stopped (True) or gives up (False)."""
        try:
            return self._run()
        finally:
            self._log.close()

    def _run(self) -> bool:
        failures, was_ready = 0, False
        while not self._stop.is_set():
            exit_info = self._run_once()
            if self._stop.is_set():
                break
            since = self._ready_since
            was_ready = was_ready or since is not None
            is_stable = (
                since is not None and time.monotonic() - since >= self._policy.stable_seconds
            )
            failures = 1 if is_stable else failures + 1
            wait = self._policy.compute_wait(failures) if was_ready else None
            diagnosis = add_memory_advice(diagnose(exit_info), exit_info, self._entry.launch)
            status = replace(self._status, server=None, progress="", diagnosis=diagnosis)
            if wait is None:
                self._save_status(replace(status, phase="failed"))
                return False
            restarts = status.restarts + 1
            self._save_status(replace(status, phase="restarting", restarts=restarts))
            self._stop.wait(wait)
        self._save_status(replace(self._status, phase="stopped", server=None, progress=""))
        return True

    def _run_once(self) -> ExitInfo:
        """Run the server once, from its start to its end."""
        self._ready_since = None
        run = _ServerRun(self._wanted, self._log)
        reason: EndReason = ""
        engine_error = ""
        try:
            self._save_status(
                replace(self._status, phase="starting", server=run.identity, model="", progress="")
            )
            reason, engine_error = self._watch(run)
            if self._stop.is_set():
                self._save_status(replace(self._status, phase="stopping"))
        finally:
            exit_info = run.stop(reason, engine_error)
        return exit_info

    def _watch(self, run: _ServerRun) -> tuple[EndReason, str]:
        """Wait for the end, or for a reason to end it; return the reason and the engine's error."""
        if not self._wait_until_ready(run):
            return ("", "") if run.has_exited or self._stop.is_set() else ("hung", "")
        unhealthy = 0
        while not self._wait_for_end(run, self._policy.check_seconds):
            engine_error = self._endpoint.engine_error
            unhealthy = unhealthy + 1 if engine_error else 0
            if unhealthy >= self._policy.max_unhealthy:
                return "unwell", engine_error
        return "", ""

    def _wait_until_ready(self, run: _ServerRun) -> bool:
        """Return whether the server became ready in time."""
        start = time.monotonic()
        while time.monotonic() - start < self._wanted.patience:
            if self._wait_for_end(run, POLL_SECONDS):
                return False
            if models := self._endpoint.served_models:
                self._ready_since = time.monotonic()
                self._save_status(
                    replace(self._status, phase="ready", model=models[0], progress="")
                )
                return True
            if run.last_line != self._status.progress:
                self._save_status(replace(self._status, progress=run.last_line))
        return False

    def _wait_for_end(self, run: _ServerRun, seconds: float) -> bool:
        """Return whether the server ends, or `stop` is called, within `seconds`."""
        end = time.monotonic() + seconds
        while not run.has_exited:
            if self._stop.wait(min(POLL_SECONDS, max(0.0, end - time.monotonic()))):
                return True
            if time.monotonic() >= end:
                return False
        return True

    def _save_status(self, status: Status) -> None:
        if status.phase != self._status.phase:
            status = replace(status, since=time.time())
        self._status = status
        self._entry.save(status)


class _ServerRun:
    """One run of a server: its process group, and the thread that copies its output to the log."""

    def __init__(self, wanted: Wanted, log: LogFile) -> None:
        self._log = log
        self.last_line = ""
        """The last line of output, as a terminal would show it."""
        is_ours = wanted.kind == "embedded"
        environment = make_child_environment() if is_ours else make_program_environment()
        environment.pop("AGENTCALL_API_KEY", None)  # it is the key of other servers
        environment["PYTHONUNBUFFERED"] = "1"
        self._process = start_group(
            wanted.command, environment=environment, folder=Path(wanted.folder)
        )
        now = time.strftime("%Y-%m-%d %H:%M:%S")
        log.start_run(f"--- {now} pid {self._process.pid}: {' '.join(wanted.command)}")
        self._thread = threading.Thread(
            target=self._copy_output, args=(self._process,), daemon=True
        )
        self._thread.start()

    @property
    def identity(self) -> ProcessIdentity | None:
        """The process, while it runs."""
        return identify_process(self._process.pid)

    @property
    def has_exited(self) -> bool:
        """Whether it has ended by itself."""
        return self._process.poll() is not None

    def stop(self, reason: EndReason, engine_error: str) -> ExitInfo:
        """End the process group if it still runs, and return how it ended."""
        end_group(self._process)
        self._thread.join(timeout=5.0)
        return ExitInfo(self._process.returncode, tuple(self._log.lines), reason, engine_error)

    def _copy_output(self, process: subprocess.Popen[bytes]) -> None:
        if process.stdout is None:
            return
        with process.stdout as stream:
            while data := os.read(stream.fileno(), 1 << 16):
                self.last_line = self._log.write(data) or self.last_line


def main() -> None:
    """Supervise the server of the folder that the argument names."""
    entry = ServerEntry(Path(sys.argv[1]))
    wanted = entry.wanted
    if wanted is None:
        raise SystemExit(f"{entry.folder} has no wanted.json")
    if not wanted.leashed and os.fork():
        os._exit(0)  # the launching command then has no child to wait for
    identity = identify_process(os.getpid())
    if identity is None:
        raise SystemExit("this system provides neither /proc nor ps")
    supervisor = Supervisor(entry, wanted, identity)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda _number, _frame: supervisor.stop())
    if wanted.leashed:
        call_when_parent_ends(supervisor.stop)
    with ExitStack() as stack:
        stack.enter_context(hold_lock(entry.folder / "lock", lambda: None))
        with suppress(OSError):  # if the port is taken, the server's own log has the reason
            stack.enter_context(reserve_port(wanted.host, wanted.port))
        was_stopped = supervisor.run()
    if wanted.leashed and was_stopped:
        shutil.rmtree(entry.folder, ignore_errors=True)


if __name__ == "__main__":
    main()
