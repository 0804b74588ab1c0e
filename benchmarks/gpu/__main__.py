"""Start a real LMDeploy on this machine's GPU as `agentcall server plan` says, benchmark it with
agents, and compare the planned memory with nvidia-smi's.

    python -m benchmarks.gpu Qwen/Qwen2.5-0.5B-Instruct
    python -m benchmarks.gpu /models/internlm2_5-7b-chat --context 32768 --cache 0.5 --out gpu.json

MODEL is a folder with weights, or a name from the catalogue of `agentcall server plan`, which
LMDeploy downloads. Prints tables for docs/gpu.md. Exit code 1: the model called no tool, or the
plan is off by more than --tolerance.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

import orjson

from agentcall.diagnostics.bench import BenchReport
from agentcall.errors import AgentCallError
from agentcall_server.cli_flags import find_lmdeploy
from agentcall_server.errors import ServerError
from agentcall_server.language_models import find_architecture
from agentcall_server.memory_plan import MemoryPlan, PlanRequest, plan_memory
from agentcall_server.releases import NEWEST_RELEASE, find_installed_release, parse_release
from agentcall_server.units import format_size
from agentcall_server.weights import parse_scheme
from benchmarks.gpu.comparison import ComparisonRow, MeasuredMemory, compare_memory, format_table
from benchmarks.gpu.smi import GPUMemory, NvidiaSmiError, PeakMemory, query_gpus
from benchmarks.gpu.trial import ServerStartError, run_benchmark, run_server


def main(words: list[str] | None = None) -> int:
    options = _make_parser().parse_args(words)
    gpu = _query_gpu(options)
    planned = _make_plan(options, gpu)
    lmdeploy = find_lmdeploy(options.lmdeploy)
    log = Path(options.log or Path(tempfile.mkdtemp()) / "lmdeploy.log")
    print(f"{gpu.name}, {format_size(gpu.total)}, {format_size(gpu.used)} in use; log: {log}")
    with run_server(planned, lmdeploy, log) as url:
        ready = _query_gpu(options).used
        with PeakMemory(options.nvidia_smi, options.gpu) as highest:
            report = run_benchmark(url, planned.prefill)
    lines = compare_memory(planned, MeasuredMemory(gpu.used, ready, max(ready, highest.used)))
    print(f"\n{_format_title(planned, gpu)}\n\n{format_table(lines)}\n\n{_format_speeds(report)}")
    if options.out:
        found = {"gpu": asdict(gpu), "memory": [asdict(line) for line in lines]}
        found["bench"] = asdict(report)
        Path(options.out).write_bytes(orjson.dumps(found, option=orjson.OPT_INDENT_2))
    return 0 if _is_within_tolerance(lines, options.tolerance) and _has_called_tool(report) else 1


def _make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.gpu",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("model")
    parser.add_argument("--gpu", type=int, default=0, help="its index in nvidia-smi")
    parser.add_argument("--backend", choices=("turbomind", "pytorch"), default="turbomind")
    parser.add_argument("--quant", default="none", help="of the weights in the folder")
    parser.add_argument("--cache", type=float, default=0.5, help="--cache-max-entry-count")
    parser.add_argument("--context", type=int, default=8192, help="tokens of a session")
    parser.add_argument("--release", help="LMDeploy's version; default: the one beside this Python")
    parser.add_argument("--lmdeploy", help="the `lmdeploy` program")
    parser.add_argument("--nvidia-smi", default="nvidia-smi", help="the `nvidia-smi` program")
    parser.add_argument("--tolerance", type=float, default=0.1, help="share of the planned bytes")
    parser.add_argument("--log", help="where LMDeploy's output goes")
    parser.add_argument("--out", help="a file for all figures, as JSON")
    return parser


def _make_plan(options: argparse.Namespace, gpu: GPUMemory) -> MemoryPlan:
    release = parse_release(options.release) if options.release else find_installed_release()
    made = plan_memory(
        PlanRequest(
            find_architecture(options.model),
            gpu.total,
            used=gpu.used,
            scheme=parse_scheme(options.quant),
            cache=options.cache,
            context=options.context,
            backend=options.backend,
            release=release or NEWEST_RELEASE,
        )
    )
    if made.problems:
        sys.exit(f"it does not fit: {made.problems[0].message}")
    return made


def _query_gpu(options: argparse.Namespace) -> GPUMemory:
    """Return the current memory of the selected GPU. Raises NvidiaSmiError."""
    gpus = query_gpus(options.nvidia_smi)
    for gpu in gpus:
        if gpu.index == options.gpu:
            return gpu
    raise NvidiaSmiError(f"there is no GPU {options.gpu}; nvidia-smi lists {len(gpus)}")


def _format_title(planned: MemoryPlan, gpu: GPUMemory) -> str:
    wish = planned.request
    return (
        f"{wish.architecture.name} on {gpu.name} ({format_size(gpu.total)}), LMDeploy "
        f"{wish.release}, "
        f"{wish.backend}, --cache-max-entry-count {wish.cache:g}, --session-len "
        f"{wish.session_length}"
    )


def _format_speeds(report: BenchReport) -> str:
    rows = ["| at a time | first token | tokens/s in all | agents: runs/s |", "| --- " * 4 + "|"]
    for level in report.levels:
        first, streams, agents = level.streams.first_token, level.streams, level.agents
        cells = (first.median if first else None, streams.in_all, agents.runs_rate)
        numbers = " | ".join("-" if cell is None else f"{cell:.3g}" for cell in cells)
        rows.append(f"| {level.concurrency} | {numbers} |")
    return "\n".join(rows)


def _is_within_tolerance(lines: tuple[ComparisonRow, ...], tolerance: float) -> bool:
    return all(abs(line.share) <= tolerance for line in lines)


def _has_called_tool(report: BenchReport) -> bool:
    return any(level.agents.called for level in report.levels)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (NvidiaSmiError, ServerStartError, ServerError, AgentCallError) as error:
        sys.exit(f"error: {error}")
