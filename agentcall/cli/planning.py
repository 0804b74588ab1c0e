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

from agentcall.cli.server import PlanOptions
from agentcall.errors import UsageError
from agentcall_server.architecture import Architecture
from agentcall_server.gpu import gpus
from agentcall_server.kvcache import read_kv_bits
from agentcall_server.language_models import find_architecture
from agentcall_server.launch import Launch
from agentcall_server.memory_advice import start_command
from agentcall_server.plan import Plan, Wish, plan
from agentcall_server.refusals import BadValue, GpuUnknown, PlanError
from agentcall_server.releases import NEWEST, installed_release, read_release
from agentcall_server.remedy import Remedy, remedy
from agentcall_server.runtime import CONTEXT
from agentcall_server.serve_command import serve_command
from agentcall_server.units import parse_count, parse_size, shown
from agentcall_server.weights import Backend, read_scheme

_BACKENDS: tuple[Backend, ...] = ("turbomind", "pytorch")


@dataclass(frozen=True, slots=True)
class _Shown:
    """What is shown: the judged plan, the one of the other engine, and the way out."""

    chosen: Plan
    other: Plan
    remedy: Remedy | None


def show_plan(options: PlanOptions) -> bool:
    """Prints it; whether it fits."""
    try:
        wish = _wish(options)
        chosen = plan(wish)
        backend: Backend = "pytorch" if wish.backend == "turbomind" else "turbomind"
        other = plan(replace(wish, backend=backend))
    except (PlanError, GpuUnknown) as error:
        raise UsageError(str(error)) from error
    shows = _Shown(chosen, other, None if chosen.fits else remedy(chosen))
    if options.json:
        document = orjson.dumps(_document(shows), option=orjson.OPT_INDENT_2)
        sys.stdout.buffer.write(document + b"\n")
    else:
        _show(shows)
    return chosen.fits


def _wish(options: PlanOptions) -> Wish:
    if options.backend not in _BACKENDS:
        raise BadValue(f"--backend {options.backend!r}: there are turbomind and pytorch")
    architecture = find_architecture(options.model)
    total, used = _memory(options)
    if options.batch < 1 or (options.prefill is not None and options.prefill < 1):
        raise BadValue("--batch and --prefill are at least 1")
    release = read_release(options.release) if options.release else installed_release()
    return Wish(
        architecture,
        total,
        used=used,
        scheme=_scheme(options, architecture),
        kv_bits=read_kv_bits(options.kv),
        cache=options.cache,
        context=parse_count(options.context) if options.context else None,
        sessions=options.sessions,
        tp=options.tp,
        backend=options.backend,
        batch=options.batch,
        prefill=options.prefill,
        release=release or NEWEST,
    )


def _scheme(options: PlanOptions, architecture: Architecture) -> str:
    """That asked for, else that of the files."""
    asked = read_scheme(options.quant)
    return read_scheme(architecture.stored_scheme) if asked == "16" else asked


def _memory(options: PlanOptions) -> tuple[int, int]:
    """Memory of one GPU, and what others hold of it, in bytes."""
    if options.gpu != "auto":
        total = parse_size(options.gpu)
        used = parse_size(options.used) if options.used else 0
    else:
        found = gpus()
        if len(found) < options.tp:
            raise BadValue(f"--tp {options.tp}: this machine has {len(found)} GPU(s)")
        total = min(gpu.total for gpu in found[: options.tp])
        used = max(gpu.used for gpu in found[: options.tp])
    if used >= total:
        raise BadValue(f"{shown(used)} of {shown(total)} are in use: nothing is left")
    return total, used


def _show(shows: _Shown) -> None:
    console = Console(highlight=False)
    chosen, wish = shows.chosen, shows.chosen.wish
    where = f"{shown(wish.gpu)} GPU" if wish.tp == 1 else f"{wish.tp} GPUs of {shown(wish.gpu)}"
    console.print(Text(f"{wish.architecture.name} on a {where}, LMDeploy {wish.release}", "bold"))
    console.print(_bar(chosen, min(72, console.width)))
    console.print(_table(shows))
    if chosen.stretch is not None:
        console.print(Text(chosen.stretch.cost, "yellow"))
    if chosen.fits:
        console.print(Text("it fits; start it with", "green"))
        _show_command(console, chosen)
        return
    for problem in chosen.problems:
        console.print(Text(f"does not fit: {problem.what}", "bold red"))
    if shows.remedy is None:
        console.print(Text("no change known here makes it fit; take a smaller model", "yellow"))
        return
    console.print(Text(f"it fits with {' '.join(shows.remedy.changes)}; start it with", "green"))
    _show_command(console, shows.remedy.plan)


def _show_command(console: Console, fitting: Plan) -> None:
    console.print(Text(shlex.join(serve_command(fitting)), "cyan"), soft_wrap=True)
    wish = fitting.wish
    backend = wish.backend if wish.backend != "turbomind" else ""
    launch = Launch(wish.architecture.name, backend=backend)
    console.print(Text(f"or: {start_command(launch, fitting)}", "dim"), soft_wrap=True)
    if wish.scheme != "16" and wish.architecture.stored_scheme == "16":
        make = f"agentcall server quantize {wish.architecture.name} --method {wish.scheme}"
        console.print(Text(f"after: {make}", "dim"), soft_wrap=True)


def _parts(shown_plan: Plan) -> list[tuple[str, int, str]]:
    """The parts of the fullest GPU: name, bytes, colour."""
    return [
        ("in use by others", shown_plan.wish.used, "white"),
        ("CUDA context", CONTEXT, "magenta"),
        ("weights", shown_plan.weights.total, "blue"),
        ("cache", shown_plan.cache, "green"),
        ("prefill", shown_plan.reserve, "yellow"),
        ("left", shown_plan.rest, "dim"),
    ]


def _bar(shown_plan: Plan, width: int) -> Text:
    """The GPU as a bar; parts beyond its memory are cut off."""
    bar = Text()
    left = width
    for name, size, colour in _parts(shown_plan):
        share = max(0, size) / shown_plan.wish.gpu
        cells = min(left, round(share * width))
        bar.append(("░" if name == "left" else "█") * cells, colour)
        left -= cells
    return bar.append("░" * left, "dim")


def _table(shows: _Shown) -> Table:
    table = Table(box=box.SIMPLE_HEAD, header_style="dim", pad_edge=False)
    table.add_column("of one GPU")
    plans = sorted((shows.chosen, shows.other), key=lambda p: _BACKENDS.index(p.wish.backend))
    for column in plans:
        table.add_column(column.wish.backend, justify="right")
    for index, (name, _, colour) in enumerate(_parts(shows.chosen)):
        if name == "in use by others" and not shows.chosen.wish.used:
            continue
        sizes = (shown(_parts(column)[index][1]) for column in plans)
        table.add_row(Text(name, colour), *sizes)
    for name in _counts(shows.chosen):
        table.add_row(name, *(_counts(column)[name] for column in plans))
    return table


def _counts(shown_plan: Plan) -> dict[str, str]:
    wish = shown_plan.wish
    return {
        "bytes of cache for a token": f"{shown_plan.kv.token_bytes:,.0f}",
        "tokens in the cache": f"{shown_plan.tokens:,}",
        f"sessions of {wish.length:,} tokens": f"{shown_plan.sessions:,}",
        f"longest of {wish.sessions} session(s)": f"{shown_plan.longest:,} tokens",
        "held at start": shown(shown_plan.at_start),
        "held at most": shown(shown_plan.peak),
        "verdict": "fits" if shown_plan.fits else "does not fit",
    }


def _document(shows: _Shown) -> dict[str, object]:
    chosen, way_out = shows.chosen, shows.remedy
    fitting = chosen if chosen.fits else way_out.plan if way_out else None
    return {
        "model": chosen.wish.architecture.name,
        "parameters": chosen.wish.architecture.parameters,
        "lmdeploy": str(chosen.wish.release),
        "fits": chosen.fits,
        "backend": chosen.wish.backend,
        "engines": {p.wish.backend: _figures(p) for p in (chosen, shows.other)},
        "remedy": list(way_out.changes) if way_out else None,
        "command": serve_command(fitting) if fitting else None,
    }


def _figures(shown_plan: Plan) -> dict[str, object]:
    """All sizes in bytes."""
    wish, stretch = shown_plan.wish, shown_plan.stretch
    return {
        "gpu": wish.gpu,
        "used_by_others": wish.used,
        "context": CONTEXT,
        "weights": shown_plan.weights.total,
        "cache": shown_plan.cache,
        "prefill": shown_plan.reserve,
        "left": shown_plan.rest,
        "at_start": shown_plan.at_start,
        "peak": shown_plan.peak,
        "bytes_per_token": shown_plan.kv.token_bytes,
        "tokens": shown_plan.tokens,
        "session_tokens": wish.length,
        "sessions": shown_plan.sessions,
        "longest_session": shown_plan.longest,
        "rope": {"kind": stretch.kind, "factor": stretch.factor} if stretch else None,
        "fits": shown_plan.fits,
        "problems": [problem.what for problem in shown_plan.problems],
    }
