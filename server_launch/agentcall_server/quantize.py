"""Quantizes a model with `lmdeploy lite`: the command, room for it, the run, and its result.

Rules: the result gets its name only after it was checked, so a folder that is there is whole. What
an earlier run left half done is thrown away: LMDeploy cannot resume.

The command line of `lmdeploy lite` for a job, with the flags that the installed one has.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from agentcall_server import calibration
from agentcall_server.architecture import ModelArchitecture
from agentcall_server.cli_flags import CommandFlags, find_lmdeploy, read_command_flags
from agentcall_server.errors import (
    BadValue,
    InsufficientResources,
    LMDeployUnavailable,
    QuantizeFailed,
)
from agentcall_server.model_cache import hold_lock
from agentcall_server.model_files import ModelFiles, read_model_files
from agentcall_server.progress import ProgressReporter
from agentcall_server.units import format_size
from agentcall_server.weights import compute_disk_bytes

SUBCOMMANDS = {"awq": "auto_awq", "gptq": "auto_gptq", "smooth_quant": "smooth_quant"}
_OLD_DATASETS = ("wikitext2", "ptb", "c4", "pileval")
"""Those of the releases whose --help lists none."""
_DEFAULT_DATASET = "wikitext2"


@dataclass(frozen=True, slots=True)
class QuantizeJob:
    """What is to be quantized, into which folder, and by what.

    `data` is the name of a data set that LMDeploy downloads, or a text file; `samples` of `length`
    tokens are taken of it (0 samples: without calibration, where the release can).
    """

    model: str
    method: str
    output: Path
    data: str | Path | None = None
    samples: int = 128
    length: int = 2048
    batch_size: int = 1
    group_size: int = 128
    search_scale: bool = False
    trusts_custom_code: bool = False
    dtype: str | None = None
    revision: str | None = None
    device: str | None = None

    @property
    def subcommand(self) -> tuple[str, str]:
        """The words of its command. Raises BadValue."""
        if self.method not in SUBCOMMANDS:
            known = ", ".join(SUBCOMMANDS)
            raise BadValue(f"--method {self.method!r}: there are {known}")
        return "lite", SUBCOMMANDS[self.method]


def build_quantize_command(
    job: QuantizeJob, known_flags: CommandFlags, lmdeploy: Path, work: Path
) -> list[str]:
    """The words of the command. Raises BadValue, NoLMDeploy."""
    words = [
        *job.subcommand,
        job.model,
        "--work-dir",
        str(work),
        *_build_dataset_flags(job, known_flags),
    ]
    words += _build_required_flag(known_flags, "--calib-samples", str(job.samples))
    words += _build_required_flag(known_flags, "--calib-seqlen", str(job.length))
    words += _build_optional_flag(known_flags, "--batch-size", job.batch_size, default=1)
    words += _build_optional_flag(known_flags, "--w-group-size", job.group_size, default=128)
    words += _build_optional_flag(known_flags, "--dtype", job.dtype)
    words += _build_optional_flag(known_flags, "--revision", job.revision)
    words += _build_optional_flag(known_flags, "--device", job.device)
    if job.search_scale:
        words += _build_switch(known_flags, "--search-scale")
    # before 0.13 there is no such flag, and the code is always trusted
    if job.trusts_custom_code and "--trust-remote-code" in known_flags:
        words.append("--trust-remote-code")
    if isinstance(job.data, Path):
        python = lmdeploy.with_name("python")
        return [str(python), str(Path(calibration.__file__).absolute()), str(job.data), *words]
    return [str(lmdeploy), *words]


def _build_dataset_flags(job: QuantizeJob, known_flags: CommandFlags) -> Sequence[str]:
    if isinstance(job.data, Path) and not job.data.is_file():
        raise BadValue(f"--data {job.data}: no such file")
    wanted = job.data if isinstance(job.data, str) else _DEFAULT_DATASET
    if "--calib-dataset" not in known_flags:
        raise LMDeployUnavailable(
            f"`lmdeploy {known_flags.command}` takes no --calib-dataset; update LMDeploy"
        )
    choices = known_flags["--calib-dataset"].choices or _OLD_DATASETS
    if wanted not in choices:
        raise BadValue(
            f"--data {wanted!r}: the installed LMDeploy knows {', '.join(choices)}; a text file "
            f"of your own goes as well"
        )
    return "--calib-dataset", wanted


def _build_required_flag(known_flags: CommandFlags, flag: str, value: str) -> list[str]:
    if flag not in known_flags:
        raise LMDeployUnavailable(
            f"the installed `lmdeploy {known_flags.command}` does not take {flag}; leave that "
            "option "
            f"out, or update LMDeploy"
        )
    choices = known_flags[flag].choices
    if choices and value not in choices:
        raise BadValue(f"{flag} {value}: the installed LMDeploy knows {', '.join(choices)}")
    return [flag, value]


def _build_optional_flag(
    known_flags: CommandFlags, flag: str, value: str | int | None, *, default: int | None = None
) -> list[str]:
    return [] if value in (None, default) else _build_required_flag(known_flags, flag, str(value))


def _build_switch(known_flags: CommandFlags, flag: str) -> list[str]:
    """A switch, which old releases write with a value after it."""
    if flag in known_flags and known_flags[flag].takes_value:
        return [flag, "True"]
    if flag in known_flags:
        return [flag]
    return _build_required_flag(known_flags, flag, "")


SPARE_FACTOR = 1.05
"""Room that is asked for beyond what is computed: headers, tokenizer, statistics."""
_REPORT_SECONDS = 5.0
_LOG_TAIL_LINES = 8


@dataclass(frozen=True, slots=True)
class QuantizedModel:
    """A checked result; sizes of the weight files in bytes."""

    folder: Path
    method: str
    size_before: int
    size_after: int


def quantize(
    job: QuantizeJob,
    architecture: ModelArchitecture,
    *,
    report: ProgressReporter,
    lmdeploy: str | None = None,
) -> QuantizedModel:
    """Quantize, check and name the result. Takes minutes to hours.

    Raises NoLMDeploy, QuantizeError.
    """
    program = find_lmdeploy(lmdeploy)
    if job.output.exists():
        raise QuantizeFailed(f"{job.output} is there already; delete it, or give another --output")
    require_room(job, architecture)
    command = build_quantize_command(
        job, read_command_flags(program, job.subcommand), program, _get_work_folder(job)
    )
    with _lock_output(job, report):
        _run_command(command, _get_work_folder(job).with_suffix(".log"), report)
        result = check_result(_get_work_folder(job), job, architecture)
        _get_work_folder(job).rename(job.output)
    return QuantizedModel(job.output, job.method, _measure_original(job, architecture), result.size)


def require_room(job: QuantizeJob, architecture: ModelArchitecture) -> None:
    """Raise NoRoom unless disk and memory are large enough.

    LMDeploy holds the 16-bit model in main memory and moves it to the GPU layer by layer.
    """
    folder = job.output.absolute().parent
    while not folder.exists():
        folder = folder.parent
    disk = int(compute_disk_bytes(architecture, job.method) * SPARE_FACTOR)
    free = shutil.disk_usage(folder).free
    if free < disk:
        raise InsufficientResources(
            f"{format_size(disk)} are needed in {folder} and {format_size(free)} are free"
        )
    memory, available = (
        int(compute_disk_bytes(architecture, "16") * SPARE_FACTOR),
        _read_available_memory(),
    )
    if available is not None and available < memory:
        raise InsufficientResources(
            f"the 16-bit model takes {format_size(memory)} of main memory while it is "
            "quantized, and "
            f"{format_size(available)} are available; quantize on a larger machine"
        )


def check_result(folder: Path, job: QuantizeJob, architecture: ModelArchitecture) -> ModelFiles:
    """The result, if it is a whole model of this method. Raises QuantizeFailed."""
    result = read_model_files(folder)
    if result.method != job.method:
        raise QuantizeFailed(
            f"{folder}: config.json names {result.method or 'no'} quantization, not {job.method}"
        )
    if result.missing:
        raise QuantizeFailed(f"{folder}: {', '.join(result.missing)} missing")
    expected = compute_disk_bytes(architecture, job.method)
    if not 0.9 < result.size / expected < 1.1:
        raise QuantizeFailed(
            f"{folder}: the weights take {format_size(result.size)}, and "
            f"{format_size(expected)} were "
            f"expected of {architecture.name} by {job.method}; look at its log"
        )
    for statistics in folder.glob("*_stats.pth"):
        statistics.unlink()
    return result


def _measure_original(job: QuantizeJob, architecture: ModelArchitecture) -> int:
    folder = Path(job.model).expanduser()
    size = read_model_files(folder).size if folder.is_dir() else 0
    return size or compute_disk_bytes(architecture, "16")


def _get_work_folder(job: QuantizeJob) -> Path:
    return job.output.with_name(f"{job.output.name}.partial")


@contextmanager
def _lock_output(job: QuantizeJob, report: ProgressReporter) -> Generator[None, None, None]:
    """Hold the output's name alone, over an empty work folder."""
    job.output.absolute().parent.mkdir(parents=True, exist_ok=True)
    waiting = f"another process is quantizing into {job.output}; waiting for it"
    with hold_lock(job.output.with_name(f".{job.output.name}.lock"), lambda: report.say(waiting)):
        if job.output.exists():
            raise QuantizeFailed(f"{job.output} was made meanwhile by another process")
        shutil.rmtree(_get_work_folder(job), ignore_errors=True)
        yield


def _run_command(command: list[str], log: Path, report: ProgressReporter) -> None:
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
            _report_progress(process, log, report)
        except BaseException:
            process.kill()
            process.wait()
            raise
    if process.returncode:
        raise QuantizeFailed(_describe_failure(process.returncode, log))


def _report_progress(process: subprocess.Popen[bytes], log: Path, report: ProgressReporter) -> None:
    said, last = "", time.monotonic()
    while process.poll() is None:
        time.sleep(0.1)
        if time.monotonic() - last < _REPORT_SECONDS:
            continue
        last = time.monotonic()
        line = (_read_log_lines(log) or [""])[-1].strip()
        if line and line != said:
            said = line
            report.say(f"  {line[:120]}")


def _describe_failure(code: int, log: Path) -> str:
    lines = _read_log_lines(log)
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
    last = "\n".join(f"  {line}" for line in lines[-_LOG_TAIL_LINES:])
    return f"LMDeploy ended with code {code}; the last lines of its log ({log}):\n{last}"


def _read_log_lines(log: Path) -> list[str]:
    text = log.read_text(encoding="utf-8", errors="replace")
    return [line for line in text.replace("\r", "\n").splitlines() if line.strip()]


def _read_available_memory() -> int | None:
    """Bytes of main memory that programs can get, where the system tells (Linux)."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    for line in lines:
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return None
