"""Why a model server ended, from its exit code and its last lines, and what to do about it.

The last line that tells a cause is taken: what comes before it are warnings, and what comes after
it are its consequences. The words are those of LMDeploy 0.5.3 to 0.18.0, torch, transformers,
huggingface_hub, uvicorn, argparse and llama.cpp.
"""

from __future__ import annotations

import re
import signal
from dataclasses import dataclass
from typing import Literal

FailureCause = Literal[
    "memory", "main memory", "port", "flag", "parser", "code", "model", "network", "driver",
    "package", "disk", "hung", "unwell", "unknown",
]  # fmt: skip
EndReason = Literal["", "hung", "unwell"]


@dataclass(frozen=True, slots=True)
class ExitInfo:
    """How a server ended: its exit code (below zero: the signal) and what it said last.

    `reason` is set where we ended it ourselves.
    """

    code: int
    lines: tuple[str, ...]
    reason: EndReason = ""
    engine_error: str = ""


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """The cause; what happened, with the words of the log; and what to do."""

    cause: FailureCause
    what: str
    advice: str

    def __str__(self) -> str:
        return f"{self.what}; {self.advice}"


@dataclass(frozen=True, slots=True)
class _LogPattern:
    """What tells a cause, and what to do; `{0}` and `{1}` in it are what was found."""

    cause: FailureCause
    pattern: re.Pattern[str]
    what: str
    advice: str


def _make_pattern(cause: FailureCause, pattern: str, what: str, advice: str) -> _LogPattern:
    return _LogPattern(cause, re.compile(pattern, re.IGNORECASE), what, advice)


_MEMORY_ADVICE = "lower --cache, shorten --context, or take a smaller or quantized model"
_DRIVER_ADVICE = (
    "compare `nvidia-smi` with `python -c 'import torch; print(torch.version.cuda)'`, both where "
    "LMDeploy is installed; then install a newer driver, or the LMDeploy for this one"
)
_LOG_PATTERNS = (
    _make_pattern(
        "memory",
        r"(CUDA (?:runtime )?(?:error: )?out of memory|No enough gpu memory [\w ]+|"
        r"OutOfMemoryError$|cudaErrorMemoryAllocation|CUBLAS_STATUS_ALLOC_FAILED|"
        r"out of memory at \S+)",
        "the GPU has too little memory ({0})",
        _MEMORY_ADVICE,
    ),
    _make_pattern(
        "main memory",
        r"(failed to allocate[^.]*|std::bad_alloc|cannot allocate memory|DefaultCPUAllocator: "
        r"not enough memory)",
        "main memory is too small ({0})",
        "close other programs, or take a smaller model",
    ),
    _make_pattern(
        "port",
        r"(address already in use|error while attempting to bind on address[^:]*|"
        r"couldn't bind[\w ]*)",
        "another program took its port",
        "stop that program, or give another port: --port 0 takes any free one",
    ),
    _make_pattern(
        "flag",
        r"error: (unrecognized arguments?: .+|argument .+|the following arguments are required.+)",
        "LMDeploy does not take its command line: {0}",
        "give other words after --; `lmdeploy serve api_server --help` lists them",
    ),
    _make_pattern(
        "parser",
        r"(?:tool|reasoning) parser (\S+) is not in the parser list:?\s*(.*)",
        "LMDeploy has no parser {0}: there are {1}",
        "name one of these after -- with --tool-call-parser, or update LMDeploy",
    ),
    _make_pattern(
        "parser",
        r"(could not get reasoning tokens[^.]*|could not locate think .*)",
        "the --reasoning-parser is not for this model ({0})",
        "leave --reasoning-parser out",
    ),
    _make_pattern(
        "code",
        r"(requires you to execute the \w+ file|contains custom code[^.]*|trust_remote_code=True)",
        "the model brings Python code of its own, which LMDeploy does not run unasked",
        "if you trust its publisher, add -- --trust-remote-code",
    ),
    _make_pattern(
        "model",
        r"(HFValidationError|Repo id must be in the form[^:]*|is not a local folder and is not a "
        r"valid model identifier|(?:Repository|Revision)NotFoundError|Repository Not Found|does not"
        r" appear to have a file named \S+|No such file or directory: '[^']*config\.json'|"
        r"is not a valid model|failed to (?:load|open) (?:the )?model.*|\"failed\": \"model\")",
        "the model was not found, or is none that can be served ({0})",
        "give the folder of a model with its config.json, or its name on the hub as OWNER/NAME",
    ),
    _make_pattern(
        "model",
        r"(GatedRepoError|Access to model .* is restricted|401 Client Error.*|403 Client Error.*)",
        "the hub does not give this model to you ({0})",
        "accept its licence on its page, and log in there with `hf auth login`",
    ),
    _make_pattern(
        "network",
        r"(LocalEntryNotFoundError|outgoing traffic has been disabled|We couldn't connect to|"
        r"Failed to resolve|NameResolutionError|Max retries exceeded|Network is unreachable|"
        r"OfflineModeIsEnabled|Cannot find an appropriate cached snapshot)",
        "the model is not on this machine and could not be downloaded ({0})",
        "give a folder that is here, unset HF_HUB_OFFLINE, or set HF_ENDPOINT to a mirror",
    ),
    _make_pattern(
        "driver",
        r"(Torch not compiled with CUDA enabled|cuda is not available|Found no NVIDIA driver"
        r"[\w ]*|driver (?:version )?(?:on your system )?is (?:too old|insufficient)[^.(]*|"
        r"no kernel image is available[\w ]*|no CUDA-capable device[\w ]*|forward compatibility "
        r"was attempted[\w ]*|PTX was compiled with[\w ]*|lib(?:cu|nv)\w+\.so[.\d]*: cannot open "
        r"shared object file|CUDA error: (?:initialization error|invalid device[\w ]*)|"
        r"<PyTorch> test failed|system has unsupported display driver[\w /]*)",
        "CUDA does not work with this LMDeploy here ({0})",
        _DRIVER_ADVICE,
    ),
    _make_pattern(
        "package",
        r"(?:ModuleNotFoundError|ImportError): (No module named '[^']+'|.+)",
        "a Python package is missing beside LMDeploy ({0})",
        "install it where LMDeploy is, with the Python of that `lmdeploy`",
    ),
    _make_pattern(
        "package",
        r"(model type `\S+` but Transformers does not recognize|"
        r"model type `?\S+`? is not supported)",
        "the installed LMDeploy and transformers do not know this kind of model ({0})",
        "update both where LMDeploy is installed: `python -m pip install -U lmdeploy transformers`",
    ),
    _make_pattern(
        "package",
        r"\"failed\": \"runtime\", \"why\": \"([^\"]*)",
        "the runtime of the embedded model is missing ({0})",
        "pip install 'agentcall[embedded]'",
    ),
    _make_pattern(
        "disk",
        r"(No space left on device|Disk quota exceeded|Read-only file system)",
        "the disk is full or cannot be written to ({0})",
        "free some space, or point HF_HOME to a larger disk",
    ),
)


def diagnose(exit_info: ExitInfo) -> Diagnosis:
    """The cause of a death, as far as it can be told."""
    match exit_info.reason:
        case "hung":
            return Diagnosis(
                "hung",
                f"it was not ready in time ({_find_last_line(exit_info)})",
                "look into its log; --patience gives it longer",
            )
        case "unwell":
            return Diagnosis(
                "unwell",
                f"it said of itself that it is unwell: {exit_info.engine_error}",
                "look into its log",
            )
        case "":
            return _diagnose_by_log(exit_info) or _diagnose_by_exit_code(exit_info)


def _diagnose_by_log(exit_info: ExitInfo) -> Diagnosis | None:
    for line in reversed(exit_info.lines):
        for sign in _LOG_PATTERNS:
            if found := sign.pattern.search(line):
                words = [" ".join((group or "").split())[:200] for group in found.groups()]
                what, advice = (text.format(*words) for text in (sign.what, sign.advice))
                return Diagnosis(sign.cause, what, advice)
    return None


def _diagnose_by_exit_code(exit_info: ExitInfo) -> Diagnosis:
    # a shell that ran it says 128 and the signal
    number = -exit_info.code if exit_info.code < 0 else max(0, exit_info.code - 128)
    match number:
        case signal.SIGKILL:
            what = "it was killed (SIGKILL): by somebody, or by the system out of main memory"
            return Diagnosis("main memory", what, "`dmesg` tells; if so, take a smaller model")
        case signal.SIGSEGV | signal.SIGBUS | signal.SIGILL | signal.SIGABRT:
            name = signal.Signals(number).name
            what = f"it crashed ({name}); the last it said: {_find_last_line(exit_info)}"
            return Diagnosis(
                "driver", what, f"its binaries may not suit this machine: {_DRIVER_ADVICE}"
            )
        case _:
            what = (
                f"it ended with code {exit_info.code}; the last it said: "
                f"{_find_last_line(exit_info)}"
            )
            return Diagnosis("unknown", what, "look into its log")


def _find_last_line(exit_info: ExitInfo) -> str:
    said = next((line.strip() for line in reversed(exit_info.lines) if line.strip()), "nothing")
    return said[:200]
