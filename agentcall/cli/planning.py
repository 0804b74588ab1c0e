"""A memory plan on the screen: a bar, a table of both engines and the command; or as JSON."""

from __future__ import annotations

import shlex
import sys
from dataclasses import dataclass, replace

import orjson
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from agentcall.cli.server import ServerPlanOptions
from agentcall.errors import UsageError
from agentcall_server.architecture import ModelArchitecture
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

_BACKENDS: tuple[Backend, ...] = ("turbomind", "pytorch")


@dataclass(frozen=True, slots=True)
class _PlanView:
    """What is shown: the judged plan, the one of the other engine, and the way out."""

    chosen: MemoryPlan
    other: MemoryPlan
    remedy: PlanSuggestion | None


def print_plan(options: ServerPlanOptions) -> bool:
    """Prints it; whether it fits."""
    try:
        wish = _make_plan_request(options)
        chosen = plan_memory(wish)
        backend: Backend = "pytorch" if wish.backend == "turbomind" else "turbomind"
        other = plan_memory(replace(wish, backend=backend))
    except (PlanError, GPUUnknown) as error:
        raise UsageError(str(error)) from error
    shows = _PlanView(chosen, other, None if chosen.fits else suggest_plan(chosen))
    if options.json:
        document = orjson.dumps(_view_to_json(shows), option=orjson.OPT_INDENT_2)
        sys.stdout.buffer.write(document + b"\n")
    else:
        _print_view(shows)
    return chosen.fits


def _make_plan_request(options: ServerPlanOptions) -> PlanRequest:
    if options.backend not in _BACKENDS:
        raise BadValue(f"--backend {options.backend!r}: there are turbomind and pytorch")
    architecture = find_architecture(options.model)
    total, used = _measure_memory(options)
    if options.batch < 1 or (options.prefill is not None and options.prefill < 1):
        raise BadValue("--batch and --prefill are at least 1")
    release = parse_release(options.release) if options.release else find_installed_release()
    return PlanRequest(
        architecture,
        total,
        used=used,
        scheme=_choose_scheme(options, architecture),
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


def _choose_scheme(options: ServerPlanOptions, architecture: ModelArchitecture) -> str:
    """That asked for, else that of the files."""
    asked = parse_scheme(options.quant)
    return parse_scheme(architecture.stored_scheme) if asked == "16" else asked


def _measure_memory(options: ServerPlanOptions) -> tuple[int, int]:
    """Memory of one GPU, and what others hold of it, in bytes."""
    if options.gpu != "auto":
        total = parse_size(options.gpu)
        used = parse_size(options.used) if options.used else 0
    else:
        found = find_gpus()
        if len(found) < options.tp:
            raise BadValue(f"--tp {options.tp}: this machine has {len(found)} GPU(s)")
        total = min(gpu.total for gpu in found[: options.tp])
        used = max(gpu.used for gpu in found[: options.tp])
    if used >= total:
        raise BadValue(f"{format_size(used)} of {format_size(total)} are in use: nothing is left")
    return total, used


def _print_view(view: _PlanView) -> None:
    console = Console(highlight=False)
    chosen, wish = view.chosen, view.chosen.request
    where = (
        f"{format_size(wish.gpu)} GPU"
        if wish.tp == 1
        else f"{wish.tp} GPUs of {format_size(wish.gpu)}"
    )
    console.print(Text(f"{wish.architecture.name} on a {where}, LMDeploy {wish.release}", "bold"))
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
    if view.remedy is None:
        console.print(Text("no change known here makes it fit; take a smaller model", "yellow"))
        return
    console.print(Text(f"it fits with {' '.join(view.remedy.changes)}; start it with", "green"))
    _print_command(console, view.remedy.plan)


def _print_command(console: Console, fitting: MemoryPlan) -> None:
    console.print(Text(shlex.join(build_serve_command(fitting)), "cyan"), soft_wrap=True)
    wish = fitting.request
    backend = wish.backend if wish.backend != "turbomind" else ""
    launch = Launch(wish.architecture.name, backend=backend)
    console.print(Text(f"or: {build_start_command(launch, fitting)}", "dim"), soft_wrap=True)
    if wish.scheme != "16" and wish.architecture.stored_scheme == "16":
        make = f"agentcall server quantize {wish.architecture.name} --method {wish.scheme}"
        console.print(Text(f"after: {make}", "dim"), soft_wrap=True)


def _list_parts(shown_plan: MemoryPlan) -> list[tuple[str, int, str]]:
    """The parts of the fullest GPU: name, bytes, colour."""
    return [
        ("in use by others", shown_plan.request.used, "white"),
        ("CUDA context", CUDA_CONTEXT_BYTES, "magenta"),
        ("weights", shown_plan.weights.total, "blue"),
        ("cache", shown_plan.cache, "green"),
        ("prefill", shown_plan.reserve, "yellow"),
        ("left", shown_plan.spare, "dim"),
    ]


def _build_bar(shown_plan: MemoryPlan, width: int) -> Text:
    """The GPU as a bar; parts beyond its memory are cut off."""
    bar = Text()
    left = width
    for name, size, colour in _list_parts(shown_plan):
        share = max(0, size) / shown_plan.request.gpu
        cells = min(left, round(share * width))
        bar.append(("░" if name == "left" else "█") * cells, colour)
        left -= cells
    return bar.append("░" * left, "dim")


def _build_table(view: _PlanView) -> Table:
    table = Table(box=box.SIMPLE_HEAD, header_style="dim", pad_edge=False)
    table.add_column("of one GPU")
    plans = sorted((view.chosen, view.other), key=lambda p: _BACKENDS.index(p.request.backend))
    for column in plans:
        table.add_column(column.request.backend, justify="right")
    for index, (name, _, colour) in enumerate(_list_parts(view.chosen)):
        if name == "in use by others" and not view.chosen.request.used:
            continue
        sizes = (format_size(_list_parts(column)[index][1]) for column in plans)
        table.add_row(Text(name, colour), *sizes)
    for name in _format_counts(view.chosen):
        table.add_row(name, *(_format_counts(column)[name] for column in plans))
    return table


def _format_counts(shown_plan: MemoryPlan) -> dict[str, str]:
    wish = shown_plan.request
    return {
        "bytes of cache for a token": f"{shown_plan.kv_cache.token_bytes:,.0f}",
        "tokens in the cache": f"{shown_plan.tokens:,}",
        f"sessions of {wish.session_length:,} tokens": f"{shown_plan.sessions:,}",
        f"longest of {wish.sessions} session(s)": f"{shown_plan.max_session_length:,} tokens",
        "held at start": format_size(shown_plan.bytes_at_start),
        "held at most": format_size(shown_plan.peak_bytes),
        "verdict": "fits" if shown_plan.fits else "does not fit",
    }


def _view_to_json(view: _PlanView) -> dict[str, object]:
    chosen, way_out = view.chosen, view.remedy
    fitting = chosen if chosen.fits else way_out.plan if way_out else None
    return {
        "model": chosen.request.architecture.name,
        "parameters": chosen.request.architecture.total_parameters,
        "lmdeploy": str(chosen.request.release),
        "fits": chosen.fits,
        "backend": chosen.request.backend,
        "engines": {p.request.backend: _plan_to_json(p) for p in (chosen, view.other)},
        "remedy": list(way_out.changes) if way_out else None,
        "command": build_serve_command(fitting) if fitting else None,
    }


def _plan_to_json(shown_plan: MemoryPlan) -> dict[str, object]:
    """All sizes in bytes."""
    wish, stretch = shown_plan.request, shown_plan.rope_scaling
    return {
        "gpu": wish.gpu,
        "used_by_others": wish.used,
        "context": CUDA_CONTEXT_BYTES,
        "weights": shown_plan.weights.total,
        "cache": shown_plan.cache,
        "prefill": shown_plan.reserve,
        "left": shown_plan.spare,
        "at_start": shown_plan.bytes_at_start,
        "peak": shown_plan.peak_bytes,
        "bytes_per_token": shown_plan.kv_cache.token_bytes,
        "tokens": shown_plan.tokens,
        "session_tokens": wish.session_length,
        "sessions": shown_plan.sessions,
        "longest_session": shown_plan.max_session_length,
        "rope": {"kind": stretch.kind, "factor": stretch.factor} if stretch else None,
        "fits": shown_plan.fits,
        "problems": [problem.message for problem in shown_plan.problems],
    }
