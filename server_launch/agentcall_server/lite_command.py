"""The command line of `lmdeploy lite` for a job, with the flags that the installed one has."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from agentcall_server import calibration
from agentcall_server.manual import CommandFlags
from agentcall_server.refusals import BadValue, LMDeployUnavailable

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
            f"the installed `lmdeploy {known_flags.command}` does not take {flag}; leave that option "
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
