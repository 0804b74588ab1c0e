"""A child process that ends when its parent does, even when that one is killed.

The parent holds the write end of the child's standard input and never writes. When the parent is
gone the system closes it, and the child reads the end of the file. A process forked off the parent
may hold a copy of that end, so the child also looks whether it has been handed to another parent.
"""

from __future__ import annotations

import os
import sys
import threading
import time


def end_with_parent() -> None:
    """From now on, end this process when the one that started it ends."""
    threading.Thread(target=_wait_for_input_end, name="leash", daemon=True).start()
    threading.Thread(target=_wait_for_new_parent, name="leash-parent", daemon=True).start()


def _wait_for_input_end() -> None:
    descriptor = sys.__stdin__.fileno() if sys.__stdin__ else 0
    try:
        while os.read(descriptor, 1024):
            pass
    finally:
        os._exit(0)


def _wait_for_new_parent() -> None:
    parent = os.getppid()
    while os.getppid() == parent:
        time.sleep(1.0)
    os._exit(0)
