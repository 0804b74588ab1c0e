"""The cause of a server's end, from the messages of LMDeploy and its dependencies."""

from __future__ import annotations

import pytest
from rows import each_row

from agentcall_server.diagnosis import ExitInfo, FailureCause, diagnose

# Lines as these programs print them: (cause, line, the part that the diagnosis must repeat).
SAID: list[tuple[FailureCause, str, str]] = [
    ("memory", "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB.", "CUDA"),
    ("memory", "RuntimeError: [TM][ERROR] CUDA runtime error: out of memory /src/x.cc:44", "CUDA"),
    ("memory", "RuntimeError: No enough gpu memory for kv cache.", "for kv cache"),
    ("memory", "RuntimeError: No enough gpu memory for runtime.", "for runtime"),
    ("memory", "RuntimeError: CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling cublas", "ALLOC"),
    ("main memory", "ggml_backend_cpu_buffer_type_alloc: failed to allocate buffer of size 9", ""),
    ("main memory", "RuntimeError: [enforce fail] DefaultCPUAllocator: not enough memory: 4", ""),
    (
        "port",
        "ERROR:    [Errno 98] error while attempting to bind on address: address already in use",
        "",
    ),
    ("port", "OSError: [Errno 48] Address already in use", ""),
    ("flag", "lmdeploy: error: unrecognized arguments: --nonsense 3", "--nonsense 3"),
    (
        "flag",
        "api_server: error: argument --backend: invalid choice: 'x' (choose from 'pytorch')",
        "--backend: invalid choice",
    ),
    (
        "parser",
        "ValueError: The tool parser qwen9 is not in the parser list: dict_keys(['internlm'])",
        "qwen9",
    ),
    (
        "code",
        "Please pass the argument `trust_remote_code=True` to allow custom code to be run.",
        "",
    ),
    (
        "model",
        "HFValidationError: Repo id must be in the form 'repo_name' or 'name/repo': '/no'.",
        "",
    ),
    ("model", "OSError: x/y is not a local folder and is not a valid model identifier", ""),
    ("model", "huggingface_hub.errors.RepositoryNotFoundError: 404 Client Error.", ""),
    ("model", "OSError: /m does not appear to have a file named config.json.", "config.json"),
    ("model", "huggingface_hub.errors.GatedRepoError: 403 Client Error.", "Gated"),
    ("model", '{"failed": "model", "why": "could not load"}', ""),
    ("network", "LocalEntryNotFoundError: Cannot find an appropriate cached snapshot", ""),
    ("network", "OSError: We couldn't connect to 'https://huggingface.co' to load the files", ""),
    ("driver", "AssertionError: Torch not compiled with CUDA enabled", "Torch not compiled"),
    ("driver", "RuntimeError: Found no NVIDIA driver on your system. Please check", "no NVIDIA"),
    (
        "driver",
        "RuntimeError: The NVIDIA driver on your system is too old (found version 11040).",
        "too old",
    ),
    ("driver", "CUDA driver version is insufficient for CUDA runtime version", "insufficient"),
    (
        "driver",
        "CUDA error: no kernel image is available for execution on the device",
        "no kernel image",
    ),
    (
        "driver",
        "ImportError: libcudart.so.12: cannot open shared object file: No such file",
        "libcudart.so.12",
    ),
    ("driver", "lmdeploy - ERROR - <PyTorch> test failed!", ""),
    ("package", "ModuleNotFoundError: No module named 'timm'", "timm"),
    (
        "package",
        "ValueError: The checkpoint has model type `qwen9` but Transformers does not recognize it.",
        "qwen9",
    ),
    ("package", '{"failed": "runtime", "why": "No module named xllamacpp"}', "xllamacpp"),
    ("disk", "OSError: [Errno 28] No space left on device", ""),
]


@each_row(("cause", "line", "repeated"), SAID)
def test_the_words_tell_the_cause(cause: FailureCause, line: str, repeated: str) -> None:
    found = diagnose(ExitInfo(1, ("Loading weights", line, "  the end of a traceback")))
    assert found.cause == cause
    assert repeated in found.what
    assert found.advice
    assert "{" not in found.what.replace(line, "")


def test_the_last_words_count_not_a_warning_before_them() -> None:
    warning = "WARNING - model type `internlm2` but Transformers does not recognize it"
    last = "AssertionError: Torch not compiled with CUDA enabled"
    assert diagnose(ExitInfo(1, (warning, last))).cause == "driver"


@pytest.mark.parametrize("code", [-9, 137])
def test_a_kill_may_have_been_the_system(code: int) -> None:
    found = diagnose(ExitInfo(code, ("Loading weights",)))
    assert found.cause == "main memory"
    assert "SIGKILL" in found.what


@pytest.mark.parametrize("code", [-11, 139, -6])
def test_a_crash_is_named(code: int) -> None:
    found = diagnose(ExitInfo(code, ("Loading weights",)))
    assert found.cause == "driver"
    assert "SIG" in found.what
    assert "Loading weights" in found.what


@pytest.mark.parametrize("lines", [(), ("ValueError: a new one",)])
def test_what_is_not_known_repeats_code_and_last_words(lines: tuple[str, ...]) -> None:
    found = diagnose(ExitInfo(7, lines))
    assert found.cause == "unknown"
    assert "code 7" in found.what
    assert (lines[0] if lines else "nothing") in found.what


def test_what_we_ended_ourselves_is_told_as_that() -> None:
    assert diagnose(ExitInfo(-9, ("Loading 40%",), "hung")).cause == "hung"
    assert "Loading 40%" in diagnose(ExitInfo(-9, ("Loading 40%",), "hung")).what
    assert "loop died" in diagnose(ExitInfo(-15, (), "unwell", "loop died")).what
