"""The command line of `lmdeploy lite` for a job, with the flags that the installed one has."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from agentcall_server import calibration
from agentcall_server.manual import Manual
from agentcall_server.refusals import BadValue, NoLMDeploy

COMMANDS = {"awq": "auto_awq", "gptq": "auto_gptq", "smooth_quant": "smooth_quant"}
_OLD_DATASETS = ("wikitext2", "ptb", "c4", "pileval")
"""Those of the releases whose --help lists none."""
_USUAL_DATASET = "wikitext2"


@dataclass(frozen=True, slots=True)
class Job:
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
    batch: int = 1
    group: int = 128
    search_scale: bool = False
    own_code: bool = False
    dtype: str | None = None
    revision: str | None = None
    device: str | None = None

    @property
    def words(self) -> tuple[str, str]:
        """The words of its command. Raises BadValue."""
        if self.method not in COMMANDS:
            known = ", ".join(COMMANDS)
            raise BadValue(f"--method {self.method!r}: there are {known}")
        return "lite", COMMANDS[self.method]


def lite_command(job: Job, manual: Manual, lmdeploy: Path, work: Path) -> list[str]:
    """The words of the command. Raises BadValue, NoLMDeploy."""
    words = [*job.words, job.model, "--work-dir", str(work), *_data(job, manual)]
    words += _needed(manual, "--calib-samples", str(job.samples))
    words += _needed(manual, "--calib-seqlen", str(job.length))
    words += _optional(manual, "--batch-size", job.batch, usual=1)
    words += _optional(manual, "--w-group-size", job.group, usual=128)
    words += _optional(manual, "--dtype", job.dtype)
    words += _optional(manual, "--revision", job.revision)
    words += _optional(manual, "--device", job.device)
    if job.search_scale:
        words += _switched(manual, "--search-scale")
    # before 0.13 there is no such flag, and the code is always trusted
    if job.own_code and "--trust-remote-code" in manual:
        words.append("--trust-remote-code")
    if isinstance(job.data, Path):
        python = lmdeploy.with_name("python")
        return [str(python), str(Path(calibration.__file__).absolute()), str(job.data), *words]
    return [str(lmdeploy), *words]


def _data(job: Job, manual: Manual) -> Sequence[str]:
    if isinstance(job.data, Path) and not job.data.is_file():
        raise BadValue(f"--data {job.data}: no such file")
    wanted = job.data if isinstance(job.data, str) else _USUAL_DATASET
    if "--calib-dataset" not in manual:
        raise NoLMDeploy(f"`lmdeploy {manual.command}` takes no --calib-dataset; update LMDeploy")
    choices = manual["--calib-dataset"].choices or _OLD_DATASETS
    if wanted not in choices:
        raise BadValue(
            f"--data {wanted!r}: the installed LMDeploy knows {', '.join(choices)}; a text file "
            f"of your own goes as well"
        )
    return "--calib-dataset", wanted


def _needed(manual: Manual, flag: str, value: str) -> list[str]:
    if flag not in manual:
        raise NoLMDeploy(
            f"the installed `lmdeploy {manual.command}` does not take {flag}; leave that option "
            f"out, or update LMDeploy"
        )
    choices = manual[flag].choices
    if choices and value not in choices:
        raise BadValue(f"{flag} {value}: the installed LMDeploy knows {', '.join(choices)}")
    return [flag, value]


def _optional(
    manual: Manual, flag: str, value: str | int | None, *, usual: int | None = None
) -> list[str]:
    return [] if value in (None, usual) else _needed(manual, flag, str(value))


def _switched(manual: Manual, flag: str) -> list[str]:
    """A switch, which old releases write with a value after it."""
    if flag in manual and manual[flag].takes_value:
        return [flag, "True"]
    if flag in manual:
        return [flag]
    return _needed(manual, flag, "")
