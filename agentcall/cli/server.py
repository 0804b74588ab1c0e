"""`agentcall server`: what a model needs of a GPU, making it need less, and keeping it up."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import typer

from agentcall.cli import bench, launches, nodes
from agentcall.cli.options import make_command

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Plan, launch, check and quantize: model servers on this machine.",
)

PLAN_HELP = """Say what a model needs of a GPU under LMDeploy, how many sessions fit, and how to
start it.

Exit code 1: it does not fit; the cheapest change that makes it fit is shown.
"""
QUANTIZE_HELP = """Quantize a model with `lmdeploy lite` of the installed version, and check the
result.

Exit code 1: it failed, or there is too little room.
"""

ModelArgument = Annotated[
    str,
    typer.Argument(help="A folder with a config.json, or a name such as internlm2_5-7b-chat."),
]
ServerJSONObjectOption = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


@dataclass(frozen=True, slots=True)
class ServerPlanOptions:
    """What `agentcall server plan` is told."""

    model: ModelArgument
    gpu: Annotated[
        str, typer.Option(help="Memory of one GPU, such as 24GiB; auto asks this machine's.")
    ] = "auto"
    used: Annotated[
        str | None, typer.Option(help="What other programs hold of it, such as 2GiB.")
    ] = None
    quant: Annotated[
        str, typer.Option(help="Weights: none, w4a16 (awq), gptq, w8a8 (smooth_quant), fp8.")
    ] = "none"
    kv: Annotated[str, typer.Option(help="Key-value cache: 16, int8 or int4.")] = "16"
    cache: Annotated[
        float, typer.Option(help="--cache-max-entry-count: the cache's share of what is free.")
    ] = 0.8
    context: Annotated[
        str | None, typer.Option(help="Tokens of a session, such as 32k. Default: as trained.")
    ] = None
    sessions: Annotated[int, typer.Option(help="Sessions of that length at the same time.")] = 1
    tp: Annotated[int, typer.Option(help="GPUs that share the model.")] = 1
    backend: Annotated[
        str, typer.Option(help="The engine that is judged: turbomind or pytorch.")
    ] = "turbomind"
    batch: Annotated[int, typer.Option(help="--max-batch-size.")] = 128
    prefill: Annotated[
        int | None, typer.Option(help="--max-prefill-token-num. Default: LMDeploy's own.")
    ] = None
    release: Annotated[
        str | None,
        typer.Option(help="LMDeploy's version. Default: the installed one, else 0.18.0."),
    ] = None
    json: ServerJSONObjectOption = False


@dataclass(frozen=True, slots=True)
class ServerQuantizeOptions:
    """What `agentcall server quantize` is told."""

    model: ModelArgument
    method: Annotated[str, typer.Option(help="awq (W4A16), gptq, or smooth_quant (W8A8).")] = "awq"
    output: Annotated[
        str | None, typer.Option(help="The folder to make. Default: MODEL-METHOD, here.")
    ] = None
    data: Annotated[
        str | None,
        typer.Option(help="Calibration: a text file, or a data set's name. Default: wikitext2."),
    ] = None
    samples: Annotated[int, typer.Option(help="Samples of it.")] = 128
    length: Annotated[int, typer.Option(help="Tokens of a sample.")] = 2048
    batch: Annotated[int, typer.Option(help="Samples at a time; less needs less memory.")] = 1
    search_scale: Annotated[
        bool, typer.Option("--search-scale", help="Search AWQ's scales: better, much slower.")
    ] = False
    dtype: Annotated[str | None, typer.Option(help="float16 or bfloat16.")] = None
    device: Annotated[str | None, typer.Option(help="Where to calibrate, such as cpu.")] = None
    lmdeploy: Annotated[str | None, typer.Option(help="The `lmdeploy` program to use.")] = None
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check the room and show the command, no more.")
    ] = False
    json: ServerJSONObjectOption = False


def _plan_command(options: ServerPlanOptions) -> None:
    from agentcall.cli.planning import print_plan

    if not print_plan(options):
        raise typer.Exit(1)


def _quantize_command(options: ServerQuantizeOptions) -> None:
    from agentcall.cli.quantizing import quantize_model

    if not quantize_model(options):
        raise typer.Exit(1)


app.command("plan", help=PLAN_HELP)(make_command(ServerPlanOptions, _plan_command))
app.command("quantize", help=QUANTIZE_HELP)(make_command(ServerQuantizeOptions, _quantize_command))
app.command("proxy", help=nodes.PROXY_HELP)(
    make_command(nodes.ServerProxyOptions, nodes.start_proxy)
)
app.add_typer(nodes.app, name="nodes")
app.command("bench", help=bench.BENCH_HELP)(make_command(bench.ServerBenchOptions, bench.bench))
launches.add_commands(app)
