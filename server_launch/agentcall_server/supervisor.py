"""The process that keeps one server up: starts it, watches it, starts it anew.

    python -m agentcall_server.supervisor FOLDER

It outlives the command that launched it, except on a leash. Rules:

1. One supervisor a folder: it holds the folder's lock for as long as it lives.
2. A server that ends before it was ever ready is not started again: nobody has used it yet, and
   whoever launched it reads the diagnosis.
3. One that was ready is started again, after 1, 2, 4, ... seconds, at most 60. After five deaths
   none of which was preceded by a minute of being ready, it is given up.
4. SIGTERM to the supervisor stops both. A server is a process group of its own, and ends as one.
"""

from __future__ import annotations

import os
import shutil
import signal
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
from agentcall_server.parent_watch import call_when_parent_ends
from agentcall_server.ports import reserve_port
from agentcall_server.process_identity import ProcessIdentity, identify_process
from agentcall_server.process_run import ProcessRun
from agentcall_server.server_registry import ServerEntry, Status, Wanted

POLL_SECONDS = 0.2
"""Seconds between two looks at a server that loads."""


@dataclass(frozen=True, slots=True)
class RestartPolicy:
    """When to start anew, when to give up, and how often to look. Times in seconds.

    first, most: waits before a new start. deaths: so many in a row are the end. sound: ready for
    so long, and deaths are past. look: between two looks at the health of a server that is ready.
    unwell: so many looks in a row that find its engine dead, and it is started anew.
    """

    first_wait: float = 1.0
    max_wait: float = 60.0
    max_failures: int = 5
    stable_seconds: float = 60.0
    check_seconds: float = 10.0
    max_unhealthy: int = 3

    def compute_wait(self, failures: int) -> float | None:
        """Seconds after so many deaths in a row; None to give up.

        >>> [Policy().wait(deaths) for deaths in (1, 2, 5)]
        [1.0, 2.0, None]
        """
        if failures >= self.max_failures:
            return None
        return float(min(self.max_wait, self.first_wait * 2 ** (failures - 1)))


class Supervisor:
    """Keeps what a folder wants up, until it is told to stop or gives up."""

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
        """Have it end soon; may be called from a thread or a signal handler."""
        self._stop.set()

    def run(self) -> bool:
        """Until it is stopped (True), or the server is given up (False)."""
        try:
            return self._run()
        finally:
            self._log.close()

    def _run(self) -> bool:
        deaths, was_ready = 0, False
        while not self._stop.is_set():
            death = self._run_once()
            if self._stop.is_set():
                break
            was_ready = was_ready or self._ready_since is not None
            deaths = 1 if self._was_stable() else deaths + 1
            wait = self._policy.compute_wait(deaths) if was_ready else None
            self._record_exit(death, will_restart=wait is not None)
            if wait is None:
                return False
            self._stop.wait(wait)
        self._save_status(replace(self._status, phase="stopped", server=None, progress=""))
        return True

    def _run_once(self) -> ExitInfo:
        """One life of the server, from its start to its end."""
        self._ready_since = None
        life = ProcessRun(self._wanted, self._log)
        reason: EndReason = ""
        complaint = ""
        try:
            fresh = replace(self._status, phase="starting", model="", progress="")
            self._save_status(replace(fresh, server=life.identity))
            reason, complaint = self._watch_process(life)
            if self._stop.is_set():
                self._save_status(replace(self._status, phase="stopping"))
        finally:
            death = life.stop(reason, complaint)
        return death

    def _watch_process(self, process_run: ProcessRun) -> tuple[EndReason, str]:
        """Until it ends, we are told to stop, or it has to be ended: then why, in whose words."""
        if not self._wait_until_ready(process_run):
            return ("", "") if process_run.has_exited or self._stop.is_set() else ("hung", "")
        unwell = 0
        while not self._wait_for_end(process_run, self._policy.check_seconds):
            complaint = self._endpoint.engine_error
            unwell = unwell + 1 if complaint else 0
            if unwell >= self._policy.max_unhealthy:
                return "unwell", complaint
        return "", ""

    def _wait_until_ready(self, process_run: ProcessRun) -> bool:
        """Whether it came to be ready, in time."""
        begun = time.monotonic()
        while time.monotonic() - begun < self._wanted.patience:
            if self._wait_for_end(process_run, POLL_SECONDS):
                return False
            if served := self._endpoint.served_models:
                self._ready_since = time.monotonic()
                self._save_status(
                    replace(self._status, phase="ready", model=served[0], progress="")
                )
                return True
            if process_run.last_line != self._status.progress:
                self._save_status(replace(self._status, progress=process_run.last_line))
        return False

    def _wait_for_end(self, process_run: ProcessRun, seconds: float) -> bool:
        """Whether it ends, or we are told to stop, within so many seconds."""
        end = time.monotonic() + seconds
        while not process_run.has_exited:
            if self._stop.wait(min(POLL_SECONDS, max(0.0, end - time.monotonic()))):
                return True
            if time.monotonic() >= end:
                return False
        return True

    def _was_stable(self) -> bool:
        since = self._ready_since
        return since is not None and time.monotonic() - since >= self._policy.stable_seconds

    def _record_exit(self, exit_info: ExitInfo, *, will_restart: bool) -> None:
        diagnosis = add_memory_advice(diagnose(exit_info), exit_info, self._entry.launch)
        status = replace(self._status, server=None, progress="", diagnosis=diagnosis)
        if will_restart:
            restarts = self._status.restarts + 1
            self._save_status(replace(status, phase="restarting", restarts=restarts))
        else:
            self._save_status(replace(status, phase="failed"))

    def _save_status(self, status: Status) -> None:
        """Write down how it is now."""
        if status.phase != self._status.phase:
            status = replace(status, since=time.time())
        self._status = status
        self._entry.save(status)


def main() -> None:
    """Keep up what the folder wants."""
    entry = ServerEntry(Path(sys.argv[1]))
    wanted = entry.wanted
    if wanted is None:
        raise SystemExit(f"{entry.folder} wants nothing")
    if not wanted.leashed and os.fork():
        os._exit(0)  # whoever launched it has no child to wait for
    me = identify_process(os.getpid())
    if me is None:
        raise SystemExit("this system does not tell which processes there are")
    supervisor = Supervisor(entry, wanted, me)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda _number, _frame: supervisor.stop())
    if wanted.leashed:
        call_when_parent_ends(supervisor.stop)
    with ExitStack() as stack:
        stack.enter_context(hold_lock(entry.folder / "lock", lambda: None))
        with suppress(OSError):  # then the server itself will say why
            stack.enter_context(reserve_port(wanted.host, wanted.port))
        was_stopped = supervisor.run()
    if wanted.leashed and was_stopped:
        shutil.rmtree(entry.folder, ignore_errors=True)


if __name__ == "__main__":
    main()
