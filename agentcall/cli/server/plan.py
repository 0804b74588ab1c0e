"""`agentcall server plan`: what a model needs of a GPU, as a bar and a table, or as JSON."""

from __future__ import annotations

import shlex
from dataclasses import dataclass, replace
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from agentcall.cli.command import make_app
from agentcall.cli.options import JSONObjectOption
from agentcall.cli.terminal import make_table, write_json
from agentcall.errors import UsageError
from agentcall_server.errors import BadValue, GPUUnknown, PlanError
from agentcall_server.gpu import find_gpus
from agentcall_server.kv_cache import parse_kv_bits
from agentcall_server.language_models import find_architecture
from agentcall_server.launch import Launch
from agentcall_server.memory_advice import build_start_command
from agentcall_server.memory_overhead import CUDA_CONTEXT_BYTES
from agentcall_server.memory_plan import MemoryPlan, PlanRequest, build_serve_command, plan_memory
from agentcall_server.releases import NEWEST_RELEASE, find_installed_release, parse_release
from agentcall_server.suggestion import PlanSuggestion, suggest_plan
from agentcall_server.units import format_size, parse_count, parse_size
from agentcall_server.weights import Backend, parse_scheme

PLAN_HELP = """Show what a model needs of a GPU under LMDeploy, how many sessions fit, and how to
start it.

Exit code 1: it does not fit; the smallest change that makes it fit is shown.
"""

_BACKENDS: tuple[Backend, ...] = ("turbomind", "pytorch")


@dataclass(frozen=True, slots=True)
class ServerPlanOptions:
    """Options of `agentcall server plan`."""

    model: Annotated[
        str,
        typer.Argument(help="A folder with a config.json, or a name such as internlm2_5-7b-chat."),
    ]
    gpu: Annotated[
        str, typer.Option(help="Memory of one GPU, such as 24GiB; auto reads this machine's.")
    ] = "auto"
    used: Annotated[
        str | None, typer.Option(help="Memory of it that other programs use, such as 2GiB.")
    ] = None
    quant: Annotated[
        str, typer.Option(help="Weights: none, w4a16 (awq), gptq, w8a8 (smooth_quant), fp8.")
    ] = "none"
    kv: Annotated[str, typer.Option(help="Key-value cache: 16, int8 or int4.")] = "16"
    cache: Annotated[
        float, typer.Option(help="--cache-max-entry-count: the cache's share of free memory.")
    ] = 0.8
    context: Annotated[
        str | None,
        typer.Option(help="Session length in tokens, such as 32k. Default: the model's own."),
    ] = None
    sessions: Annotated[
        int, typer.Option(help="Number of sessions of that length at the same time.")
    ] = 1
    tp: Annotated[int, typer.Option(help="Number of GPUs that share the model.")] = 1
    backend: Annotated[
        str, typer.Option(help="The engine of the verdict: turbomind or pytorch.")
    ] = "turbomind"
    batch: Annotated[int, typer.Option(help="--max-batch-size.")] = 128
    prefill: Annotated[
        int | None, typer.Option(help="--max-prefill-token-num. Default: LMDeploy's own.")
    ] = None
    release: Annotated[
        str | None,
        typer.Option(help="LMDeploy's version. Default: the installed one, else 0.18.0."),
    ] = None
    json: JSONObjectOption = False


@dataclass(frozen=True, slots=True)
class _PlanView:
    """The plan, that of the other engine, and a change that makes the plan fit."""

    chosen: MemoryPlan
    other: MemoryPlan
    suggestion: PlanSuggestion | None


def print_plan(options: ServerPlanOptions) -> int:
    """Print the plan; return 1 if it does not fit."""
    try:
        request = _make_plan_request(options)
        chosen = plan_memory(request)
        backend: Backend = "pytorch" if request.backend == "turbomind" else "turbomind"
        other = plan_memory(replace(request, backend=backend))
    except (PlanError, GPUUnknown) as error:
        raise UsageError(str(error)) from error
    view = _PlanView(chosen, other, None if chosen.fits else suggest_plan(chosen))
    if options.json:
        write_json(_view_to_json(view), indent=True)
    else:
        _print_view(view)
    return 0 if chosen.fits else 1


def _make_plan_request(options: ServerPlanOptions) -> PlanRequest:
    if options.backend not in _BACKENDS:
        raise BadValue(f"--backend {options.backend!r}: use turbomind or pytorch")
    architecture = find_architecture(options.model)
    total, used = _measure_memory(options)
    if options.batch < 1 or (options.prefill is not None and options.prefill < 1):
        raise BadValue("--batch and --prefill are at least 1")
    scheme = parse_scheme(options.quant)
    if scheme == "16":
        scheme = parse_scheme(architecture.stored_scheme)
    release = parse_release(options.release) if options.release else find_installed_release()
    return PlanRequest(
        architecture,
        total,
        used=used,
        scheme=scheme,
        kv_bits=parse_kv_bits(options.kv),
        cache=options.cache,
        context=parse_count(options.context) if options.context else None,
        sessions=options.sessions,
        tp=options.tp,
        backend=options.backend,
        batch=options.batch,
        prefill=options.prefill,
        release=release or NEWEST_RELEASE,
    )


def _measure_memory(options: ServerPlanOptions) -> tuple[int, int]:
    """Return the memory of one GPU, and how much of it others use, in bytes."""
    if options.gpu != "auto":
        total = parse_size(options.gpu)
        used = parse_size(options.used) if options.used else 0
    else:
        gpus = find_gpus()
        if len(gpus) < options.tp:
            raise BadValue(f"--tp {options.tp}: this machine has {len(gpus)} GPU(s)")
        total = min(gpu.total for gpu in gpus[: options.tp])
        used = max(gpu.used for gpu in gpus[: options.tp])
    if used >= total:
        raise BadValue(f"{format_size(used)} of {format_size(total)} are in use: nothing is left")
    return total, used


def _print_view(view: _PlanView) -> None:
    console = Console(highlight=False)
    chosen, request = view.chosen, view.chosen.request
    size = format_size(request.gpu)
    gpus = f"a {size} GPU" if request.tp == 1 else f"{request.tp} GPUs of {size}"
    title = f"{request.architecture.name} on {gpus}, LMDeploy {request.release}"
    console.print(Text(title, "bold"))
    console.print(_build_bar(chosen, min(72, console.width)))
    console.print(_build_table(view))
    if chosen.rope_scaling is not None:
        console.print(Text(chosen.rope_scaling.cost, "yellow"))
    if chosen.fits:
        console.print(Text("it fits; start it with", "green"))
        _print_command(console, chosen)
        return
    for problem in chosen.problems:
        console.print(Text(f"does not fit: {problem.message}", "bold red"))
    if view.suggestion is None:
        console.print(Text("no known change makes it fit; use a smaller model", "yellow"))
        return
    console.print(Text(f"it fits with {' '.join(view.suggestion.changes)}; start it with", "green"))
    _print_command(console, view.suggestion.plan)


def _print_command(console: Console, plan: MemoryPlan) -> None:
    console.print(Text(shlex.join(build_serve_command(plan)), "cyan"), soft_wrap=True)
    request = plan.request
    name = request.architecture.name
    launch = Launch(name, backend=request.backend if request.backend != "turbomind" else "")
    console.print(Text(f"or: {build_start_command(launch, plan)}", "dim"), soft_wrap=True)
    if request.scheme != "16" and request.architecture.stored_scheme == "16":
        command = f"agentcall server quantize {name} --method {request.scheme}"
        console.print(Text(f"quantize it first: {command}", "dim"), soft_wrap=True)


def _list_parts(plan: MemoryPlan) -> list[tuple[str, int, str]]:
    """Return the parts of the fullest GPU: name, bytes, colour."""
    return [
        ("in use by others", plan.request.used, "white"),
        ("CUDA context", CUDA_CONTEXT_BYTES, "magenta"),
        ("weights", plan.weights.total, "blue"),
        ("cache", plan.cache, "green"),
        ("prefill", plan.reserve, "yellow"),
        ("left", plan.spare, "dim"),
    ]


def _build_bar(plan: MemoryPlan, width: int) -> Text:
    """Return the GPU as a bar; parts beyond its memory are cut off."""
    bar = Text()
    left = width
    for name, size, colour in _list_parts(plan):
        share = max(0, size) / plan.request.gpu
        cells = min(left, round(share * width))
        bar.append(("░" if name == "left" else "█") * cells, colour)
        left -= cells
    return bar.append("░" * left, "dim")


def _build_table(view: _PlanView) -> Table:
    plans = sorted((view.chosen, view.other), key=lambda p: _BACKENDS.index(p.request.backend))
    columns = [Column(plan.request.backend, justify="right") for plan in plans]
    table = make_table("of one GPU", *columns)
    for index, (name, _, colour) in enumerate(_list_parts(view.chosen)):
        if name == "in use by others" and not view.chosen.request.used:
            continue
        sizes = (format_size(_list_parts(plan)[index][1]) for plan in plans)
        table.add_row(Text(name, colour), *sizes)
    for name in _format_counts(view.chosen):
        table.add_row(name, *(_format_counts(plan)[name] for plan in plans))
    return table


def _format_counts(plan: MemoryPlan) -> dict[str, str]:
    request = plan.request
    return {
        "cache bytes per token": f"{plan.kv_cache.token_bytes:,.0f}",
        "tokens in the cache": f"{plan.tokens:,}",
        f"sessions of {request.session_length:,} tokens": f"{plan.sessions:,}",
        f"longest of {request.sessions} session(s)": f"{plan.max_session_length:,} tokens",
        "held at start": format_size(plan.bytes_at_start),
        "held at most": format_size(plan.peak_bytes),
        "verdict": "fits" if plan.fits else "does not fit",
    }


def _view_to_json(view: _PlanView) -> dict[str, object]:
    chosen, suggestion = view.chosen, view.suggestion
    fitting = chosen if chosen.fits else suggestion.plan if suggestion else None
    return {
        "model": chosen.request.architecture.name,
        "parameters": chosen.request.architecture.total_parameters,
        "lmdeploy": str(chosen.request.release),
        "fits": chosen.fits,
        "backend": chosen.request.backend,
        "engines": {p.request.backend: _plan_to_json(p) for p in (chosen, view.other)},
        "remedy": list(suggestion.changes) if suggestion else None,
        "command": build_serve_command(fitting) if fitting else None,
    }


def _plan_to_json(plan: MemoryPlan) -> dict[str, object]:
    """Return the plan as JSON; all sizes are bytes."""
    request, rope = plan.request, plan.rope_scaling
    return {
        "gpu": request.gpu,
        "used_by_others": request.used,
        "context": CUDA_CONTEXT_BYTES,
        "weights": plan.weights.total,
        "cache": plan.cache,
        "prefill": plan.reserve,
        "left": plan.spare,
        "at_start": plan.bytes_at_start,
        "peak": plan.peak_bytes,
        "bytes_per_token": plan.kv_cache.token_bytes,
        "tokens": plan.tokens,
        "session_tokens": request.session_length,
        "sessions": plan.sessions,
        "longest_session": plan.max_session_length,
        "rope": {"kind": rope.kind, "factor": rope.factor} if rope else None,
        "fits": plan.fits,
        "problems": [problem.message for problem in plan.problems],
    }


app = make_app(ServerPlanOptions, print_plan, PLAN_HELP)
