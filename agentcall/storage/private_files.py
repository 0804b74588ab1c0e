"""Files that contain conversations: only their owner can read them, whatever the umask.

A new file has the mode 600 and a new folder 700. A file of ours with another mode is tightened when
it is opened; to share one, copy it. Windows closes a user's own folders to others already, so
nothing is done there.
"""

from __future__ import annotations

import os
import stat
import sys
from contextlib import suppress
from pathlib import Path


def open_private(path: str | Path, flags: int) -> int:
    """Open a file, creating it if `flags` say so, and return its descriptor. Raises OSError."""
    file = os.open(path, flags | getattr(os, "O_BINARY", 0), 0o600)
    if sys.platform != "win32" and _is_too_open(os.fstat(file)):
        with suppress(OSError):
            os.fchmod(file, 0o600)
    return file


def tighten(*paths: Path) -> None:
    """Set the mode 600 on files of ours; leave missing files, other owners' files and folders."""
    for path in paths if sys.platform != "win32" else ():
        with suppress(OSError):
            if _is_too_open(path.stat()):
                path.chmod(0o600)


def tighten_folder(path: Path) -> None:
    """Set the mode 700 on a folder that only this program writes to, such as its state folder."""
    with suppress(OSError):
        if sys.platform != "win32" and path.is_dir() and path.stat().st_uid == os.geteuid():
            path.chmod(0o700)


def make_folder(path: Path) -> None:
    """Create a folder and its missing parents. Raises OSError."""
    if path.is_dir():
        return
    make_folder(path.parent)
    with suppress(FileExistsError):  # another process was faster
        path.mkdir(mode=0o700)
        path.chmod(0o700)


def _is_too_open(status: os.stat_result) -> bool:
    """Return whether this is a regular file of ours with a mode other than 600."""
    is_ours = status.st_uid == os.geteuid() and stat.S_ISREG(status.st_mode)
    return is_ours and stat.S_IMODE(status.st_mode) != 0o600
