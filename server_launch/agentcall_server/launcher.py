"""Launches servers, waits until they are ready, and stops them."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace

from agentcall_server.errors import BadValue, NameTaken, PortTaken, ServerNotRunning, StartFailed
from agentcall_server.launch import Launch, resolve_paths
from agentcall_server.launch_command import build_server_command
from agentcall_server.model_cache import hold_lock
from agentcall_server.ports import can_listen, find_listener, reserve_port
from agentcall_server.processes import (
    GRACE_SECONDS,
    ProcessIdentity,
    make_child_environment,
    signal_group,
)
from agentcall_server.progress import ProgressReporter
from agentcall_server.server_registry import (
    ServerEntry,
    Status,
    find_by_port,
    list_entries,
    open_entry,
)

POLL_SECONDS = 0.1
STOP_SECONDS = GRACE_SECONDS + 5.0
"""Seconds that a supervisor has to end its server and itself."""
_LOG_RETENTION_SECONDS = 86400.0
"""Seconds that the log of a program's own server is kept after it failed."""
_SUPERVISOR_START_SECONDS = 60.0
"""Seconds that a supervisor has to save its first status on a busy machine."""


@dataclass(frozen=True, slots=True)
class LaunchedServer:
    """A server that is loading or ready. `is_new` is False if it was running before.

    `supervisor_process` is set if the server ends with this process.
    """

    entry: ServerEntry
    is_new: bool
    supervisor_process: subprocess.Popen[bytes] | None = None


def launch_server(
    launch: Launch, report: ProgressReporter, *, ends_with_parent: bool = False
) -> LaunchedServer:
    """Start a server without waiting for its model. One that already runs is returned as it is.

    Raises:
        NameTaken: A server of that name runs with other options.
        PortTaken: Another program listens on the port.
        LMDeployUnavailable, BadValue, EmbeddedError, DownloadError, UnknownModelName: The command
            cannot be built.
    """
    if not hasattr(os, "fork"):
        raise BadValue("servers are launched on Linux and macOS; on Windows, use WSL")
    launch = resolve_paths(launch)
    _delete_old_entries()
    with ExitStack() as stack:
        port = launch.port or _reserve_any_port(launch, stack)
        # several programs may each have a server of the same model
        name = launch.default_name
        entry = open_entry(launch.name or (f"{name}-{port}" if ends_with_parent else name))
        message = f"another command is starting {entry.name}; waiting for it"
        stack.enter_context(hold_lock(entry.folder / "start.lock", lambda: report.say(message)))
        if entry.is_up:
            if entry.launch == launch and not ends_with_parent:
                return LaunchedServer(entry, is_new=False)
            raise NameTaken(
                f"a server {entry.name} runs already, with other options; stop it first "
                f"(agentcall server stop {entry.name}), or give this one another --name"
            )
        end_orphan(entry)
        if launch.port:
            _check_port(launch)
        if launch.has_key:
            entry.ensure_key()
        wanted = build_server_command(
            replace(launch, port=port), entry, report, ends_with_parent=ends_with_parent
        )
        entry.save(launch)
        entry.save(wanted)
        return _start_supervisor(entry, ends_with_parent=ends_with_parent)


def wait_until_ready(launched: LaunchedServer, report: ProgressReporter) -> Status:
    """Wait until the server answers requests.

    Raises:
        StartFailed: It ended before it was ready.
        ServerNotRunning: It was stopped meanwhile.
    """
    entry, start = launched.entry, time.monotonic()
    try:
        while True:
            # in this order: the last status is written before the supervisor ends
            is_up, status = entry.is_up, entry.status
            if status is not None and status.phase == "failed" and status.diagnosis is not None:
                message = f"{entry.name}: {status.diagnosis}; log: {entry.log}"
                raise StartFailed(message, status.diagnosis)
            if not is_up:
                raise ServerNotRunning(
                    f"{entry.name} was stopped before it was ready; log: {entry.log}"
                )
            if status is not None and status.phase == "ready":
                return status
            text = f"loading {entry.name}, {time.monotonic() - start:.0f} s"
            progress = status.progress if status else ""
            report.wait(f"{text}: {progress[:100]}" if "%" in progress else text)
            time.sleep(POLL_SECONDS)
    finally:
        report.wait("")


def stop_server(entry: ServerEntry, timeout: float = STOP_SECONDS) -> None:
    """Stop a server and its supervisor, by SIGKILL after `timeout` seconds.

    Raises ServerNotRunning.
    """
    end_orphan(entry)
    status = entry.status
    if status is None or not status.supervisor.is_alive:
        raise ServerNotRunning(f"{entry.name} is not running")
    supervisor = status.supervisor
    with suppress(ProcessLookupError):
        os.kill(supervisor.pid, signal.SIGTERM)
    if not _wait_for_exit(supervisor, timeout):
        with suppress(ProcessLookupError):
            os.kill(supervisor.pid, signal.SIGKILL)
        _wait_for_exit(supervisor, GRACE_SECONDS)
        end_orphan(entry)


def end_orphan(entry: ServerEntry) -> None:
    """End the server's process if it outlived its supervisor."""
    process = entry.orphan
    if process is not None:
        for number in (signal.SIGTERM, signal.SIGKILL):
            signal_group(process.pid, number)
            _wait_for_exit(process, GRACE_SECONDS)


def _wait_for_exit(process: ProcessIdentity, seconds: float) -> bool:
    """Return whether the process ends within `seconds`."""
    end = time.monotonic() + seconds
    while process.is_alive:
        if time.monotonic() > end:
            return False
        time.sleep(POLL_SECONDS)
    return True


def _delete_old_entries() -> None:
    """Delete the folders of servers that belonged to programs and failed long ago."""
    for entry in list_entries():
        wanted = entry.wanted
        if wanted is None or not wanted.leashed or entry.is_up or entry.orphan:
            continue
        saved_at = (entry.folder / "wanted.json").stat().st_mtime
        if time.time() - saved_at > _LOG_RETENTION_SECONDS:
            shutil.rmtree(entry.folder, ignore_errors=True)


def _reserve_any_port(launch: Launch, stack: ExitStack) -> int:
    """Return a free port that no other program is given while the stack is open."""
    try:
        return int(stack.enter_context(reserve_port(launch.host)).getsockname()[1])
    except OSError as error:
        raise _make_host_error(launch, error) from error


def _check_port(launch: Launch) -> None:
    other = find_by_port(launch.port)
    if other is not None:
        raise PortTaken(
            f"port {launch.port} is used by the server {other.name}; stop it (agentcall server "
            f"stop {other.name}), or give another --port; 0 takes any free one"
        )
    try:
        is_free = can_listen(launch.host, launch.port)
    except OSError as error:
        raise _make_host_error(launch, error) from error
    if not is_free:
        user = find_listener(launch.port) or "another program"
        raise PortTaken(
            f"port {launch.port} is used by {user}; stop it, or give another --port; 0 takes any "
            f"free one"
        )


def _make_host_error(launch: Launch, error: OSError) -> BadValue:
    return BadValue(f"--host {launch.host}: a server cannot listen there ({error})")


def _start_supervisor(entry: ServerEntry, *, ends_with_parent: bool) -> LaunchedServer:
    """Start the supervisor and wait until it has saved its first status."""
    with (entry.folder / "supervisor.log").open("ab") as log:
        process = subprocess.Popen(  # noqa: S603  (a fixed command, no shell)
            [sys.executable, "-m", "agentcall_server.supervisor", str(entry.folder)],
            stdin=subprocess.PIPE if ends_with_parent else subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd=entry.folder,
            env=make_child_environment(),
            start_new_session=True,
        )
    failure = ServerNotRunning(f"the supervisor of {entry.name} did not start; see {log.name}")
    if not ends_with_parent and process.wait():  # the first process ends after it has forked
        raise failure
    end = time.monotonic() + _SUPERVISOR_START_SECONDS
    while not entry.is_up:
        if (ends_with_parent and process.poll() is not None) or time.monotonic() > end:
            raise failure
        time.sleep(POLL_SECONDS)
    return LaunchedServer(
        entry, is_new=True, supervisor_process=process if ends_with_parent else None
    )
