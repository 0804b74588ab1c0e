"""The memory of this machine's GPUs, asked through nvidia-ml-py if it is installed."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from types import ModuleType

from agentcall_server.refusals import GpuUnknown

INSTALL = "pip install nvidia-ml-py"
BY_HAND = "or say how much there is: --gpu 24GiB"


@dataclass(frozen=True, slots=True)
class Gpu:
    """One GPU; memory in bytes, `used` by all processes together."""

    name: str
    total: int
    used: int


def gpus() -> tuple[Gpu, ...]:
    """The GPUs of this machine, at least one. Raises GpuUnknown."""
    nvml = _nvml()
    try:
        nvml.nvmlInit()
    except nvml.NVMLError as error:
        raise GpuUnknown(f"no NVIDIA driver answers here ({error}); {BY_HAND}") from error
    try:
        found = tuple(_gpu(nvml, index) for index in range(nvml.nvmlDeviceGetCount()))
    except nvml.NVMLError as error:
        raise GpuUnknown(f"the NVIDIA driver does not tell its memory ({error}); {BY_HAND}") from (
            error
        )
    finally:
        nvml.nvmlShutdown()
    if not found:
        raise GpuUnknown(f"the NVIDIA driver has no GPU; {BY_HAND}")
    return found


def _nvml() -> ModuleType:
    try:
        return import_module("pynvml")
    except ImportError as error:
        raise GpuUnknown(
            f"this machine's GPU cannot be asked without nvidia-ml-py; install it ({INSTALL}), "
            f"{BY_HAND}"
        ) from error


def _gpu(nvml: ModuleType, index: int) -> Gpu:
    handle = nvml.nvmlDeviceGetHandleByIndex(index)
    memory = nvml.nvmlDeviceGetMemoryInfo(handle)
    name: str | bytes = nvml.nvmlDeviceGetName(handle)
    text = name.decode() if isinstance(name, bytes) else name
    return Gpu(text, int(memory.total), int(memory.used))
