"""Quantizes a model with `lmdeploy lite`: the command, room for it, the run, and its result.

Rules: the result gets its name only after it was checked, so a folder that is there is whole. What
an earlier run left half done is thrown away: LMDeploy cannot resume.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from agentcall_server.architecture import Architecture
from agentcall_server.checkpoint import Checkpoint, read_checkpoint
from agentcall_server.lite_command import Job, lite_command
from agentcall_server.manual import ask_manual, find_lmdeploy
from agentcall_server.progress import Progress
from agentcall_server.refusals import NoRoom, QuantizeFailed
from agentcall_server.store import locked
from agentcall_server.units import shown
from agentcall_server.weights import bytes_on_disk

SPARE = 1.05
"""Room that is asked for beyond what is computed: headers, tokenizer, statistics."""
_SAY_EVERY = 5.0
_TAIL = 8


@dataclass(frozen=True, slots=True)
class Quantized:
    """A checked result; sizes of the weight files in bytes."""

    folder: Path
    method: str
    before: int
    after: int


def quantize(
    job: Job, architecture: Architecture, *, report: Progress, lmdeploy: str | None = None
) -> Quantized:
    """Quantize, check and name the result. Takes minutes to hours.

    Raises NoLMDeploy, QuantizeError.
    """
    program = find_lmdeploy(lmdeploy)
    if job.output.exists():
        raise QuantizeFailed(f"{job.output} is there already; delete it, or give another --output")
    need_room(job, architecture)
    command = lite_command(job, ask_manual(program, job.words), program, _work(job))
    with _alone(job, report):
        _run(command, _work(job).with_suffix(".log"), report)
        result = check(_work(job), job, architecture)
        _work(job).rename(job.output)
    return Quantized(job.output, job.method, _before(job, architecture), result.size)


def need_room(job: Job, architecture: Architecture) -> None:
    """Raise NoRoom unless disk and memory are large enough.

    LMDeploy holds the 16-bit model in main memory and moves it to the GPU layer by layer.
    """
    folder = job.output.absolute().parent
    while not folder.exists():
        folder = folder.parent
    disk = int(bytes_on_disk(architecture, job.method) * SPARE)
    free = shutil.disk_usage(folder).free
    if free < disk:
        raise NoRoom(f"{shown(disk)} are needed in {folder} and {shown(free)} are free")
    memory, available = int(bytes_on_disk(architecture, "16") * SPARE), _available_memory()
    if available is not None and available < memory:
        raise NoRoom(
            f"the 16-bit model takes {shown(memory)} of main memory while it is quantized, and "
            f"{shown(available)} are available; quantize on a larger machine"
        )


def check(folder: Path, job: Job, architecture: Architecture) -> Checkpoint:
    """The result, if it is a whole model of this method. Raises QuantizeFailed."""
    result = read_checkpoint(folder)
    if result.method != job.method:
        raise QuantizeFailed(
            f"{folder}: config.json names {result.method or 'no'} quantization, not {job.method}"
        )
    if result.missing:
        raise QuantizeFailed(f"{folder}: {', '.join(result.missing)} missing")
    expected = bytes_on_disk(architecture, job.method)
    if not 0.9 < result.size / expected < 1.1:
        raise QuantizeFailed(
            f"{folder}: the weights take {shown(result.size)}, and {shown(expected)} were "
            f"expected of {architecture.name} by {job.method}; look at its log"
        )
    for statistics in folder.glob("*_stats.pth"):
        statistics.unlink()
    return result


def _before(job: Job, architecture: Architecture) -> int:
    folder = Path(job.model).expanduser()
    size = read_checkpoint(folder).size if folder.is_dir() else 0
    return size or bytes_on_disk(architecture, "16")


def _work(job: Job) -> Path:
    return job.output.with_name(f"{job.output.name}.partial")


@contextmanager
def _alone(job: Job, report: Progress) -> Generator[None, None, None]:
    """Hold the output's name alone, over an empty work folder."""
    job.output.absolute().parent.mkdir(parents=True, exist_ok=True)
    waiting = f"another process is quantizing into {job.output}; waiting for it"
    with locked(job.output.with_name(f".{job.output.name}.lock"), lambda: report.say(waiting)):
        if job.output.exists():
            raise QuantizeFailed(f"{job.output} was made meanwhile by another process")
        shutil.rmtree(_work(job), ignore_errors=True)
        yield


def _run(command: list[str], log: Path, report: Progress) -> None:
    """Run it with its output in the log, and show now and then how far it is."""
    report.say(f"quantizing; log: {log}")
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    with log.open("wb") as output:
        process = subprocess.Popen(  # noqa: S603  (a fixed command, no shell)
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=environment,
        )
        try:
            _watch(process, log, report)
        except BaseException:
            process.kill()
            process.wait()
            raise
    if process.returncode:
        raise QuantizeFailed(_failure(process.returncode, log))


def _watch(process: subprocess.Popen[bytes], log: Path, report: Progress) -> None:
    said, last = "", time.monotonic()
    while process.poll() is None:
        time.sleep(0.1)
        if time.monotonic() - last < _SAY_EVERY:
            continue
        last = time.monotonic()
        line = (_lines(log) or [""])[-1].strip()
        if line and line != said:
            said = line
            report.say(f"  {line[:120]}")


def _failure(code: int, log: Path) -> str:
    lines = _lines(log)
    text = "\n".join(lines).lower()
    if "out of memory" in text or code == -9:
        return (
            f"out of memory while quantizing: close other programs, or give --batch 1; log: {log}"
        )
    if "couldn't reach" in text or "no module named 'datasets'" in text or "offline" in text:
        return (
            f"the calibration data or the model could not be downloaded; give a text of your own "
            f"(--data FILE) and the model's folder; log: {log}"
        )
    last = "\n".join(f"  {line}" for line in lines[-_TAIL:])
    return f"LMDeploy ended with code {code}; the last lines of its log ({log}):\n{last}"


def _lines(log: Path) -> list[str]:
    text = log.read_text(encoding="utf-8", errors="replace")
    return [line for line in text.replace("\r", "\n").splitlines() if line.strip()]


def _available_memory() -> int | None:
    """Bytes of main memory that programs can get, where the system tells (Linux)."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    for line in lines:
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return None
