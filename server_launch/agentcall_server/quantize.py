"""Quantizes a model with `lmdeploy lite`: its command, disk and memory, the run and its result.

The result gets its name after it was verified, so an existing folder is complete. The remains of an
interrupted run are deleted, because LMDeploy cannot resume.
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

from agentcall_server.architecture import ModelArchitecture
from agentcall_server.cli_flags import CommandFlags, find_lmdeploy, read_command_flags
from agentcall_server.errors import (
    BadValue,
    InsufficientResources,
    LMDeployUnavailable,
    QuantizeFailed,
    UnknownArchitecture,
)
from agentcall_server.model_cache import hold_lock
from agentcall_server.model_files import ModelFiles, read_model_files
from agentcall_server.progress import ProgressReporter
from agentcall_server.units import format_size
from agentcall_server.weights import compute_disk_bytes

_CALIBRATION = Path(__file__).absolute().with_name("calibration.py")
SUBCOMMANDS = {"awq": "auto_awq", "gptq": "auto_gptq", "smooth_quant": "smooth_quant"}
SPARE_FACTOR = 1.05
"""Factor on the computed sizes: headers, tokenizer, statistics."""
_OLD_DATASETS = ("wikitext2", "ptb", "c4", "pileval")
"""The data sets of the releases whose --help lists none."""
_DEFAULT_DATASET = "wikitext2"
_REPORT_SECONDS = 5.0
_LOG_TAIL_LINES = 8


@dataclass(frozen=True, slots=True)
class QuantizeJob:
    """A model to quantize, the folder of the result, and the options.

    data: the name of a data set that LMDeploy downloads, or a text file.
    samples: number of calibration samples of `length` tokens (0: none, if the release allows it).
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
        """The subcommand of lmdeploy. Raises BadValue."""
        if self.method not in SUBCOMMANDS:
            known = ", ".join(SUBCOMMANDS)
            raise BadValue(f"--method {self.method!r}: there are {known}")
        return "lite", SUBCOMMANDS[self.method]

    @property
    def work_folder(self) -> Path:
        """The folder of the result until it is verified."""
        return self.output.with_name(f"{self.output.name}.partial")


@dataclass(frozen=True, slots=True)
class QuantizedModel:
    """A verified result; sizes of the weight files in bytes."""

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
    """Quantize a model, verify the result and give it its name. Takes minutes to hours.

    Raises LMDeployUnavailable, BadValue, QuantizeError.
    """
    program = find_lmdeploy(lmdeploy)
    if job.output.exists():
        raise QuantizeFailed(f"{job.output} exists already; delete it, or give another --output")
    require_room(job, architecture)
    original = Path(job.model).expanduser()
    size_before = read_model_files(original).size if original.is_dir() else 0
    size_before = size_before or compute_disk_bytes(architecture, "16")
    known_flags, work = read_command_flags(program, job.subcommand), job.work_folder
    command = build_quantize_command(job, known_flags, program, work)
    with _lock_output(job, report):
        _run_command(command, work.with_suffix(".log"), report)
        result = check_result(work, job, architecture)
        work.rename(job.output)
    return QuantizedModel(job.output, job.method, size_before, result.size)


def build_quantize_command(
    job: QuantizeJob, known_flags: CommandFlags, lmdeploy: Path, work: Path
) -> list[str]:
    """Return the command. Raises BadValue, LMDeployUnavailable."""
    arguments = [*job.subcommand, job.model, "--work-dir", str(work)]
    arguments += ["--calib-dataset", _choose_dataset(job, known_flags)]
    values = {
        "--calib-samples": str(job.samples),
        "--calib-seqlen": str(job.length),
        "--batch-size": str(job.batch_size) if job.batch_size != 1 else None,
        "--w-group-size": str(job.group_size) if job.group_size != 128 else None,
        "--dtype": job.dtype,
        "--revision": job.revision,
        "--device": job.device,
    }
    for flag, value in values.items():
        if value is not None:
            _require_flag(known_flags, flag, value)
            arguments += [flag, value]
    if job.search_scale:
        _require_flag(known_flags, "--search-scale")
        # a switch, which old releases define with a value
        arguments += ["--search-scale", "True"][: 1 + known_flags["--search-scale"].takes_value]
    # before 0.13 there is no such flag, and the code is always trusted
    if job.trusts_custom_code and "--trust-remote-code" in known_flags:
        arguments.append("--trust-remote-code")
    if isinstance(job.data, Path):
        python = lmdeploy.with_name("python")
        return [str(python), str(_CALIBRATION), str(job.data), *arguments]
    return [str(lmdeploy), *arguments]


def _choose_dataset(job: QuantizeJob, known_flags: CommandFlags) -> str:
    if isinstance(job.data, Path) and not job.data.is_file():
        raise BadValue(f"--data {job.data}: no such file")
    _require_flag(known_flags, "--calib-dataset")
    # for a text file any known name will do: `calibration` replaces the loader
    dataset = job.data if isinstance(job.data, str) else _DEFAULT_DATASET
    choices = known_flags["--calib-dataset"].choices or _OLD_DATASETS
    if dataset not in choices:
        raise BadValue(
            f"--data {dataset!r}: the installed LMDeploy has {', '.join(choices)}; you may also "
            f"give a text file"
        )
    return dataset


def _require_flag(known_flags: CommandFlags, flag: str, value: str = "") -> None:
    if flag not in known_flags:
        raise LMDeployUnavailable(
            f"the installed `lmdeploy {known_flags.command}` has no {flag}; leave that option "
            f"out, or update LMDeploy"
        )
    choices = known_flags[flag].choices
    if value and choices and value not in choices:
        raise BadValue(f"{flag} {value}: the installed LMDeploy has {', '.join(choices)}")


def require_room(job: QuantizeJob, architecture: ModelArchitecture) -> None:
    """Raise InsufficientResources unless disk and memory are large enough.

    LMDeploy holds the 16-bit model in main memory and moves it to the GPU layer by layer.
    """
    folder = job.output.absolute().parent
    while not folder.exists():
        folder = folder.parent
    disk = int(compute_disk_bytes(architecture, job.method) * SPARE_FACTOR)
    free = shutil.disk_usage(folder).free
    if free < disk:
        raise InsufficientResources(
            f"{folder} needs {format_size(disk)} and has {format_size(free)} free"
        )
    memory = int(compute_disk_bytes(architecture, "16") * SPARE_FACTOR)
    available = _read_available_memory()
    if available is not None and available < memory:
        raise InsufficientResources(
            f"the 16-bit model takes {format_size(memory)} of main memory while it is quantized, "
            f"and {format_size(available)} are available; use a larger machine"
        )


def _read_available_memory() -> int | None:
    """Return the available bytes of main memory, if the system reports them (Linux)."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    for line in lines:
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return None


def check_result(folder: Path, job: QuantizeJob, architecture: ModelArchitecture) -> ModelFiles:
    """Return the result if it is a complete model of this method. Raises QuantizeFailed."""
    try:
        result = read_model_files(folder)
    except UnknownArchitecture as error:
        raise QuantizeFailed(str(error)) from error
    if result.method != job.method:
        raise QuantizeFailed(
            f"{folder}: config.json has {result.method or 'no'} quantization, not {job.method}"
        )
    if result.missing:
        raise QuantizeFailed(f"{folder}: {', '.join(result.missing)} missing")
    expected = compute_disk_bytes(architecture, job.method)
    if not 0.9 < result.size / expected < 1.1:
        raise QuantizeFailed(
            f"{folder}: the weights take {format_size(result.size)}, but {format_size(expected)} "
            f"were expected of {architecture.name} by {job.method}; see its log"
        )
    for statistics in folder.glob("*_stats.pth"):
        statistics.unlink()
    return result


@contextmanager
def _lock_output(job: QuantizeJob, report: ProgressReporter) -> Generator[None, None, None]:
    """Hold the name of the output exclusively, with an empty work folder."""
    job.output.absolute().parent.mkdir(parents=True, exist_ok=True)
    message = f"another process is quantizing into {job.output}; waiting for it"
    with hold_lock(job.output.with_name(f".{job.output.name}.lock"), lambda: report.say(message)):
        if job.output.exists():
            raise QuantizeFailed(f"{job.output} was created meanwhile by another process")
        shutil.rmtree(job.work_folder, ignore_errors=True)
        yield


def _run_command(command: list[str], log: Path, report: ProgressReporter) -> None:
    """Run the command with its output in the log, and report its last line now and then."""
    report.say(f"quantizing; log: {log}")
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    with log.open("wb") as output:
        process = subprocess.Popen(  # noqa: S603  (the user's own lmdeploy, no shell)
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=environment,
        )
        try:
            reported, last_time = "", time.monotonic()
            while process.poll() is None:
                time.sleep(0.1)
                if time.monotonic() - last_time < _REPORT_SECONDS:
                    continue
                last_time = time.monotonic()
                line = (_read_log_lines(log) or [""])[-1].strip()
                if line and line != reported:
                    reported = line
                    report.say(f"  {line[:120]}")
        except BaseException:
            process.kill()
            process.wait()
            raise
    if process.returncode:
        raise QuantizeFailed(_describe_failure(process.returncode, log))


def _describe_failure(code: int, log: Path) -> str:
    lines = _read_log_lines(log)
    text = "\n".join(lines).lower()
    if "out of memory" in text or code == -9:
        return (
            f"out of memory while quantizing: close other programs, or give --batch 1; log: {log}"
        )
    if "couldn't reach" in text or "no module named 'datasets'" in text or "offline" in text:
        return (
            f"the calibration data or the model could not be downloaded; give your own text "
            f"(--data FILE) and the model's folder; log: {log}"
        )
    last = "\n".join(f"  {line}" for line in lines[-_LOG_TAIL_LINES:])
    return f"LMDeploy ended with code {code}; the last lines of its log ({log}):\n{last}"


def _read_log_lines(log: Path) -> list[str]:
    text = log.read_text(encoding="utf-8", errors="replace")
    return [line for line in text.replace("\r", "\n").splitlines() if line.strip()]
