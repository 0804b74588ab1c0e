"""Opens files inside one folder only, even if the file system changes at the same time.

Rules:
1. A path is relative and consists of plain names. `..`, absolute paths and denied names are
   refused.
2. A path is opened name by name, each relative to the descriptor of its parent (openat), and
   symbolic links are not followed. A link that is created between a check and an open is an error,
   not a way out.
3. Folders of other file systems are not entered, such as /proc, /sys, /dev and mounts.
4. Only regular files are opened, without blocking: no pipes, sockets or devices. A file with other
   hard links is not read, as those may be outside.
5. Files are written atomically: to a temporary file, which is then renamed. A rename replaces the
   name, so that data is never written through a link or into another name's content.
"""

import errno
import os
import re
import stat
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager, suppress
from difflib import get_close_matches
from fnmatch import fnmatchcase
from itertools import islice
from pathlib import Path
from secrets import token_hex

MAX_PATH_NAMES = 40
_MAX_NAME_BYTES = 255
_UNSAFE = re.compile("[\x00-\x1f\x7f\ud800-\udfff]")


def _combine_flags(*names: str) -> int:
    """Combine flags of open(); `RootFolder` refuses a system that lacks the important ones."""
    return sum(getattr(os, name, 0) for name in names)


_OPEN_FOLDER = _combine_flags("O_RDONLY", "O_DIRECTORY", "O_NOFOLLOW", "O_CLOEXEC")
_OPEN_FILE = _combine_flags("O_RDONLY", "O_NOFOLLOW", "O_NONBLOCK", "O_CLOEXEC")
_CREATE_FILE = _combine_flags("O_WRONLY", "O_CREAT", "O_EXCL", "O_NOFOLLOW", "O_CLOEXEC")


class FileError(ValueError):
    """A file was not read or written; the message says why, and suggests names."""


class RootFolder:
    """The folder inside which all files are opened."""

    def __init__(self, folder: str | Path, deny: Sequence[str]) -> None:
        if os.open not in os.supports_dir_fd or not _combine_flags("O_NOFOLLOW"):
            raise OSError("files need openat() and O_NOFOLLOW, which this system does not have")
        self._folder = Path(folder).expanduser().resolve()
        self._deny = tuple(deny)
        if not self._folder.exists():
            raise FileNotFoundError(f"there is no folder {self._folder}")
        self._root_stat = self._folder.stat()
        if not stat.S_ISDIR(self._root_stat.st_mode):
            raise NotADirectoryError(f"{self._folder} is not a folder")

    def parse_path(self, path: str) -> tuple[str, ...]:
        """Split a path into names. Raise FileError if it is refused."""
        if path.startswith(("/", "~")):
            raise FileError(f"{path[:200]!r} is absolute: paths are relative to the folder, as a/b")
        names = tuple(name for name in path.strip().split("/") if name not in ("", "."))
        if ".." in names:
            raise FileError(f"{path[:200]!r} leads out of the folder: no .. in a path")
        if len(names) > MAX_PATH_NAMES or _UNSAFE.search(path):
            raise FileError(f"{path[:200]!r} is not a path: too deep, or with control characters")
        for name in names:
            if self.is_denied(name):
                raise FileError(f"{name[:200]!r} is not opened here: such names are denied")
            if len(os.fsencode(name)) > _MAX_NAME_BYTES:
                raise FileError(f"{name[:80]!r}... is too long for a file's name")
        return names

    def is_denied(self, name: str) -> bool:
        """Return whether files of this name are denied."""
        folded = name.casefold()  # some file systems ignore case
        return any(
            fnmatchcase(name, pattern) or fnmatchcase(folded, pattern.casefold())
            for pattern in self._deny
        )

    @contextmanager
    def open_folder(self, names: Sequence[str], *, make: bool = False) -> Generator[int]:
        """Open a folder and yield its descriptor; with `make`, create missing folders."""
        at = os.open(self._folder, _OPEN_FOLDER)
        try:
            self._check_root(at)
            for number, name in enumerate(names):
                path = "/".join(names[: number + 1])
                if make:
                    _make_folder(at, name, path)
                inner = self._enter_folder(at, name, path)
                os.close(at)
                at = inner
            yield at
        finally:
            os.close(at)

    @contextmanager
    def open_file(self, names: Sequence[str]) -> Generator[int]:
        """Open a regular file for reading and yield its descriptor."""
        path = "/".join(names)
        with self.open_folder(names[:-1]) as folder:
            descriptor = open_regular_file(
                folder, names[-1] if names else ".", path, self.is_denied
            )
            try:
                yield descriptor
            finally:
                os.close(descriptor)

    def write(self, names: Sequence[str], data: bytes) -> int | None:
        """Create or replace a file; return the size of the replaced file, or None."""
        path = "/".join(names)
        if not names:
            raise FileError("name a file to write, such as notes/today.md")
        with self.open_folder(names[:-1], make=True) as folder:
            before = _stat_name(folder, names[-1])
            if before is not None and not stat.S_ISREG(before.st_mode):
                raise FileError(
                    f"{path} is {_describe_kind(before)}; only regular files are written"
                )
            mode = stat.S_IMODE(before.st_mode) & 0o777 if before else None
            try:
                _replace_file(folder, names[-1], data, mode)
            except OSError as error:
                raise FileError(f"{path} cannot be written: {error.strerror}") from None
        return before.st_size if before else None

    def _check_root(self, at: int) -> None:
        state = os.fstat(at)
        if (state.st_dev, state.st_ino) != (self._root_stat.st_dev, self._root_stat.st_ino):
            raise FileError("the folder has been replaced by another one")

    def _enter_folder(self, at: int, name: str, path: str) -> int:
        try:
            inner = os.open(name, _OPEN_FOLDER, dir_fd=at)
        except OSError as error:
            raise _make_error(at, name, path, error, self.is_denied) from None
        if os.fstat(inner).st_dev != self._root_stat.st_dev:
            os.close(inner)
            raise FileError(f"{path} is on another file system, which is not entered")
        return inner


def _make_folder(folder: int, name: str, path: str) -> None:
    try:
        os.mkdir(name, dir_fd=folder)
    except FileExistsError:
        pass
    except OSError as error:
        raise FileError(f"{path} cannot be created: {error.strerror}") from None


def open_regular_file(folder: int, name: str, path: str, is_denied: Callable[[str], bool]) -> int:
    """Open a regular file in an open folder. Raise FileError if that fails.

    is_denied: whether a name must not be suggested in the message.
    """
    try:
        # To open a device may have effects, so the type is checked before and after.
        _check_regular(os.stat(name, dir_fd=folder, follow_symlinks=False), path)
        descriptor = os.open(name, _OPEN_FILE, dir_fd=folder)
    except OSError as error:
        raise _make_error(folder, name, path, error, is_denied) from None
    try:
        _check_regular(os.fstat(descriptor), path)
    except FileError:
        os.close(descriptor)
        raise
    return descriptor


def _check_regular(state: os.stat_result, path: str) -> None:
    if not stat.S_ISREG(state.st_mode):
        raise FileError(
            f"{path or 'the folder'} is {_describe_kind(state)}; only regular files are read"
        )
    if state.st_nlink > 1:
        raise FileError(f"{path} has {state.st_nlink} names (hard links), so it is not read")


def _replace_file(folder: int, name: str, data: bytes, mode: int | None) -> None:
    temporary = f".{token_hex(8)}.part"
    descriptor = os.open(temporary, _CREATE_FILE, 0o666, dir_fd=folder)
    try:
        with os.fdopen(descriptor, "wb") as file:
            if mode is not None:
                os.fchmod(descriptor, mode)
            file.write(data)
            file.flush()
            os.fsync(descriptor)
        os.rename(temporary, name, src_dir_fd=folder, dst_dir_fd=folder)
    except BaseException:
        with suppress(OSError):
            os.unlink(temporary, dir_fd=folder)
        raise
    with suppress(OSError):  # some file systems cannot
        os.fsync(folder)


def _stat_name(folder: int, name: str) -> os.stat_result | None:
    try:
        return os.stat(name, dir_fd=folder, follow_symlinks=False)
    except OSError:
        return None


def _describe_kind(state: os.stat_result) -> str:
    kinds = {
        stat.S_IFLNK: "a symbolic link",
        stat.S_IFDIR: "a folder",
        stat.S_IFIFO: "a pipe",
        stat.S_IFSOCK: "a socket",
        stat.S_IFCHR: "a device",
        stat.S_IFBLK: "a device",
    }
    return kinds.get(stat.S_IFMT(state.st_mode), "not a regular file")


def _make_error(
    folder: int, name: str, path: str, error: OSError, is_denied: Callable[[str], bool]
) -> FileError:
    state = _stat_name(folder, name)
    if state is not None and stat.S_ISLNK(state.st_mode):
        return FileError(f"{path} is a symbolic link, and links are not followed")
    if error.errno == errno.ENOENT:
        return FileError(f"there is no {path}{_suggest_names(folder, name, is_denied)}")
    if error.errno == errno.ENOTDIR and state is not None:
        return FileError(f"{path} is {_describe_kind(state)}, not a folder")
    return FileError(f"{path} cannot be opened: {error.strerror}")


def _suggest_names(folder: int, name: str, is_denied: Callable[[str], bool]) -> str:
    with os.scandir(folder) as entries:
        names = (entry.name for entry in islice(entries, 1_000))
        known = sorted(n for n in names if not is_denied(n) and not _UNSAFE.search(n))
    near = get_close_matches(name, known, 3, 0.5) or [n for n in known if n[0] != "."][:10]
    return f"; there is: {', '.join(near)}" if near else ""
