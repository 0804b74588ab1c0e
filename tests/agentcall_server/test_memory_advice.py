"""Advice after a GPU was too small."""

from __future__ import annotations

import re

from agentcall_server.diagnosis import Diagnosis, ExitInfo, diagnose
from agentcall_server.gpu import GPUMemory
from agentcall_server.launch import Launch
from agentcall_server.memory_advice import add_memory_advice, parse_torch_memory, suggest_launch
from agentcall_server.units import GIB, parse_size

SEVEN = Launch("internlm2_5-7b-chat")
TORCH = (
    "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total "
    "capacity of 15.77 GiB of which 1.50 GiB is free. Process 7 has 0.27 GiB memory in use. "
    "Including non-PyTorch memory, this process has 14.00 GiB memory in use. Of the allocated"
)


def dead(*lines: str) -> ExitInfo:
    return ExitInfo(1, lines)


def with_advice(death: ExitInfo, launch: Launch | None) -> Diagnosis:
    return add_memory_advice(diagnose(death), death, launch)


def test_torch_tells_of_the_gpu_and_of_others_on_it() -> None:
    found = parse_torch_memory(["Loading", TORCH, "Traceback"])
    assert found is not None
    assert found.total == parse_size("15.77GiB")
    assert abs(found.used - parse_size("0.27GiB")) < GIB / 100
    assert parse_torch_memory(["CUDA out of memory"]) is None


def test_the_planner_says_what_fits_on_that_gpu() -> None:
    found = with_advice(dead(TORCH), SEVEN)
    assert found.cause == "memory"
    assert "it fits with: agentcall server quantize internlm2_5-7b-chat --method awq &&" in str(
        found
    )
    assert "agentcall server start internlm2_5-7b-chat-awq" in found.advice


def test_what_is_advised_fits() -> None:
    advice = suggest_launch(Launch(SEVEN.model, cache=0.4), GPUMemory("", 24 * GIB, 0))
    cache = re.search(r"--cache (0\.\d+)", advice)
    assert cache is not None
    again = suggest_launch(Launch(SEVEN.model, cache=float(cache[1])), GPUMemory("", 24 * GIB, 0))
    assert again.startswith("according to the plan it fits")


def test_where_the_plan_fits_others_are_suspected_and_the_cache_is_lowered() -> None:
    advice = suggest_launch(SEVEN, GPUMemory("", 80 * GIB, 0))
    assert "nvidia-smi" in advice
    assert "--cache 0.56" in advice


def test_other_options_are_kept_in_the_advice() -> None:
    launch = Launch(SEVEN.model, context=65536, kv_bits=8, backend="pytorch", cache=0.2)
    advice = suggest_launch(launch, GPUMemory("", 24 * GIB, 0))
    assert "--context 65536 --kv int8" in advice
    assert "--backend pytorch" in advice


def test_where_nothing_helps_it_says_so() -> None:
    advice = suggest_launch(Launch("Qwen2.5-72B-Instruct"), GPUMemory("", GIB, 0))
    assert "no known change makes it fit" in advice


def test_a_model_that_is_not_known_gets_general_advice() -> None:
    found = with_advice(dead(TORCH), Launch("somebody/unheard-of"))
    assert "agentcall server plan somebody/unheard-of" in found.advice
    assert "--cache" in found.advice


def test_other_causes_are_left_alone() -> None:
    death = dead("ModuleNotFoundError: No module named 'timm'")
    assert with_advice(death, SEVEN) == diagnose(death)
    assert with_advice(dead(TORCH), None) == diagnose(dead(TORCH))
