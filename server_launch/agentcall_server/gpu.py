"""The memory of this machine's GPUs, read by nvidia-ml-py if it is installed."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from types import ModuleType

from agentcall_server.errors import GPUUnknown

INSTALL_COMMAND = "pip install nvidia-ml-py"
BY_HAND_HINT = "or give the size: --gpu 24GiB"


@dataclass(frozen=True, slots=True)
class GPUMemory:
    """One GPU; memory in bytes, `used` by all processes."""

    name: str
    total: int
    used: int


def find_gpus() -> tuple[GPUMemory, ...]:
    """Return the GPUs of this machine, at least one. Raises GPUUnknown."""
    nvml = _import_nvml()
    try:
        nvml.nvmlInit()
    except nvml.NVMLError as error:
        raise GPUUnknown(f"no NVIDIA driver is available ({error}); {BY_HAND_HINT}") from error
    try:
        gpus = tuple(_read_gpu(nvml, index) for index in range(nvml.nvmlDeviceGetCount()))
    except nvml.NVMLError as error:
        raise GPUUnknown(
            f"the NVIDIA driver does not report its memory ({error}); {BY_HAND_HINT}"
        ) from error
    finally:
        nvml.nvmlShutdown()
    if not gpus:
        raise GPUUnknown(f"the NVIDIA driver reports no GPU; {BY_HAND_HINT}")
    return gpus


def _import_nvml() -> ModuleType:
    try:
        return import_module("pynvml")
    except ImportError as error:
        raise GPUUnknown(
            f"reading this machine's GPU needs nvidia-ml-py; install it ({INSTALL_COMMAND}), "
            f"{BY_HAND_HINT}"
        ) from error


def _read_gpu(nvml: ModuleType, index: int) -> GPUMemory:
    handle = nvml.nvmlDeviceGetHandleByIndex(index)
    memory = nvml.nvmlDeviceGetMemoryInfo(handle)
    name: str | bytes = nvml.nvmlDeviceGetName(handle)
    text = name.decode() if isinstance(name, bytes) else name
    return GPUMemory(text, int(memory.total), int(memory.used))
