"""What to do after a GPU was too small: the planner is asked, with what the log tells of it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

from agentcall_server.diagnosis import Diagnosis, ExitInfo
from agentcall_server.errors import GPUUnknown, ServerError
from agentcall_server.gpu import GPUMemory, find_gpus
from agentcall_server.language_models import find_architecture
from agentcall_server.launch import Launch, resolve_model_name
from agentcall_server.memory_overhead import get_default_prefill
from agentcall_server.memory_plan import MemoryPlan, PlanRequest, plan_memory
from agentcall_server.releases import NEWEST_RELEASE, LMDeployRelease, find_installed_release
from agentcall_server.suggestion import suggest_plan
from agentcall_server.units import format_size, parse_size
from agentcall_server.weights import parse_scheme

DEFAULT_CACHE = 0.8
_TORCH_OUT_OF_MEMORY = re.compile(
    r"total capacity of (\S+ [GM]iB) of which (\S+ [GM]iB) is free.*?"
    r"this process has (\S+ [GM]iB) memory in use",
    re.IGNORECASE,
)
"""How torch tells of a GPU that was too small."""


def add_memory_advice(
    diagnosis: Diagnosis, exit_info: ExitInfo, launch: Launch | None
) -> Diagnosis:
    """The diagnosis with the planner's advice, where memory was the cause and it knows any."""
    if diagnosis.cause != "memory" or launch is None or launch.kind != "lmdeploy":
        return diagnosis
    try:
        gpu = parse_torch_memory(exit_info.lines) or read_smallest_gpu(launch.tp)
        return replace(diagnosis, advice=suggest_launch(launch, gpu))
    except ServerError:
        ask = f"`agentcall server plan {launch.model} --gpu SIZE` says what fits"
        return replace(diagnosis, advice=f"{diagnosis.advice}; {ask}")


def suggest_launch(launch: Launch, gpu: GPUMemory) -> str:
    """How to launch it so that it fits. Raises PlanError, UnknownModel."""
    planned = plan_memory(make_plan_request(launch, gpu))
    if planned.fits:
        lower = round(planned.request.cache * 0.7, 2)
        return (
            f"by the plan it fits into {format_size(gpu.total)}, so other programs hold more "
            "of it now "
            f"(nvidia-smi shows them), or it takes more than was planned: "
            f"agentcall server start {launch.model} --cache {lower:g}"
        )
    found = suggest_plan(planned)
    if found is None:
        return (
            f"{planned.problems[0].message}; no change known here makes it fit: take a smaller "
            "model "
            f"or more GPUs (--tp)"
        )
    return f"{planned.problems[0].message}; it fits with: {build_start_command(launch, found.plan)}"


def make_plan_request(
    launch: Launch, gpu: GPUMemory, release: LMDeployRelease | None = None
) -> PlanRequest:
    """The launch as the planner takes it. Raises BadValue, UnknownModel, UnknownShape."""
    architecture = find_architecture(resolve_model_name(launch.model))
    backend: Literal["turbomind", "pytorch"]
    backend = "pytorch" if launch.backend == "pytorch" else "turbomind"
    return PlanRequest(
        architecture,
        gpu.total,
        used=gpu.used,
        scheme=parse_scheme(architecture.stored_scheme),
        kv_bits=launch.kv_bits,
        cache=launch.cache or DEFAULT_CACHE,
        context=launch.context,
        tp=launch.tp,
        backend=backend,
        release=release or find_installed_release() or NEWEST_RELEASE,
    )


def read_smallest_gpu(tp: int) -> GPUMemory:
    """The smallest of this machine's GPUs that would be used. Raises GpuUnknown."""
    found = find_gpus()[:tp]
    if len(found) < tp:
        raise GPUUnknown(f"--tp {tp}: this machine has {len(found)} GPU(s)")
    return GPUMemory(found[0].name, min(gpu.total for gpu in found), max(gpu.used for gpu in found))


def parse_torch_memory(lines: Sequence[str]) -> GPUMemory | None:
    """What torch says of the GPU that was too small for it."""
    for line in reversed(lines):
        if found := _TORCH_OUT_OF_MEMORY.search(line):
            total, free, own = (parse_size(size.replace(" ", "")) for size in found.groups())
            return GPUMemory("", total, max(0, total - free - own))
    return None


def build_start_command(launch: Launch, fitting: MemoryPlan) -> str:
    """The command of ours that launches what fits; quantizing comes before it."""
    after, model, first = fitting.request, launch.model, ""
    if after.scheme != "16" and after.architecture.stored_scheme == "16":
        made = f"{after.architecture.name.rpartition('/')[2]}-{after.scheme}"
        first = f"agentcall server quantize {model} --method {after.scheme} && "
        model = made
    words = [f"agentcall server start {model}", *_build_options(launch, after)]
    return first + " ".join(words)


def _build_options(launch: Launch, request: PlanRequest) -> list[str]:
    words: list[str] = []
    if request.cache != DEFAULT_CACHE:
        words.append(f"--cache {request.cache:g}")
    if request.context is not None:
        words.append(f"--context {request.context}")
    if request.kv_bits != 16:
        words.append(f"--kv int{request.kv_bits}")
    if request.tp != 1:
        words.append(f"--tp {request.tp}")
    if launch.backend:
        words.append(f"--backend {launch.backend}")
    if request.prefill_tokens != get_default_prefill(request.release, request.backend):
        words.append(f"-- --max-prefill-token-num {request.prefill_tokens}")
    return words
