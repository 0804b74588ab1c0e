"""Daemon threads for sync tools: a thread that is free takes the next call.

Starting a thread costs more than twice what waking one does. Rules:
1. Threads are daemons: none holds up the end of the process.
2. No call waits for another: where no thread is free, a new one is started. One that hangs is
   merely never free again.
3. At most `KEPT` free threads are kept.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import TypeAlias

KEPT = 32

Work: TypeAlias = Callable[[], Callable[[], None]]
"""What a thread does: something that may take long, and then at once what it gives."""


def start(work: Work) -> None:
    """Has a thread do the work, which must not raise. Raises RuntimeError if there is none."""
    try:
        worker = _free.pop()
    except IndexError:
        worker = _Worker()
    worker.take(work)


class _Worker:
    def __init__(self) -> None:
        self._work: list[Work] = []
        self._wake = threading.Lock()
        self._wake.acquire()
        threading.Thread(target=self._live, name="agentcall tool", daemon=True).start()

    def take(self, work: Work) -> None:
        self._work.append(work)
        self._wake.release()

    def _live(self) -> None:
        stays = True
        while stays:
            self._wake.acquire()
            tell = self._work.pop()()
            stays = len(_free) < KEPT
            if stays:  # before it is told, so that who was told finds a thread that is free
                _free.append(self)
            tell()
            del tell  # it may hold a large result


_free: list[_Worker] = []

if hasattr(os, "register_at_fork"):  # threads do not come along
    os.register_at_fork(after_in_child=_free.clear)
