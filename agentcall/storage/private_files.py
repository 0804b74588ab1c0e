"""Files that hold conversations: for their owner alone, whatever the umask.

A new file has the mode 600, and a folder that is made for one 700. A file of ours that others may
read is tightened when it is opened: what is to be shared is copied. On Windows a user's own folders
are closed to others already, and nothing is done.
"""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from pathlib import Path


def open_private(path: str | Path, flags: int) -> int:
    """Opens a file, and makes it where `flags` say so; gives its descriptor. Raises OSError."""
    file = os.open(path, flags, 0o600)
    if os.name == "posix" and _is_too_open(os.fstat(file)):
        with suppress(OSError):
            os.fchmod(file, 0o600)
    return file


def tighten(*paths: Path) -> None:
    """Closes files of ours to others; what is missing, no file or not ours is left as it is.

    A folder is never touched: who gives one in place of a file has made a mistake.
    """
    for path in paths if os.name == "posix" else ():
        with suppress(OSError):
            if _is_too_open(path.stat()):
                path.chmod(0o600)


def tighten_folder(path: Path) -> None:
    """Closes a folder that only this program writes to, such as that of its state."""
    with suppress(OSError):
        if os.name == "posix" and path.is_dir() and path.stat().st_uid == os.geteuid():
            path.chmod(0o700)


def make_folder(path: Path) -> None:
    """Makes a folder, and those it is in, where they are missing. Raises OSError."""
    if path.is_dir():
        return
    make_folder(path.parent)
    with suppress(FileExistsError):  # somebody else was faster
        path.mkdir(mode=0o700)
        path.chmod(0o700)


def _is_too_open(found: os.stat_result) -> bool:
    """Whether this is a regular file of ours with another mode than 600."""
    is_ours = found.st_uid == os.geteuid() and stat.S_ISREG(found.st_mode)
    return is_ours and stat.S_IMODE(found.st_mode) != 0o600
