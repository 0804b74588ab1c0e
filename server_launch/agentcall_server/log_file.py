"""The log of a server: rotated, without secrets, readable while it is written.

Of a line that a program overwrites on its screen (a progress bar) only the last state is kept.
Lines about this package's own health checks are left out.
"""

from __future__ import annotations

import os
import re
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

MAX_FILE_BYTES = 10 * 1024 * 1024
"""Bytes after which a file is renamed to FILE.1, and FILE.1 to FILE.2."""
OLD_FILE_COUNT = 4
"""Number of old files that are kept."""
_MAX_LINE_BYTES = 64 * 1024
_TAIL_LINES = 400
_ANSI_STYLE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
_HEALTH_REQUEST = re.compile(rb'"GET /health HTTP/[\d.]+" 200')
_LINE_END = re.compile(rb"\r?\n|\r")


class LogFile:
    """Writes the output of a program, in pieces as they arrive. One writer, many readers."""

    def __init__(
        self, path: Path, *, secrets: Sequence[str] = (), limit: int = MAX_FILE_BYTES
    ) -> None:
        self._path = path
        self._secrets = [secret.encode() for secret in secrets if secret]
        self._limit = limit
        self._lines: deque[str] = deque(maxlen=_TAIL_LINES)
        self._partial_line = b""
        self._lock = threading.Lock()
        self._file = path.open("ab")

    @property
    def lines(self) -> list[str]:
        """The last lines since `start_run`, without styles."""
        with self._lock:
            return list(self._lines)

    def start_run(self, heading: str) -> None:
        """Begin a new run of the program: write a heading and clear `lines`."""
        with self._lock:
            self._lines.clear()
            self._partial_line = b""
            self._write_line(heading.encode())

    def write(self, data: bytes) -> str:
        """Write a piece and return the last text in it that a terminal would show."""
        with self._lock:
            self._partial_line += data
            visible = ""
            while (end := _LINE_END.search(self._partial_line)) is not None:
                # a CR at the very end may be the first half of a CR LF
                if end.group() == b"\r" and end.end() == len(self._partial_line):
                    break
                line = self._partial_line[: end.start()]
                self._partial_line = self._partial_line[end.end() :]
                if end.group() != b"\r":
                    self._store_line(line)
                visible = format_line(line) or visible
            if len(self._partial_line) > _MAX_LINE_BYTES:
                line, self._partial_line = self._partial_line, b""
                self._store_line(line)
            return format_line(self._partial_line) or visible

    def close(self) -> None:
        """Write an unfinished line and close the file."""
        with self._lock:
            if self._partial_line.strip():
                self._store_line(self._partial_line)
            self._partial_line = b""
            self._file.close()

    def _store_line(self, line: bytes) -> None:
        if _HEALTH_REQUEST.search(line):
            return
        for secret in self._secrets:
            line = line.replace(secret, b"[API key]")
        self._lines.append(_ANSI_STYLE.sub("", line.decode(errors="replace")))
        self._write_line(line)

    def _write_line(self, line: bytes) -> None:
        if self._file.tell() and self._file.tell() + len(line) > self._limit:
            self._file.close()
            for number in range(OLD_FILE_COUNT, 0, -1):
                source = _get_old_file(self._path, number - 1)
                if source.exists():
                    source.replace(_get_old_file(self._path, number))
            self._file = self._path.open("ab")
        self._file.write(line + b"\n")
        self._file.flush()


def format_line(line: bytes) -> str:
    """Return a line as a terminal would show it: without styles and overwritten text."""
    text = line.decode(errors="replace").rstrip("\r").rpartition("\r")[2]
    return _ANSI_STYLE.sub("", text).strip()


def read_tail(path: Path, count: int) -> list[str]:
    """Return the last lines of a log, including those of the previous file if needed."""
    lines: list[str] = []
    for file in (path, _get_old_file(path, 1)):
        if file.exists() and len(lines) < count:
            lines = file.read_text("utf-8", "replace").splitlines()[-(count - len(lines)) :] + lines
    return lines


def follow(path: Path, wait: Callable[[], bool]) -> Iterator[str]:
    """Yield lines as they are written from now on, across rotations.

    `wait` is called when there is nothing new; it waits a moment and returns whether to continue.
    """
    stream = path.open("rb")
    stream.seek(0, os.SEEK_END)
    partial_line = b""
    try:
        while True:
            while piece := stream.readline():
                partial_line += piece
                if partial_line.endswith(b"\n"):
                    yield partial_line.decode(errors="replace").rstrip("\r\n")
                    partial_line = b""
            if _is_replaced(stream.fileno(), path):
                stream.close()
                stream = path.open("rb")
            elif not wait():
                return
    finally:
        stream.close()


def _get_old_file(path: Path, number: int) -> Path:
    return path.with_name(f"{path.name}.{number}") if number else path


def _is_replaced(descriptor: int, path: Path) -> bool:
    try:
        return os.fstat(descriptor).st_ino != path.stat().st_ino
    except OSError:
        return False
