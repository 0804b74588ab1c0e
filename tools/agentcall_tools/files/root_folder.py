"""Opens what lies beneath a folder, and nothing else, whatever is changed meanwhile.

Rules:
1. A path is relative and of plain names. `..`, absolute paths and the names that the user denies
   are refused by their spelling.
2. It is opened name by name, each from the descriptor of the folder before, and no symbolic link
   is followed: one that is put there between a look and an open is an error too, not a way out.
3. Folders of another file system are not entered: not /proc, /sys, /dev or what is mounted.
4. Only regular files are opened, and never waited for: no pipes, sockets or devices. A file that
   has other names (hard links) is not read, as those may lie outside.
5. What is written becomes a file at once and whole: it is written beside it and then renamed. A
   rename replaces a name, so that neither a link nor another name's content is ever written to.
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
    """The flags of open() together; a system that lacks one is refused by `RootFolder`."""
    return sum(getattr(os, name, 0) for name in names)


_OPEN_FOLDER = _combine_flags("O_RDONLY", "O_DIRECTORY", "O_NOFOLLOW", "O_CLOEXEC")
_OPEN_FILE = _combine_flags("O_RDONLY", "O_NOFOLLOW", "O_NONBLOCK", "O_CLOEXEC")
_CREATE_FILE = _combine_flags("O_WRONLY", "O_CREAT", "O_EXCL", "O_NOFOLLOW", "O_CLOEXEC")


class FileError(ValueError):
    """A file that was not read or written; the text says why, and what there is instead."""


class RootFolder:
    """A folder beneath which everything is opened."""

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
        """The names of a path. Raises FileError for what is not plainly beneath the folder."""
        if path.startswith(("/", "~")):
            raise FileError(f"{path[:200]!r} is absolute: paths are relative to the folder, as a/b")
        names = tuple(name for name in path.strip().split("/") if name not in ("", "."))
        if ".." in names:
            raise FileError(f"{path[:200]!r} leads out of the folder: no .. in a path")
        if len(names) > MAX_PATH_NAMES or _UNSAFE.search(path):
            raise FileError(f"{path[:200]!r} is no path: too deep, or with control characters")
        for name in names:
            if self.is_denied(name):
                raise FileError(f"{name[:200]!r} is not opened here: such names are kept out")
            if len(os.fsencode(name)) > _MAX_NAME_BYTES:
                raise FileError(f"{name[:80]!r}... is too long for a file's name")
        return names

    def is_denied(self, name: str) -> bool:
        """Whether the user keeps files of this name out."""
        folded = name.casefold()  # some file systems take both for the same
        return any(
            fnmatchcase(name, pattern) or fnmatchcase(folded, pattern.casefold())
            for pattern in self._deny
        )

    @contextmanager
    def open_folder(self, names: Sequence[str], *, make: bool = False) -> Generator[int]:
        """The descriptor of a folder beneath; with `make`, folders that are missing are made."""
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
        """The descriptor of a regular file beneath, for reading."""
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
        """Makes or replaces a file; gives the size of what was replaced, or None."""
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
            raise FileError("the folder was replaced by another one meanwhile")

    def _enter_folder(self, at: int, name: str, path: str) -> int:
        try:
            inner = os.open(name, _OPEN_FOLDER, dir_fd=at)
        except OSError as error:
            raise _make_error(at, name, path, error, self.is_denied) from None
        if os.fstat(inner).st_dev != self._root_stat.st_dev:
            os.close(inner)
            raise FileError(f"{path} is of another file system, which is not entered")
        return inner


def _make_folder(folder: int, name: str, path: str) -> None:
    try:
        os.mkdir(name, dir_fd=folder)
    except FileExistsError:
        pass
    except OSError as error:
        raise FileError(f"{path} cannot be made: {error.strerror}") from None


def open_regular_file(folder: int, name: str, path: str, is_denied: Callable[[str], bool]) -> int:
    """The descriptor of a regular file in an open folder. Raises FileError.

    is_denied: which names no message may have.
    """
    try:
        # Opening a device may do something, so the kind is looked at before and after.
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
    beside = f".{token_hex(8)}.part"
    descriptor = os.open(beside, _CREATE_FILE, 0o666, dir_fd=folder)
    try:
        with os.fdopen(descriptor, "wb") as file:
            if mode is not None:
                os.fchmod(descriptor, mode)
            file.write(data)
            file.flush()
            os.fsync(descriptor)
        os.rename(beside, name, src_dir_fd=folder, dst_dir_fd=folder)
    except BaseException:
        with suppress(OSError):
            os.unlink(beside, dir_fd=folder)
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
    return kinds.get(stat.S_IFMT(state.st_mode), "no regular file")


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
        known = sorted(each for each in names if not is_denied(each) and not _UNSAFE.search(each))
    near = get_close_matches(name, known, 3, 0.5) or [n for n in known if n[0] != "."][:10]
    return f"; there is: {', '.join(near)}" if near else ""
