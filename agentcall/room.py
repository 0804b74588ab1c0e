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

_POLL_SECONDS = 0.1


def measure_memory() -> int:
    """Bytes that it has: of address space, or where that is not known, of memory at its most."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[0])
    except OSError:
        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return most if sys.platform == "darwin" else most * 1024
    return pages * resource.getpagesize()


@contextmanager
def limit_address_space(max_bytes: int) -> Generator[None, None, None]:
    """Lets `size()` grow to `most` bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    limit = max_bytes if hard == resource.RLIM_INFINITY else min(max_bytes, hard)
    resource.setrlimit(resource.RLIMIT_AS, (limit, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


@contextmanager
def kill_above_memory(max_bytes: int) -> Generator[None, None, None]:
    """Ends the process by SIGKILL when `size()` is more than `most` bytes."""
    done = threading.Event()

    def watch() -> None:
        while not done.wait(_POLL_SECONDS):
            if measure_memory() > max_bytes:
                os.kill(os.getpid(), signal.SIGKILL)

    thread = threading.Thread(target=watch, name="agentcall memory", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


limit_memory = limit_address_space if sys.platform == "linux" else kill_above_memory
"""The one of both that holds here."""
