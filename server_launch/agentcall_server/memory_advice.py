"""What to do after a GPU was too small: the planner is asked, with what the log tells of it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

from agentcall_server.diagnosis import Death, Diagnosis
from agentcall_server.errors import ServerError
from agentcall_server.gpu import Gpu, gpus
from agentcall_server.language_models import find_architecture
from agentcall_server.launch import Launch, hub_name
from agentcall_server.plan import Plan, Wish, plan
from agentcall_server.refusals import GpuUnknown
from agentcall_server.releases import NEWEST, Release, installed_release
from agentcall_server.remedy import remedy
from agentcall_server.runtime import usual_prefill
from agentcall_server.units import parse_size, shown
from agentcall_server.weights import read_scheme

USUAL_CACHE = 0.8
_TORCH = re.compile(
    r"total capacity of (\S+ [GM]iB) of which (\S+ [GM]iB) is free.*?"
    r"this process has (\S+ [GM]iB) memory in use",
    re.IGNORECASE,
)
"""How torch tells of a GPU that was too small."""


def advised(diagnosis: Diagnosis, death: Death, launch: Launch | None) -> Diagnosis:
    """The diagnosis with the planner's advice, where memory was the cause and it knows any."""
    if diagnosis.cause != "memory" or launch is None or launch.kind != "lmdeploy":
        return diagnosis
    try:
        gpu = told(death.lines) or asked(launch.tp)
        return replace(diagnosis, advice=way_out(launch, gpu))
    except ServerError:
        ask = f"`agentcall server plan {launch.model} --gpu SIZE` says what fits"
        return replace(diagnosis, advice=f"{diagnosis.advice}; {ask}")


def way_out(launch: Launch, gpu: Gpu) -> str:
    """How to launch it so that it fits. Raises PlanError, UnknownModel."""
    planned = plan(wish_of(launch, gpu))
    if planned.fits:
        lower = round(planned.wish.cache * 0.7, 2)
        return (
            f"by the plan it fits into {shown(gpu.total)}, so other programs hold more of it now "
            f"(nvidia-smi shows them), or it takes more than was planned: "
            f"agentcall server start {launch.model} --cache {lower:g}"
        )
    found = remedy(planned)
    if found is None:
        return (
            f"{planned.problems[0].what}; no change known here makes it fit: take a smaller model "
            f"or more GPUs (--tp)"
        )
    return f"{planned.problems[0].what}; it fits with: {start_command(launch, found.plan)}"


def wish_of(launch: Launch, gpu: Gpu, release: Release | None = None) -> Wish:
    """The launch as the planner takes it. Raises BadValue, UnknownModel, UnknownShape."""
    architecture = find_architecture(hub_name(launch.model))
    backend: Literal["turbomind", "pytorch"]
    backend = "pytorch" if launch.backend == "pytorch" else "turbomind"
    return Wish(
        architecture,
        gpu.total,
        used=gpu.used,
        scheme=read_scheme(architecture.stored_scheme),
        kv_bits=launch.kv_bits,
        cache=launch.cache or USUAL_CACHE,
        context=launch.context,
        tp=launch.tp,
        backend=backend,
        release=release or installed_release() or NEWEST,
    )


def asked(tp: int) -> Gpu:
    """The smallest of this machine's GPUs that would be used. Raises GpuUnknown."""
    found = gpus()[:tp]
    if len(found) < tp:
        raise GpuUnknown(f"--tp {tp}: this machine has {len(found)} GPU(s)")
    return Gpu(found[0].name, min(gpu.total for gpu in found), max(gpu.used for gpu in found))


def told(lines: Sequence[str]) -> Gpu | None:
    """What torch says of the GPU that was too small for it."""
    for line in reversed(lines):
        if found := _TORCH.search(line):
            total, free, own = (parse_size(size.replace(" ", "")) for size in found.groups())
            return Gpu("", total, max(0, total - free - own))
    return None


def start_command(launch: Launch, fitting: Plan) -> str:
    """The command of ours that launches what fits; quantizing comes before it."""
    after, model, first = fitting.wish, launch.model, ""
    if after.scheme != "16" and after.architecture.stored_scheme == "16":
        made = f"{after.architecture.name.rpartition('/')[2]}-{after.scheme}"
        first = f"agentcall server quantize {model} --method {after.scheme} && "
        model = made
    words = [f"agentcall server start {model}", *_options(launch, after)]
    return first + " ".join(words)


def _options(launch: Launch, wish: Wish) -> list[str]:
    words: list[str] = []
    if wish.cache != USUAL_CACHE:
        words.append(f"--cache {wish.cache:g}")
    if wish.context is not None:
        words.append(f"--context {wish.context}")
    if wish.kv_bits != 16:
        words.append(f"--kv int{wish.kv_bits}")
    if wish.tp != 1:
        words.append(f"--tp {wish.tp}")
    if launch.backend:
        words.append(f"--backend {launch.backend}")
    if wish.whole_prefill != usual_prefill(wish.release, wish.backend):
        words.append(f"-- --max-prefill-token-num {wish.whole_prefill}")
    return words
