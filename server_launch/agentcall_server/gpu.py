"""The memory of this machine's GPUs, asked through nvidia-ml-py if it is installed."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from types import ModuleType

from agentcall_server.errors import GPUUnknown

INSTALL_COMMAND = "pip install nvidia-ml-py"
BY_HAND_HINT = "or say how much there is: --gpu 24GiB"


@dataclass(frozen=True, slots=True)
class GPUMemory:
    """One GPU; memory in bytes, `used` by all processes together."""

    name: str
    total: int
    used: int


def find_gpus() -> tuple[GPUMemory, ...]:
    """The GPUs of this machine, at least one. Raises GpuUnknown."""
    nvml = _import_nvml()
    try:
        nvml.nvmlInit()
    except nvml.NVMLError as error:
        raise GPUUnknown(f"no NVIDIA driver answers here ({error}); {BY_HAND_HINT}") from error
    try:
        found = tuple(_read_gpu(nvml, index) for index in range(nvml.nvmlDeviceGetCount()))
    except nvml.NVMLError as error:
        raise GPUUnknown(
            f"the NVIDIA driver does not tell its memory ({error}); {BY_HAND_HINT}"
        ) from (error)
    finally:
        nvml.nvmlShutdown()
    if not found:
        raise GPUUnknown(f"the NVIDIA driver has no GPU; {BY_HAND_HINT}")
    return found


def _import_nvml() -> ModuleType:
    try:
        return import_module("pynvml")
    except ImportError as error:
        raise GPUUnknown(
            "this machine's GPU cannot be asked without nvidia-ml-py; install it "
            f"({INSTALL_COMMAND}), "
            f"{BY_HAND_HINT}"
        ) from error


def _read_gpu(nvml: ModuleType, index: int) -> GPUMemory:
    handle = nvml.nvmlDeviceGetHandleByIndex(index)
    memory = nvml.nvmlDeviceGetMemoryInfo(handle)
    name: str | bytes = nvml.nvmlDeviceGetName(handle)
    text = name.decode() if isinstance(name, bytes) else name
    return GPUMemory(text, int(memory.total), int(memory.used))
