"""What of the trial on a GPU can be checked without one: reading nvidia-smi, and the arithmetic."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
from rows import each_row

from agentcall_server.language_models import find_architecture
from agentcall_server.memory_plan import MemoryPlan, PlanRequest, plan_memory
from agentcall_server.units import GIB
from benchmarks.gpu.__main__ import main
from benchmarks.gpu.comparison import ComparisonRow, MeasuredMemory, compare_memory, format_table
from benchmarks.gpu.smi import (
    QUERY,
    GPUMemory,
    NvidiaSmiError,
    PeakMemory,
    parse_readings,
    query_gpus,
)

MIB = 1 << 20
HEADER = "index, name, memory.total [MiB], memory.used [MiB]\n"
# As published by people with such machines.
RTX = (
    f"{HEADER}0, NVIDIA GeForce RTX 3090, 24576 MiB, 12 MiB\n"
    "1, NVIDIA GeForce RTX 3090, 24576 MiB, 12 MiB\n"
)
H200 = (
    f"{HEADER}0, NVIDIA H200 NVL, 143771 MiB, 88759 MiB\n"
    "1, NVIDIA H200 NVL, 143771 MiB, 61807 MiB\n"
)


def smi(folder: Path, text: str, *, code: int = 0) -> str:
    """A program that prints what nvidia-smi printed."""
    program = folder / "nvidia-smi"
    (folder / "said").write_text(text)
    program.write_text(f"#!/bin/sh\ncat {folder}/said\nexit {code}\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    return str(program)


def test_each_gpu_is_read() -> None:
    assert parse_readings(RTX) == tuple(
        GPUMemory(n, "NVIDIA GeForce RTX 3090", 24 * GIB, 12 * MIB) for n in (0, 1)
    )
    assert [gpu.used // MIB for gpu in parse_readings(H200)] == [88759, 61807]


@each_row(
    ("text", "message"),
    [
        ("No devices were found\n", "printed something unexpected"),
        (
            "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver.\n",
            "failed",
        ),
        ("", "printed something unexpected"),
        (HEADER + "0, NVIDIA GB10, [N/A], [N/A]\n", r"reports no memory here: '\[N/A\]'"),
        (HEADER + "0, NVIDIA L4, 23034 MiB\n", "has 3 fields"),
    ],
)
def test_what_is_no_reading_is_refused(text: str, message: str) -> None:
    with pytest.raises(NvidiaSmiError, match=message):
        parse_readings(text)


def test_the_program_is_asked_for_what_is_read(tmp_path: Path) -> None:
    assert [gpu.name for gpu in query_gpus(smi(tmp_path, H200))] == ["NVIDIA H200 NVL"] * 2
    assert QUERY[0] == "--query-gpu=" + HEADER.replace(" [MiB]", "").strip().replace(", ", ",")
    with pytest.raises(NvidiaSmiError, match="failed: "):
        query_gpus(smi(tmp_path, RTX, code=9))
    with pytest.raises(NvidiaSmiError, match="failed: "):
        query_gpus(str(tmp_path / "nowhere"))


def test_the_highest_reading_of_one_gpu_is_kept(tmp_path: Path) -> None:
    program = smi(tmp_path, H200)
    with PeakMemory(program, 1) as highest:
        pass
    assert highest.used == 61807 * MIB


@pytest.fixture
def planned() -> MemoryPlan:
    made = plan_memory(
        PlanRequest(find_architecture("Qwen2.5-0.5B-Instruct"), 24 * GIB, cache=0.5, context=8192)
    )
    assert made.fits
    return made


def test_what_others_hold_is_not_the_servers(planned: MemoryPlan) -> None:
    measured = MeasuredMemory(
        before=GIB, ready=GIB + planned.bytes_at_start, highest=GIB + planned.peak_bytes + 7
    )
    start, most = compare_memory(planned, measured)
    assert (start.difference, most.difference) == (0, 7)
    assert start.planned < most.planned


def test_the_table_names_sizes_and_signs() -> None:
    lines = [
        ComparisonRow("held at start", 10 * GIB, 11 * GIB),
        ComparisonRow("held at most", 12 * GIB, 9 * GIB),
    ]
    assert [line.share for line in lines] == [0.1, -0.25]
    rows = format_table(lines).splitlines()
    assert rows[2] == "| held at start | 10.00 GiB | 11.00 GiB | +1.00 GiB (+10.0%) |"
    assert rows[3] == "| held at most | 12.00 GiB | 9.00 GiB | -3.00 GiB (-25.0%) |"


def test_a_gpu_that_is_not_there_and_a_model_that_does_not_fit_are_told(tmp_path: Path) -> None:
    program = smi(tmp_path, H200)
    with pytest.raises(NvidiaSmiError, match="there is no GPU 2; nvidia-smi lists 2"):
        main(["Qwen2.5-0.5B-Instruct", "--gpu", "2", "--nvidia-smi", program])
    with pytest.raises(SystemExit, match="does not fit"):
        main(["Qwen2.5-72B-Instruct", "--nvidia-smi", program, "--lmdeploy", "/bin/true"])
