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

from agentcall_server.courier import child_environment
from agentcall_server.errors import NameTaken, NotUp, PortTaken, StartFailed
from agentcall_server.identity import Identity
from agentcall_server.launch import Launch, settled
from agentcall_server.ledger import Entry, Status, at, entries, entry
from agentcall_server.listener import can_listen, hold, listener
from agentcall_server.process_group import GRACE, signal_group
from agentcall_server.progress import Progress
from agentcall_server.recipe import Kitchen, cook
from agentcall_server.refusals import BadValue
from agentcall_server.store import locked

TICK = 0.1
PATIENCE = GRACE + 5.0
"""Seconds that a supervisor has to end its server and itself."""
_KEPT = 86400.0
"""Seconds that the log of a program's own server is kept after it failed."""
_BEGIN = 60.0
"""Seconds that a supervisor has to say its first word on a busy machine."""


@dataclass(frozen=True, slots=True)
class Launched:
    """A server that loads or is ready. `is_new` is False where it was up before.

    `leash` is what its supervisor hangs on, where it ends with this process.
    """

    entry: Entry
    is_new: bool
    leash: subprocess.Popen[bytes] | None = None


def launch_server(launch: Launch, report: Progress, *, leashed: bool = False) -> Launched:
    """Start a server, without waiting for its model; one that is up already is left as it is.

    Raises NameTaken, PortTaken, NoLMDeploy, BadValue, EmbeddedError, DownloadError, UnknownModel.
    """
    if not hasattr(os, "fork"):
        raise BadValue("servers are launched on Linux and macOS; on Windows, in WSL")
    launch = settled(launch)
    _tidy()
    with ExitStack() as stack:
        port = launch.port or _hold_any(launch, stack)
        # any number of programs may have a server of one model for themselves
        usual = f"{launch.usual_name}-{port}" if leashed else launch.usual_name
        found = entry(launch.name or usual)
        waiting = f"another command is starting {found.name}; waiting for it"
        stack.enter_context(locked(found.folder / "start.lock", lambda: report.say(waiting)))
        if found.is_up:
            return _up_already(found, launch, leashed=leashed)
        end_stray(found)
        if launch.port:
            _check_port(launch)
        if launch.has_key:
            found.make_key()
        wanted = cook(replace(launch, port=port), Kitchen(found, report, leashed))
        found.keep(launch)
        found.keep(wanted)
        return _supervised(found, leashed=leashed)


def wait_ready(launched: Launched, report: Progress) -> Status:
    """Wait until it can be asked. Raises StartFailed, NotUp if somebody stops it meanwhile."""
    found, begun = launched.entry, time.monotonic()
    try:
        while (status := _ready(found)) is None:
            words = f"loading {found.name}, {time.monotonic() - begun:.0f} s"
            bar = found.status.progress if found.status else ""
            report.wait(f"{words}: {bar[:100]}" if "%" in bar else words)
            time.sleep(TICK)
    finally:
        report.wait("")
    return status


def _ready(found: Entry) -> Status | None:
    """Its status if it is ready, None while it is not. Raises StartFailed, NotUp."""
    is_up, status = found.is_up, found.status  # in this order: the last word is said before the end
    if status is not None and status.phase == "failed" and status.diagnosis is not None:
        message = f"{found.name}: {status.diagnosis}; log: {found.log}"
        raise StartFailed(message, status.diagnosis)
    if not is_up:
        raise NotUp(f"{found.name} was stopped before it was ready; log: {found.log}")
    return status if status is not None and status.phase == "ready" else None


def stop_server(found: Entry, patience: float = PATIENCE) -> None:
    """Stop a server and its supervisor, by force after so many seconds. Raises NotUp."""
    end_stray(found)
    status = found.status
    if status is None or not status.supervisor.is_alive:
        raise NotUp(f"{found.name} does not run")
    _signal(status.supervisor, signal.SIGTERM)
    if not _gone(status.supervisor, patience):
        _signal(status.supervisor, signal.SIGKILL)
        _gone(status.supervisor, GRACE)
        end_stray(found)


def end_stray(found: Entry) -> None:
    """End a server whose supervisor was killed, if there is one left."""
    stray = found.stray
    if stray is None:
        return
    signal_group(stray.pid, signal.SIGTERM)
    _gone(stray, GRACE)
    signal_group(stray.pid, signal.SIGKILL)
    _gone(stray, GRACE)


def _signal(process: Identity, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.kill(process.pid, number)


def _gone(process: Identity, seconds: float) -> bool:
    """Whether it ends within so many seconds."""
    end = time.monotonic() + seconds
    while process.is_alive:
        if time.monotonic() > end:
            return False
        time.sleep(TICK)
    return True


def _tidy() -> None:
    """Throw away what is left of servers that belonged to programs, and ended badly long ago."""
    for old in entries():
        wanted = old.wanted
        if wanted is None or not wanted.leashed or old.is_up or old.stray:
            continue
        written = (old.folder / "wanted.json").stat().st_mtime
        if time.time() - written > _KEPT:
            shutil.rmtree(old.folder, ignore_errors=True)


def _up_already(found: Entry, launch: Launch, *, leashed: bool) -> Launched:
    if found.launch == launch and not leashed:
        return Launched(found, is_new=False)
    raise NameTaken(
        f"a server {found.name} runs already, with other options; stop it first "
        f"(agentcall server stop {found.name}), or give this one another --name"
    )


def _hold_any(launch: Launch, stack: ExitStack) -> int:
    """A free port, nobody else's while the stack is open."""
    try:
        return int(stack.enter_context(hold(launch.host)).getsockname()[1])
    except OSError as error:
        raise BadValue(f"--host {launch.host}: nothing can listen there ({error})") from error


def _check_port(launch: Launch) -> None:
    other = at(launch.port)
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
        who = listener(launch.port) or "another program"
        raise PortTaken(
            f"port {launch.port} is taken by {who}; stop it, or give another --port; 0 takes any "
            f"free one"
        )


def _supervised(found: Entry, *, leashed: bool) -> Launched:
    """Start the supervisor; returns when it has begun."""
    with (found.folder / "supervisor.log").open("ab") as log:
        process = subprocess.Popen(  # noqa: S603  (a fixed command, no shell)
            [sys.executable, "-m", "agentcall_server.supervisor", str(found.folder)],
            stdin=subprocess.PIPE if leashed else subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd=found.folder,
            env=child_environment(),
            start_new_session=True,
        )
    if not leashed and process.wait():  # it goes on by itself
        raise NotUp(f"the supervisor of {found.name} did not begin; see {log.name}")
    end = time.monotonic() + _BEGIN
    while not found.is_up:
        if (leashed and process.poll() is not None) or time.monotonic() > end:
            raise NotUp(f"the supervisor of {found.name} did not begin; see {log.name}")
        time.sleep(TICK)
    return Launched(found, is_new=True, leash=process if leashed else None)
