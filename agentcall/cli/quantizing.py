"""Quantizing a model from the command line: what is run, how far it is, and what came of it."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

import orjson

from agentcall.cli.faults import print_error
from agentcall.cli.server import ServerQuantizeOptions
from agentcall.errors import UsageError
from agentcall_server.architecture import ModelArchitecture
from agentcall_server.cli_flags import find_lmdeploy, read_command_flags
from agentcall_server.errors import LMDeployUnavailable, PlanError, QuantizeError
from agentcall_server.language_models import find_architecture
from agentcall_server.progress import make_progress
from agentcall_server.quantize import (
    QuantizedModel,
    QuantizeJob,
    build_quantize_command,
    quantize,
    require_room,
)
from agentcall_server.quantized_models import save_quantized_model
from agentcall_server.units import format_size
from agentcall_server.weights import compute_disk_bytes


def quantize_model(options: ServerQuantizeOptions) -> bool:
    """Quantizes, or shows what would be done; whether it went well."""
    try:
        architecture = find_architecture(options.model)
        job = _make_job(options, architecture)
        if options.dry_run:
            _print_command(options, job, architecture)
            return True
        done = quantize(job, architecture, report=make_progress(), lmdeploy=options.lmdeploy)
    except (PlanError, LMDeployUnavailable) as error:
        raise UsageError(str(error)) from error
    except QuantizeError as error:
        print_error(error)
        return False
    save_quantized_model(done.folder.name, done.folder)
    _print_result(options, done)
    return True


def _make_job(options: ServerQuantizeOptions, architecture: ModelArchitecture) -> QuantizeJob:
    short = Path(architecture.name).name
    output = Path(options.output or f"{short}-{options.method}").expanduser()
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
        _write_json({"command": command, "before": before, "after": after})
        return
    sys.stdout.write(f"{shlex.join(command)}\n")
    sys.stdout.write(f"weights: {format_size(before)} now, {format_size(after)} then (computed)\n")


def _print_result(options: ServerQuantizeOptions, done: QuantizedModel) -> None:
    if options.json:
        _write_json(
            {"folder": str(done.folder), "before": done.size_before, "after": done.size_after}
        )
        return
    share = done.size_after / done.size_before
    sys.stdout.write(f"{done.folder}\n")
    sys.stdout.write(
        f"weights: {format_size(done.size_before)} before, {format_size(done.size_after)} after "
    )
    sys.stdout.write(f"({share:.0%})\n")


def _write_json(value: dict[str, object]) -> None:
    sys.stdout.buffer.write(orjson.dumps(value, option=orjson.OPT_INDENT_2) + b"\n")
