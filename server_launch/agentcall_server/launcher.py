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

from agentcall_server.downloader import make_child_environment
from agentcall_server.errors import BadValue, NameTaken, PortTaken, ServerNotRunning, StartFailed
from agentcall_server.launch import Launch, resolve_paths
from agentcall_server.launch_command import CommandContext, build_server_command
from agentcall_server.model_cache import hold_lock
from agentcall_server.ports import can_listen, find_listener, reserve_port
from agentcall_server.process_identity import ProcessIdentity
from agentcall_server.process_run import GRACE_SECONDS, signal_group
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
"""Seconds that a supervisor has to say its first word on a busy machine."""


@dataclass(frozen=True, slots=True)
class LaunchedServer:
    """A server that loads or is ready. `is_new` is False where it was up before.

    `leash` is what its supervisor hangs on, where it ends with this process.
    """

    entry: ServerEntry
    is_new: bool
    supervisor_process: subprocess.Popen[bytes] | None = None


def launch_server(
    launch: Launch, report: ProgressReporter, *, ends_with_parent: bool = False
) -> LaunchedServer:
    """Start a server, without waiting for its model; one that is up already is left as it is.

    Raises NameTaken, PortTaken, NoLMDeploy, BadValue, EmbeddedError, DownloadError, UnknownModel.
    """
    if not hasattr(os, "fork"):
        raise BadValue("servers are launched on Linux and macOS; on Windows, in WSL")
    launch = resolve_paths(launch)
    _delete_old_entries()
    with ExitStack() as stack:
        port = launch.port or _reserve_any_port(launch, stack)
        # any number of programs may have a server of one model for themselves
        usual = f"{launch.default_name}-{port}" if ends_with_parent else launch.default_name
        found = open_entry(launch.name or usual)
        waiting = f"another command is starting {found.name}; waiting for it"
        stack.enter_context(hold_lock(found.folder / "start.lock", lambda: report.say(waiting)))
        if found.is_up:
            return _reuse_running(found, launch, ends_with_parent=ends_with_parent)
        end_orphan(found)
        if launch.port:
            _check_port(launch)
        if launch.has_key:
            found.ensure_key()
        wanted = build_server_command(
            replace(launch, port=port), CommandContext(found, report, ends_with_parent)
        )
        found.save(launch)
        found.save(wanted)
        return _start_supervisor(found, ends_with_parent=ends_with_parent)


def wait_until_ready(launched: LaunchedServer, report: ProgressReporter) -> Status:
    """Wait until it can be asked. Raises StartFailed, NotUp if somebody stops it meanwhile."""
    found, begun = launched.entry, time.monotonic()
    try:
        while (status := _check_ready(found)) is None:
            words = f"loading {found.name}, {time.monotonic() - begun:.0f} s"
            bar = found.status.progress if found.status else ""
            report.wait(f"{words}: {bar[:100]}" if "%" in bar else words)
            time.sleep(POLL_SECONDS)
    finally:
        report.wait("")
    return status


def _check_ready(found: ServerEntry) -> Status | None:
    """Its status if it is ready, None while it is not. Raises StartFailed, NotUp."""
    is_up, status = found.is_up, found.status  # in this order: the last word is said before the end
    if status is not None and status.phase == "failed" and status.diagnosis is not None:
        message = f"{found.name}: {status.diagnosis}; log: {found.log}"
        raise StartFailed(message, status.diagnosis)
    if not is_up:
        raise ServerNotRunning(f"{found.name} was stopped before it was ready; log: {found.log}")
    return status if status is not None and status.phase == "ready" else None


def stop_server(found: ServerEntry, timeout: float = STOP_SECONDS) -> None:
    """Stop a server and its supervisor, by force after so many seconds. Raises NotUp."""
    end_orphan(found)
    status = found.status
    if status is None or not status.supervisor.is_alive:
        raise ServerNotRunning(f"{found.name} does not run")
    _signal(status.supervisor, signal.SIGTERM)
    if not _wait_for_exit(status.supervisor, timeout):
        _signal(status.supervisor, signal.SIGKILL)
        _wait_for_exit(status.supervisor, GRACE_SECONDS)
        end_orphan(found)


def end_orphan(found: ServerEntry) -> None:
    """End a server whose supervisor was killed, if there is one left."""
    stray = found.orphan
    if stray is None:
        return
    signal_group(stray.pid, signal.SIGTERM)
    _wait_for_exit(stray, GRACE_SECONDS)
    signal_group(stray.pid, signal.SIGKILL)
    _wait_for_exit(stray, GRACE_SECONDS)


def _signal(process: ProcessIdentity, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.kill(process.pid, number)


def _wait_for_exit(process: ProcessIdentity, seconds: float) -> bool:
    """Whether it ends within so many seconds."""
    end = time.monotonic() + seconds
    while process.is_alive:
        if time.monotonic() > end:
            return False
        time.sleep(POLL_SECONDS)
    return True


def _delete_old_entries() -> None:
    """Throw away what is left of servers that belonged to programs, and ended badly long ago."""
    for old in list_entries():
        wanted = old.wanted
        if wanted is None or not wanted.leashed or old.is_up or old.orphan:
            continue
        written = (old.folder / "wanted.json").stat().st_mtime
        if time.time() - written > _LOG_RETENTION_SECONDS:
            shutil.rmtree(old.folder, ignore_errors=True)


def _reuse_running(found: ServerEntry, launch: Launch, *, ends_with_parent: bool) -> LaunchedServer:
    if found.launch == launch and not ends_with_parent:
        return LaunchedServer(found, is_new=False)
    raise NameTaken(
        f"a server {found.name} runs already, with other options; stop it first "
        f"(agentcall server stop {found.name}), or give this one another --name"
    )


def _reserve_any_port(launch: Launch, stack: ExitStack) -> int:
    """A free port, nobody else's while the stack is open."""
    try:
        return int(stack.enter_context(reserve_port(launch.host)).getsockname()[1])
    except OSError as error:
        raise BadValue(f"--host {launch.host}: nothing can listen there ({error})") from error


def _check_port(launch: Launch) -> None:
    other = find_by_port(launch.port)
    if other is not None:
        raise PortTaken(
            f"port {launch.port} is that of the server {other.name}; stop that one (agentcall "
            f"server stop {other.name}), or give another --port; 0 takes any free one"
        )
    try:
        is_free = can_listen(launch.host, launch.port)
    except OSError as error:
        raise BadValue(f"--host {launch.host}: nothing can listen there ({error})") from error
    if not is_free:
        who = find_listener(launch.port) or "another program"
        raise PortTaken(
            f"port {launch.port} is taken by {who}; stop it, or give another --port; 0 takes any "
            f"free one"
        )


def _start_supervisor(found: ServerEntry, *, ends_with_parent: bool) -> LaunchedServer:
    """Start the supervisor; returns when it has begun."""
    with (found.folder / "supervisor.log").open("ab") as log:
        process = subprocess.Popen(  # noqa: S603  (a fixed command, no shell)
            [sys.executable, "-m", "agentcall_server.supervisor", str(found.folder)],
            stdin=subprocess.PIPE if ends_with_parent else subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd=found.folder,
            env=make_child_environment(),
            start_new_session=True,
        )
    if not ends_with_parent and process.wait():  # it goes on by itself
        raise ServerNotRunning(f"the supervisor of {found.name} did not begin; see {log.name}")
    end = time.monotonic() + _SUPERVISOR_START_SECONDS
    while not found.is_up:
        if (ends_with_parent and process.poll() is not None) or time.monotonic() > end:
            raise ServerNotRunning(f"the supervisor of {found.name} did not begin; see {log.name}")
        time.sleep(POLL_SECONDS)
    return LaunchedServer(
        found, is_new=True, supervisor_process=process if ends_with_parent else None
    )
