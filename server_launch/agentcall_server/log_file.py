"""The log of a server: rotated, without secrets, readable while it grows.

A line that a program overwrites on its screen (a progress bar) is kept only as it was in the end,
and what it says of our own looks at its health is not kept.
"""

from __future__ import annotations

import os
import re
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

MAX_FILE_BYTES = 10 * 1024 * 1024
"""Bytes of one file; then it becomes FILE.1, and that FILE.2."""
OLD_FILE_COUNT = 4
"""Old files beside the one that is written."""
_MAX_LINE_BYTES = 64 * 1024
_TAIL_LINES = 400
_ANSI_STYLE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
_HEALTH_REQUEST = re.compile(rb'"GET /health HTTP/[\d.]+" 200')
"""What a server says of being looked at, every few seconds for as long as it lives."""
_LINE_END = re.compile(rb"\r?\n|\r")


class LogFile:
    """Takes what a program prints, in pieces as they come. For one writer, and many readers."""

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
        """The last lines since `begin`, without styles."""
        with self._lock:
            return list(self._lines)

    def start_run(self, heading: str) -> None:
        """A new life of the program: what was said before is forgotten here, not in the file."""
        with self._lock:
            self._lines.clear()
            self._partial_line = b""
            self._write_line(heading.encode())

    def write(self, data: bytes) -> str:
        """Keep a piece; the last thing in it that a person would see."""
        with self._lock:
            self._partial_line += data
            seen = ""
            while (end := _LINE_END.search(self._partial_line)) is not None:
                # a lone CR at the very end may be half of a CR LF
                if end.group() == b"\r" and end.end() == len(self._partial_line):
                    break
                line, self._partial_line = (
                    self._partial_line[: end.start()],
                    self._partial_line[end.end() :],
                )
                if end.group() != b"\r":
                    self._store_line(line)
                seen = format_line(line) or seen
            if len(self._partial_line) > _MAX_LINE_BYTES:
                line, self._partial_line = self._partial_line, b""
                self._store_line(line)
            return format_line(self._partial_line) or seen

    def close(self) -> None:
        """Keep what is left, and close the file."""
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
            for older in range(OLD_FILE_COUNT, 0, -1):
                newer = self._path.with_name(f"{self._path.name}.{older - 1}")
                source = newer if older > 1 else self._path
                if source.exists():
                    source.replace(self._path.with_name(f"{self._path.name}.{older}"))
            self._file = self._path.open("ab")
        self._file.write(line + b"\n")
        self._file.flush()


def format_line(line: bytes) -> str:
    """A line as a person would see it: styles off, and only what was not overwritten."""
    return _ANSI_STYLE.sub(
        "", line.decode(errors="replace").rstrip("\r").rpartition("\r")[2]
    ).strip()


def read_tail(path: Path, count: int) -> list[str]:
    """The last lines of a log, those of the file before it if need be."""
    lines: list[str] = []
    for file in (path, path.with_name(f"{path.name}.1")):
        if file.exists() and len(lines) < count:
            lines = file.read_text("utf-8", "replace").splitlines()[-(count - len(lines)) :] + lines
    return lines


def follow(path: Path, wait: Callable[[], bool]) -> Iterator[str]:
    """Lines as they are written, from now on, rotation and all.

    `wait` is asked when there is nothing new; it waits a moment and says whether to go on.
    """
    stream = path.open("rb")
    stream.seek(0, os.SEEK_END)
    begun = b""
    try:
        while True:
            while piece := stream.readline():
                begun += piece
                if begun.endswith(b"\n"):
                    yield begun.decode(errors="replace").rstrip("\r\n")
                    begun = b""
            if _is_replaced(stream.fileno(), path):
                stream.close()
                stream = path.open("rb")
            elif not wait():
                return
    finally:
        stream.close()


def _is_replaced(descriptor: int, path: Path) -> bool:
    try:
        return os.fstat(descriptor).st_ino != path.stat().st_ino
    except OSError:
        return False
