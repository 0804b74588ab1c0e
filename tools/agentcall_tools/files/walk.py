"""A walk through a folder and its subfolders, within limits."""

import os
import stat
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from itertools import islice

from agentcall_tools.files.root_folder import FileError, RootFolder, open_regular_file

MAX_DEPTH = 20
MAX_ENTRIES = 50_000
MAX_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class FolderEntry:
    """A file or folder: its path, its size in bytes, and the descriptor of its parent.

    `modified` is its time of change in nanoseconds; `is_denied` is `RootFolder.is_denied`.
    """

    path: str
    size: int
    is_folder: bool
    folder: int
    is_denied: Callable[[str], bool]
    modified: int = 0

    def matches(self, pattern: str) -> bool:
        """Return whether its name matches; a pattern with a slash is matched with the path."""
        text = self.path if "/" in pattern else self.path.rpartition("/")[2]
        return fnmatchcase(text, pattern)

    def read(self, limit: int) -> bytes:
        """Return the first bytes of the file, or b"" if it cannot be read."""
        try:
            descriptor = open_regular_file(
                self.folder, self.path.rpartition("/")[2], self.path, self.is_denied
            )
        except FileError:
            return b""
        with os.fdopen(descriptor, "rb") as file:
            return file.read(limit)


class FolderWalk:
    """One walk through a folder; `is_truncated` says that a limit ended it early."""

    def __init__(self, root: RootFolder) -> None:
        self.is_truncated = False
        self._root = root
        self._seen = 0
        self._deadline = time.monotonic() + MAX_SECONDS

    def list_entries(self, names: Sequence[str], depth: int = MAX_DEPTH) -> Iterator[FolderEntry]:
        """Yield the entries of a folder and its subfolders up to a depth, sorted by name.

        The descriptor of an entry's parent is open until the next entry is requested.
        """
        with self._root.open_folder(names) as folder:
            for entry in self._scan_folder(folder, "/".join(names)):
                yield entry
                if entry.is_folder and depth > 1:
                    yield from self._list_inner(entry, depth - 1)
                if self._is_over_limit():
                    return

    def _list_inner(self, entry: FolderEntry, depth: int) -> Iterator[FolderEntry]:
        try:
            yield from self.list_entries(entry.path.split("/"), depth)
        except FileError:  # it is on another file system, or has been deleted
            return

    def _scan_folder(self, folder: int, path: str) -> Iterator[FolderEntry]:
        with os.scandir(folder) as entries:
            names = sorted(entry.name for entry in islice(entries, MAX_ENTRIES))
        for name in names:
            if self._root.is_denied(name):
                continue
            try:
                state = os.stat(name, dir_fd=folder, follow_symlinks=False)
            except OSError:
                continue
            is_folder = stat.S_ISDIR(state.st_mode)
            if is_folder or stat.S_ISREG(state.st_mode):
                yield FolderEntry(
                    f"{path}/{name}".lstrip("/"),
                    state.st_size,
                    is_folder,
                    folder,
                    self._root.is_denied,
                    state.st_mtime_ns,
                )

    def _is_over_limit(self) -> bool:
        self._seen += 1
        if self._seen > MAX_ENTRIES or time.monotonic() > self._deadline:
            self.is_truncated = True
        return self.is_truncated
