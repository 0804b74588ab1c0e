"""The cause of a model server's end, from its exit code and its last lines, and what to do.

The last line that matches a pattern decides: lines before it are warnings, and lines after it are
consequences. The patterns are the messages of LMDeploy 0.5.3 to 0.18.0, torch, transformers,
huggingface_hub, uvicorn, argparse and llama.cpp.
"""

from __future__ import annotations

import re
import signal
from dataclasses import dataclass
from typing import Literal

from agentcall_server.extras import format_install_command

FailureCause = Literal[
    "memory", "main memory", "port", "flag", "parser", "code", "model", "network", "driver",
    "package", "disk", "hung", "unwell", "unknown",
]  # fmt: skip
EndReason = Literal["", "hung", "unwell"]


@dataclass(frozen=True, slots=True)
class ExitInfo:
    """How a server ended: its exit code (below zero: the signal) and its last lines.

    `reason` is set if the supervisor ended it, `engine_error` if the server reported a dead engine.
    """

    code: int
    lines: tuple[str, ...]
    reason: EndReason = ""
    engine_error: str = ""


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """The cause; what happened, with the message in the log; and what to do."""

    cause: FailureCause
    what: str
    advice: str

    def __str__(self) -> str:
        return f"{self.what}; {self.advice}"


@dataclass(frozen=True, slots=True)
class _LogPattern:
    """A message that reveals a cause; `{0}` and `{1}` are replaced by the groups of the match."""

    cause: FailureCause
    pattern: str
    what: str
    advice: str


_MEMORY_ADVICE = "lower --cache, shorten --context, or use a smaller or quantized model"
_DRIVER_ADVICE = (
    "compare `nvidia-smi` with `python -c 'import torch; print(torch.version.cuda)'` of LMDeploy's "
    "Python; then install a newer driver, or the LMDeploy for this one"
)
_LOG_PATTERNS = (
    _LogPattern(
        "memory",
        r"(CUDA (?:runtime )?(?:error: )?out of memory|No enough gpu memory [\w ]+|"
        r"OutOfMemoryError$|cudaErrorMemoryAllocation|CUBLAS_STATUS_ALLOC_FAILED|"
        r"out of memory at \S+)",
        "the GPU has too little memory ({0})",
        _MEMORY_ADVICE,
    ),
    _LogPattern(
        "main memory",
        r"(failed to allocate[^.]*|std::bad_alloc|cannot allocate memory|DefaultCPUAllocator: "
        r"not enough memory)",
        "main memory is too small ({0})",
        "close other programs, or use a smaller model",
    ),
    _LogPattern(
        "port",
        r"(address already in use|error while attempting to bind on address[^:]*|"
        r"couldn't bind[\w ]*)",
        "another program uses its port",
        "stop that program, or give another port: --port 0 takes any free one",
    ),
    _LogPattern(
        "flag",
        r"error: (unrecognized arguments?: .+|argument .+|the following arguments are required.+)",
        "LMDeploy rejects its command line: {0}",
        "change the arguments after --; `lmdeploy serve api_server --help` lists them",
    ),
    _LogPattern(
        "parser",
        r"(?:tool|reasoning) parser (\S+) is not in the parser list:?\s*(.*)",
        "LMDeploy has no parser {0}: there are {1}",
        "give one of these with -- --tool-call-parser, or update LMDeploy",
    ),
    _LogPattern(
        "parser",
        r"(could not get reasoning tokens[^.]*|could not locate think .*)",
        "the --reasoning-parser does not fit this model ({0})",
        "remove --reasoning-parser",
    ),
    _LogPattern(
        "code",
        r"(requires you to execute the \w+ file|contains custom code[^.]*|trust_remote_code=True)",
        "the model contains Python code of its own, which LMDeploy runs only on request",
        "if you trust its publisher, add -- --trust-remote-code",
    ),
    _LogPattern(
        "model",
        r"(HFValidationError|Repo id must be in the form[^:]*|is not a local folder and is not a "
        r"valid model identifier|(?:Repository|Revision)NotFoundError|Repository Not Found|does not"
        r" appear to have a file named \S+|No such file or directory: '[^']*config\.json'|"
        r"is not a valid model|failed to (?:load|open) (?:the )?model.*|\"failed\": \"model\")",
        "the model was not found or cannot be served ({0})",
        "give the folder of a model with its config.json, or its name on the hub as OWNER/NAME",
    ),
    _LogPattern(
        "model",
        r"(GatedRepoError|Access to model .* is restricted|401 Client Error.*|403 Client Error.*)",
        "the hub denies access to this model ({0})",
        "accept its licence on its page, and log in with `hf auth login`",
    ),
    _LogPattern(
        "network",
        r"(LocalEntryNotFoundError|outgoing traffic has been disabled|We couldn't connect to|"
        r"Failed to resolve|NameResolutionError|Max retries exceeded|Network is unreachable|"
        r"OfflineModeIsEnabled|Cannot find an appropriate cached snapshot)",
        "the model is not on this machine and could not be downloaded ({0})",
        "give a local folder, unset HF_HUB_OFFLINE, or set HF_ENDPOINT to a mirror",
    ),
    _LogPattern(
        "driver",
        r"(Torch not compiled with CUDA enabled|cuda is not available|Found no NVIDIA driver"
        r"[\w ]*|driver (?:version )?(?:on your system )?is (?:too old|insufficient)[^.(]*|"
        r"no kernel image is available[\w ]*|no CUDA-capable device[\w ]*|forward compatibility "
        r"was attempted[\w ]*|PTX was compiled with[\w ]*|lib(?:cu|nv)\w+\.so[.\d]*: cannot open "
        r"shared object file|CUDA error: (?:initialization error|invalid device[\w ]*)|"
        r"<PyTorch> test failed|system has unsupported display driver[\w /]*)",
        "CUDA does not work with this LMDeploy ({0})",
        _DRIVER_ADVICE,
    ),
    _LogPattern(
        "package",
        r"(?:ModuleNotFoundError|ImportError): (No module named '[^']+'|.+)",
        "LMDeploy's Python lacks a package ({0})",
        "install it with the Python of that `lmdeploy`",
    ),
    _LogPattern(
        "package",
        r"(model type `\S+` but Transformers does not recognize|"
        r"model type `?\S+`? is not supported)",
        "the installed LMDeploy and transformers do not support this kind of model ({0})",
        "update both in LMDeploy's Python: `python -m pip install -U lmdeploy transformers`",
    ),
    _LogPattern(
        "package",
        r"\"failed\": \"runtime\", \"why\": \"([^\"]*)",
        "the runtime of the embedded model is missing ({0})",
        format_install_command("embedded"),
    ),
    _LogPattern(
        "disk",
        r"(No space left on device|Disk quota exceeded|Read-only file system)",
        "the disk is full or read-only ({0})",
        "free some space, or set HF_HOME to a folder on a larger disk",
    ),
)


def diagnose(exit_info: ExitInfo) -> Diagnosis:
    """Return the most likely cause of an exit."""
    printed = (line.strip() for line in reversed(exit_info.lines) if line.strip())
    last_line = next(printed, "nothing")[:200]
    match exit_info.reason:
        case "hung":
            what = f"it was not ready in time (last line: {last_line})"
            return Diagnosis("hung", what, "see its log; --patience waits longer")
        case "unwell":
            what = f"it reported that it is unhealthy: {exit_info.engine_error}"
            return Diagnosis("unwell", what, "see its log")
        case "":
            by_log = _diagnose_by_log(exit_info.lines)
            return by_log or _diagnose_by_exit_code(exit_info.code, last_line)


def _diagnose_by_log(lines: tuple[str, ...]) -> Diagnosis | None:
    for line in reversed(lines):
        for entry in _LOG_PATTERNS:
            if match := re.search(entry.pattern, line, re.IGNORECASE):
                groups = [" ".join((group or "").split())[:200] for group in match.groups()]
                what, advice = entry.what.format(*groups), entry.advice.format(*groups)
                return Diagnosis(entry.cause, what, advice)
    return None


def _diagnose_by_exit_code(code: int, last_line: str) -> Diagnosis:
    # a shell reports a signal as 128 and its number
    number = -code if code < 0 else max(0, code - 128)
    try:
        name = signal.Signals(number).name
    except ValueError:  # not a signal
        name = ""
    match name:
        case "SIGKILL":
            what = "it was killed (SIGKILL): by a user, or by the system out of main memory"
            return Diagnosis("main memory", what, "see `dmesg`; if so, use a smaller model")
        case "SIGSEGV" | "SIGBUS" | "SIGILL" | "SIGABRT":
            what = f"it crashed ({name}); last line: {last_line}"
            advice = f"its binaries may not fit this machine: {_DRIVER_ADVICE}"
            return Diagnosis("driver", what, advice)
        case _:
            what = f"it ended with code {code}; last line: {last_line}"
            return Diagnosis("unknown", what, "see its log")
