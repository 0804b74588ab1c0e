"""Advice after a GPU was too small: a memory plan with the sizes from the server's log."""

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
"""The sizes in torch's message about a GPU that was too small."""


def add_memory_advice(
    diagnosis: Diagnosis, exit_info: ExitInfo, launch: Launch | None
) -> Diagnosis:
    """Return the diagnosis with the planner's advice if memory was the cause."""
    if diagnosis.cause != "memory" or launch is None or launch.kind != "lmdeploy":
        return diagnosis
    try:
        gpu = parse_torch_memory(exit_info.lines) or read_smallest_gpu(launch.tp)
        return replace(diagnosis, advice=suggest_launch(launch, gpu))
    except ServerError:
        hint = f"`agentcall server plan {launch.model} --gpu SIZE` shows what fits"
        return replace(diagnosis, advice=f"{diagnosis.advice}; {hint}")


def suggest_launch(launch: Launch, gpu: GPUMemory) -> str:
    """Return how to launch the model so that it fits. Raises PlanError, UnknownModelName."""
    plan = plan_memory(make_plan_request(launch, gpu))
    if plan.fits:
        lower = round(plan.request.cache * 0.7, 2)
        return (
            f"according to the plan it fits into {format_size(gpu.total)}, so other programs use "
            f"more of it now (see nvidia-smi), or it needs more than planned: "
            f"agentcall server start {launch.model} --cache {lower:g}"
        )
    problem = plan.problems[0].message
    suggestion = suggest_plan(plan)
    if suggestion is None:
        return f"{problem}; no known change makes it fit: use a smaller model or more GPUs (--tp)"
    return f"{problem}; it fits with: {build_start_command(launch, suggestion.plan)}"


def make_plan_request(
    launch: Launch, gpu: GPUMemory, release: LMDeployRelease | None = None
) -> PlanRequest:
    """Return the request for a launch. Raises BadValue, UnknownModelName, UnknownArchitecture."""
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
    """Return the least memory among the first `tp` GPUs of this machine. Raises GPUUnknown."""
    gpus = find_gpus()[:tp]
    if len(gpus) < tp:
        raise GPUUnknown(f"--tp {tp}: this machine has {len(gpus)} GPU(s)")
    return GPUMemory(gpus[0].name, min(gpu.total for gpu in gpus), max(gpu.used for gpu in gpus))


def parse_torch_memory(lines: Sequence[str]) -> GPUMemory | None:
    """Return the GPU that torch's out-of-memory message describes."""
    for line in reversed(lines):
        if match := _TORCH_OUT_OF_MEMORY.search(line):
            total, free, own = (parse_size(size.replace(" ", "")) for size in match.groups())
            return GPUMemory("", total, max(0, total - free - own))
    return None


def build_start_command(launch: Launch, plan: MemoryPlan) -> str:
    """Return the `agentcall server start` command of a plan, after a quantization if needed."""
    request, model, first = plan.request, launch.model, ""
    if request.scheme != "16" and request.architecture.stored_scheme == "16":
        first = f"agentcall server quantize {model} --method {request.scheme} && "
        model = f"{request.architecture.name.rpartition('/')[2]}-{request.scheme}"
    default_prefill = get_default_prefill(request.release, request.backend)
    options = {
        f"--cache {request.cache:g}": request.cache != DEFAULT_CACHE,
        f"--context {request.context}": request.context is not None,
        f"--kv int{request.kv_bits}": request.kv_bits != 16,
        f"--tp {request.tp}": request.tp != 1,
        f"--backend {launch.backend}": bool(launch.backend),
        f"-- --max-prefill-token-num {request.prefill_tokens}": (
            request.prefill_tokens != default_prefill
        ),
    }
    needed = [option for option, is_needed in options.items() if is_needed]
    return first + " ".join([f"agentcall server start {model}", *needed])
