"""`agentcall server quantize`: quantize a model with LMDeploy, and check the result."""

from __future__ import annotations

import shlex
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from agentcall.cli.command import make_app
from agentcall.cli.errors import print_error
from agentcall.cli.options import JSONObjectOption, LMDeployOption
from agentcall.cli.terminal import write_json
from agentcall.errors import UsageError
from agentcall_server.architecture import ModelArchitecture
from agentcall_server.cli_flags import find_lmdeploy, read_command_flags
from agentcall_server.errors import LMDeployUnavailable, PlanError, QuantizeError
from agentcall_server.language_models import find_architecture
from agentcall_server.progress import make_progress
from agentcall_server.quantize import (
    QuantizeJob,
    build_quantize_command,
    quantize,
    require_room,
)
from agentcall_server.quantized_models import save_quantized_model
from agentcall_server.units import format_size
from agentcall_server.weights import compute_disk_bytes

QUANTIZE_HELP = """Quantize a model with `lmdeploy lite` of the installed version, and check the
result.

Exit code 1: it failed, or there is too little disk space or memory.
"""


@dataclass(frozen=True, slots=True)
class ServerQuantizeOptions:
    """Options of `agentcall server quantize`."""

    model: Annotated[
        str,
        typer.Argument(help="A folder with a config.json, or a name such as internlm2_5-7b-chat."),
    ]
    method: Annotated[str, typer.Option(help="awq (W4A16), gptq, or smooth_quant (W8A8).")] = "awq"
    output: Annotated[
        str | None,
        typer.Option(help="The folder to write. Default: MODEL-METHOD in the current folder."),
    ] = None
    data: Annotated[
        str | None,
        typer.Option(help="Calibration: a text file, or a data set's name. Default: wikitext2."),
    ] = None
    samples: Annotated[int, typer.Option(help="Number of calibration samples.")] = 128
    length: Annotated[int, typer.Option(help="Tokens of a sample.")] = 2048
    batch: Annotated[
        int, typer.Option(help="Samples at the same time; fewer need less memory.")
    ] = 1
    search_scale: Annotated[
        bool, typer.Option("--search-scale", help="Search AWQ's scales: better, much slower.")
    ] = False
    dtype: Annotated[str | None, typer.Option(help="float16 or bfloat16.")] = None
    device: Annotated[str | None, typer.Option(help="The device to calibrate on: cpu, cuda.")] = (
        None
    )
    lmdeploy: LMDeployOption = None
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check the space and show the command only.")
    ] = False
    json: JSONObjectOption = False


def quantize_model(options: ServerQuantizeOptions) -> int:
    """Quantize a model, or show the command; return the exit code."""
    try:
        architecture = find_architecture(options.model)
        job = _make_job(options, architecture)
        if options.dry_run:
            _print_command(options, job, architecture)
            return 0
        model = quantize(job, architecture, report=make_progress(), lmdeploy=options.lmdeploy)
    except (PlanError, LMDeployUnavailable) as error:
        raise UsageError(str(error)) from error
    except QuantizeError as error:
        print_error(error)
        return 1
    save_quantized_model(model.folder.name, model.folder)
    before, after = model.size_before, model.size_after
    if options.json:
        write_json({"folder": str(model.folder), "before": before, "after": after}, indent=True)
        return 0
    sizes = f"{format_size(before)} before, {format_size(after)} after ({after / before:.0%})"
    sys.stdout.write(f"{model.folder}\nweights: {sizes}\n")
    return 0


def _make_job(options: ServerQuantizeOptions, architecture: ModelArchitecture) -> QuantizeJob:
    name = Path(architecture.name).name
    output = Path(options.output or f"{name}-{options.method}").expanduser()
    data = options.data
    is_file = data is not None and (Path(data).expanduser().exists() or "/" in data or "." in data)
    return QuantizeJob(
        model=architecture.name,
        method=options.method,
        output=output,
        data=Path(data).expanduser() if data and is_file else data,
        samples=options.samples,
        length=options.length,
        batch_size=options.batch,
        search_scale=options.search_scale,
        trusts_custom_code=architecture.has_custom_code,
        dtype=options.dtype,
        device=options.device,
    )


def _print_command(
    options: ServerQuantizeOptions, job: QuantizeJob, architecture: ModelArchitecture
) -> None:
    program = find_lmdeploy(options.lmdeploy)
    command = build_quantize_command(
        job, read_command_flags(program, job.subcommand), program, job.output
    )
    require_room(job, architecture)
    before, after = (compute_disk_bytes(architecture, scheme) for scheme in ("16", job.method))
    if options.json:
        write_json({"command": command, "before": before, "after": after}, indent=True)
        return
    sizes = f"{format_size(before)} now, {format_size(after)} afterwards (estimated)"
    sys.stdout.write(f"{shlex.join(command)}\nweights: {sizes}\n")


app = make_app(ServerQuantizeOptions, quantize_model, QUANTIZE_HELP)
