"""How much memory this process may take.

Linux refuses what goes beyond RLIMIT_AS, so that Python raises MemoryError. macOS takes that limit
and does not hold it: there the process looks at itself ten times a second, and ends itself.
"""

from __future__ import annotations

import os
import resource
import signal
import sys
import threading
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

_LOOK = 0.1


def size() -> int:
    """Bytes that it has: of address space, or where that is not known, of memory at its most."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[0])
    except OSError:
        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return most if sys.platform == "darwin" else most * 1024
    return pages * resource.getpagesize()


@contextmanager
def limited(most: int) -> Generator[None, None, None]:
    """Lets `size()` grow to `most` bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    limit = most if hard == resource.RLIM_INFINITY else min(most, hard)
    resource.setrlimit(resource.RLIMIT_AS, (limit, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


@contextmanager
def watched(most: int) -> Generator[None, None, None]:
    """Ends the process by SIGKILL when `size()` is more than `most` bytes."""
    done = threading.Event()

    def watch() -> None:
        while not done.wait(_LOOK):
            if size() > most:
                os.kill(os.getpid(), signal.SIGKILL)

    thread = threading.Thread(target=watch, name="agentcall memory", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


bounded = limited if sys.platform == "linux" else watched
"""The one of both that holds here."""
