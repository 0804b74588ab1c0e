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
from collections.abc import Callable


def exit_with_parent() -> None:
    """From now on, end this process when the one that started it ends."""
    call_when_parent_ends(lambda: os._exit(0))


def call_when_parent_ends(act: Callable[[], None]) -> None:
    """Call `act`, in a thread, when the process that started this one ends; perhaps twice."""
    for wait in (_wait_for_input_end, _wait_for_new_parent):
        threading.Thread(
            target=_wait_then_call, args=(wait, act), name="leash", daemon=True
        ).start()


def _wait_then_call(wait: Callable[[], None], act: Callable[[], None]) -> None:
    try:
        wait()
    finally:
        act()


def _wait_for_input_end() -> None:
    descriptor = sys.__stdin__.fileno() if sys.__stdin__ else 0
    while os.read(descriptor, 1024):
        pass


def _wait_for_new_parent() -> None:
    parent = os.getppid()
    while os.getppid() == parent:
        time.sleep(1.0)
