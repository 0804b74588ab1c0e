"""Quantizing a model from the command line: what is run, how far it is, and what came of it."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

import orjson

from agentcall.cli.faults import tell
from agentcall.cli.server import QuantizeOptions
from agentcall.errors import UsageError
from agentcall_server.architecture import Architecture
from agentcall_server.language_models import find_architecture
from agentcall_server.lite_command import Job, lite_command
from agentcall_server.manual import ask_manual, find_lmdeploy
from agentcall_server.progress import screen
from agentcall_server.quantize import Quantized, need_room, quantize
from agentcall_server.refusals import NoLMDeploy, PlanError, QuantizeError
from agentcall_server.shelf import put_on_shelf
from agentcall_server.units import shown
from agentcall_server.weights import bytes_on_disk


def show_quantize(options: QuantizeOptions) -> bool:
    """Quantizes, or shows what would be done; whether it went well."""
    try:
        architecture = find_architecture(options.model)
        job = _job(options, architecture)
        if options.dry_run:
            _show_command(options, job, architecture)
            return True
        done = quantize(job, architecture, report=screen(), lmdeploy=options.lmdeploy)
    except (PlanError, NoLMDeploy) as error:
        raise UsageError(str(error)) from error
    except QuantizeError as error:
        tell(error)
        return False
    put_on_shelf(done.folder.name, done.folder)
    _show_result(options, done)
    return True


def _job(options: QuantizeOptions, architecture: Architecture) -> Job:
    short = Path(architecture.name).name
    output = Path(options.output or f"{short}-{options.method}").expanduser()
    data = options.data
    is_file = data is not None and (Path(data).expanduser().exists() or "/" in data or "." in data)
    return Job(
        model=architecture.name,
        method=options.method,
        output=output,
        data=Path(data).expanduser() if data and is_file else data,
        samples=options.samples,
        length=options.length,
        batch=options.batch,
        search_scale=options.search_scale,
        own_code=architecture.own_code,
        dtype=options.dtype,
        device=options.device,
    )


def _show_command(options: QuantizeOptions, job: Job, architecture: Architecture) -> None:
    program = find_lmdeploy(options.lmdeploy)
    command = lite_command(job, ask_manual(program, job.words), program, job.output)
    need_room(job, architecture)
    before, after = (bytes_on_disk(architecture, scheme) for scheme in ("16", job.method))
    if options.json:
        _write({"command": command, "before": before, "after": after})
        return
    sys.stdout.write(f"{shlex.join(command)}\n")
    sys.stdout.write(f"weights: {shown(before)} now, {shown(after)} then (computed)\n")


def _show_result(options: QuantizeOptions, done: Quantized) -> None:
    if options.json:
        _write({"folder": str(done.folder), "before": done.before, "after": done.after})
        return
    share = done.after / done.before
    sys.stdout.write(f"{done.folder}\n")
    sys.stdout.write(f"weights: {shown(done.before)} before, {shown(done.after)} after ")
    sys.stdout.write(f"({share:.0%})\n")


def _write(value: dict[str, object]) -> None:
    sys.stdout.buffer.write(orjson.dumps(value, option=orjson.OPT_INDENT_2) + b"\n")
