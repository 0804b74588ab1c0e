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

from agentcall_server.diagnosis import Death, Reason, diagnose
from agentcall_server.identity import Identity, identity_of
from agentcall_server.leash import when_parent_ends
from agentcall_server.ledger import Entry, Status, Wanted
from agentcall_server.life import Life
from agentcall_server.listener import hold
from agentcall_server.logbook import Logbook
from agentcall_server.memory_advice import advised
from agentcall_server.store import locked

TICK = 0.2
"""Seconds between two looks at a server that loads."""


@dataclass(frozen=True, slots=True)
class Policy:
    """When to start anew, when to give up, and how often to look. Times in seconds.

    first, most: waits before a new start. deaths: so many in a row are the end. sound: ready for
    so long, and deaths are past. look: between two looks at the health of a server that is ready.
    unwell: so many looks in a row that find its engine dead, and it is started anew.
    """

    first: float = 1.0
    most: float = 60.0
    deaths: int = 5
    sound: float = 60.0
    look: float = 10.0
    unwell: int = 3

    def wait(self, deaths: int) -> float | None:
        """Seconds after so many deaths in a row; None to give up.

        >>> [Policy().wait(deaths) for deaths in (1, 2, 5)]
        [1.0, 2.0, None]
        """
        if deaths >= self.deaths:
            return None
        return float(min(self.most, self.first * 2 ** (deaths - 1)))


class Supervisor:
    """Keeps what a folder wants up, until it is told to stop or gives up."""

    def __init__(
        self, entry: Entry, wanted: Wanted, me: Identity, policy: Policy | None = None
    ) -> None:
        self._entry = entry
        self._wanted = wanted
        self._door = entry.door
        self._book = Logbook(entry.log, secrets=[entry.key()])
        self._stop = threading.Event()
        self._policy = policy or Policy()
        self._ready_since: float | None = None
        self._status = Status("starting", me, time.time())

    def stop(self) -> None:
        """Have it end soon; may be called from a thread or a signal handler."""
        self._stop.set()

    def run(self) -> bool:
        """Until it is stopped (True), or the server is given up (False)."""
        try:
            return self._run()
        finally:
            self._book.close()

    def _run(self) -> bool:
        deaths, was_ready = 0, False
        while not self._stop.is_set():
            death = self._life()
            if self._stop.is_set():
                break
            was_ready = was_ready or self._ready_since is not None
            deaths = 1 if self._was_sound() else deaths + 1
            wait = self._policy.wait(deaths) if was_ready else None
            self._died(death, again=wait is not None)
            if wait is None:
                return False
            self._stop.wait(wait)
        self._tell(replace(self._status, phase="stopped", server=None, progress=""))
        return True

    def _life(self) -> Death:
        """One life of the server, from its start to its end."""
        self._ready_since = None
        life = Life(self._wanted, self._book)
        reason: Reason = ""
        complaint = ""
        try:
            fresh = replace(self._status, phase="starting", model="", progress="")
            self._tell(replace(fresh, server=life.identity))
            reason, complaint = self._watch(life)
            if self._stop.is_set():
                self._tell(replace(self._status, phase="stopping"))
        finally:
            death = life.end(reason, complaint)
        return death

    def _watch(self, life: Life) -> tuple[Reason, str]:
        """Until it ends, we are told to stop, or it has to be ended: then why, in whose words."""
        if not self._until_ready(life):
            return ("", "") if life.is_over or self._stop.is_set() else ("hung", "")
        unwell = 0
        while not self._has_ended(life, self._policy.look):
            complaint = self._door.complaint
            unwell = unwell + 1 if complaint else 0
            if unwell >= self._policy.unwell:
                return "unwell", complaint
        return "", ""

    def _until_ready(self, life: Life) -> bool:
        """Whether it came to be ready, in time."""
        begun = time.monotonic()
        while time.monotonic() - begun < self._wanted.patience:
            if self._has_ended(life, TICK):
                return False
            if served := self._door.served:
                self._ready_since = time.monotonic()
                self._tell(replace(self._status, phase="ready", model=served[0], progress=""))
                return True
            if life.said != self._status.progress:
                self._tell(replace(self._status, progress=life.said))
        return False

    def _has_ended(self, life: Life, seconds: float) -> bool:
        """Whether it ends, or we are told to stop, within so many seconds."""
        end = time.monotonic() + seconds
        while not life.is_over:
            if self._stop.wait(min(TICK, max(0.0, end - time.monotonic()))):
                return True
            if time.monotonic() >= end:
                return False
        return True

    def _was_sound(self) -> bool:
        since = self._ready_since
        return since is not None and time.monotonic() - since >= self._policy.sound

    def _died(self, death: Death, *, again: bool) -> None:
        diagnosis = advised(diagnose(death), death, self._entry.launch)
        status = replace(self._status, server=None, progress="", diagnosis=diagnosis)
        if again:
            restarts = self._status.restarts + 1
            self._tell(replace(status, phase="restarting", restarts=restarts))
        else:
            self._tell(replace(status, phase="failed"))

    def _tell(self, status: Status) -> None:
        """Write down how it is now."""
        if status.phase != self._status.phase:
            status = replace(status, since=time.time())
        self._status = status
        self._entry.keep(status)


def main() -> None:
    """Keep up what the folder wants."""
    entry = Entry(Path(sys.argv[1]))
    wanted = entry.wanted
    if wanted is None:
        raise SystemExit(f"{entry.folder} wants nothing")
    if not wanted.leashed and os.fork():
        os._exit(0)  # whoever launched it has no child to wait for
    me = identity_of(os.getpid())
    if me is None:
        raise SystemExit("this system does not tell which processes there are")
    supervisor = Supervisor(entry, wanted, me)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda _number, _frame: supervisor.stop())
    if wanted.leashed:
        when_parent_ends(supervisor.stop)
    with ExitStack() as stack:
        stack.enter_context(locked(entry.folder / "lock", lambda: None))
        with suppress(OSError):  # then the server itself will say why
            stack.enter_context(hold(wanted.host, wanted.port))
        was_stopped = supervisor.run()
    if wanted.leashed and was_stopped:
        shutil.rmtree(entry.folder, ignore_errors=True)


if __name__ == "__main__":
    main()
