"""Runs a download program and ends it when the other side stops answering.

The clock starts at the program's first line of output, because a Python on a busy machine needs a
while before it sends a request. Once the other side has answered, bytes must keep arriving.
"""

from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from agentcall_server.errors import SourceTimeout
from agentcall_server.model_cache import count_bytes
from agentcall_server.processes import make_child_environment

STARTUP_SECONDS = 60.0
POLL_SECONDS = 0.2


@dataclass(frozen=True, slots=True)
class DownloadTimeouts:
    """Seconds to wait for a source's first answer, and then for further bytes.

    `retry_answer` applies to sources that did not answer, once no other source is left.
    """

    answer: float = 5.0
    retry_answer: float = 30.0
    stall: float = 60.0


def run_download(
    command: Sequence[str],
    folder: Path,
    *,
    is_answer: Callable[[str], bool],
    environment: Mapping[str, str],
    timeouts: DownloadTimeouts,
    on_poll: Callable[[], None],
) -> list[str]:
    """Run a command that downloads into `folder` to its end and return its output lines.

    `is_answer` is called for each line until it recognizes one that proves that the other side
    has answered. `on_poll` is called several times a second and may raise, which ends the command.

    Raises:
        SourceTimeout: The other side did not answer, or stopped sending.
    """
    process = subprocess.Popen(  # noqa: S603  (a fixed command, no shell)
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        encoding="utf-8",
        errors="replace",
        env={**make_child_environment(), **environment},
        cwd=folder,
        start_new_session=True,
    )
    try:
        return _watch(process, folder, is_answer, timeouts, on_poll)
    finally:
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                pipe.close()


def _watch(
    process: subprocess.Popen[str],
    folder: Path,
    is_answer: Callable[[str], bool],
    timeouts: DownloadTimeouts,
    on_poll: Callable[[], None],
) -> list[str]:
    lines: list[str] = []
    reader = threading.Thread(target=_read_output, args=(process, lines), daemon=True)
    reader.start()
    line_count = byte_count = 0
    has_answered = False
    allowed, clock_start = STARTUP_SECONDS, time.monotonic()
    while reader.is_alive():
        reader.join(POLL_SECONDS)
        for line in lines[line_count:]:
            if line_count == 0:
                allowed, clock_start = timeouts.answer, time.monotonic()
            if not has_answered and is_answer(line):
                has_answered = True
                allowed, clock_start = timeouts.stall, time.monotonic()
            line_count += 1
        on_poll()
        if has_answered and (total := count_bytes(folder)) != byte_count:
            byte_count, clock_start = total, time.monotonic()
        if reader.is_alive() and time.monotonic() - clock_start > allowed:
            problem = "no more bytes came" if has_answered else "no answer"
            raise SourceTimeout(f"{problem} within {allowed:g} s")
    process.wait()
    return lines


def _read_output(process: subprocess.Popen[str], lines: list[str]) -> None:
    for line in process.stdout or ():
        lines.append(line.rstrip("\n"))  # noqa: PERF401  (read while it grows)
