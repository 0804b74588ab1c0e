"""Launching a server from the command line, and what there is to do with it then."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import orjson

from agentcall.cli.faults import print_warning
from agentcall.cli.launches import ServerStartOptions
from agentcall.cli.plain import style_text
from agentcall_server.errors import ServerError
from agentcall_server.gpu import GPUMemory
from agentcall_server.kv_cache import parse_kv_bits
from agentcall_server.launch import LMDEPLOY_PORT, Launch
from agentcall_server.launcher import LaunchedServer, launch_server, wait_until_ready
from agentcall_server.memory_advice import make_plan_request, read_smallest_gpu, suggest_launch
from agentcall_server.memory_plan import plan_memory
from agentcall_server.ports import is_loopback
from agentcall_server.progress import ProgressReporter, make_progress
from agentcall_server.server_registry import ServerEntry, find_entry, find_last_launch
from agentcall_server.units import parse_count


def start_from_options(options: ServerStartOptions) -> None:
    """Launches, waits and says what to do next. Raises ServerError."""
    launch, report = make_launch(options), make_progress()
    if launch == make_launch(ServerStartOptions(options.model)):
        launch = find_previous_launch(options.model) or launch
    known = find_entry(launch.name or launch.default_name)
    if known is None or not known.is_up:  # its own memory would count as others'
        _warn_if_too_large(launch)
    launched = launch_server(launch, report)
    if not options.no_wait:
        wait_for_server(launched, report)
    if options.json:
        sys.stdout.buffer.write(
            orjson.dumps(server_to_json(launched.entry), option=orjson.OPT_INDENT_2)
        )
        sys.stdout.write("\n")
    else:
        sys.stdout.write(_describe_start(launched))


def make_launch(options: ServerStartOptions) -> Launch:
    """The options as a launch. Raises BadValue."""
    bare = Launch(options.model)
    usual = LMDEPLOY_PORT if bare.kind == "lmdeploy" else 0
    return replace(
        bare,
        name=options.name or "",
        host=options.host,
        port=usual if options.port is None else options.port,
        protected=options.api_key,
        backend=options.backend or "",
        cache=options.cache,
        context=parse_count(options.context) if options.context else None,
        kv_bits=parse_kv_bits(options.kv),
        tp=options.tp,
        template=options.chat_template,
        lmdeploy=options.lmdeploy,
        patience=options.patience,
        flags=tuple(options.flags or ()),
    )


def find_previous_launch(name: str) -> Launch | None:
    """How the server of that name was launched before, if it was."""
    return None if Path(name).exists() else find_last_launch(name)


def wait_for_server(launched: LaunchedServer, report: ProgressReporter) -> None:
    """Wait until it is ready; Ctrl-C leaves it to load. Raises StartFailed, NotUp."""
    try:
        wait_until_ready(launched, report)
    except KeyboardInterrupt:
        name = launched.entry.name
        print_warning(f"{name} goes on loading: agentcall server status {name}, or stop {name}")
        raise


def server_to_json(entry: ServerEntry) -> dict[str, object]:
    """A server as JSON; times in seconds since 1970. The key is named by its file alone."""
    wanted, status = entry.wanted, entry.status
    server = status.server if status and entry.is_up else None
    return {
        "name": entry.name,
        "phase": get_phase(entry),
        "model": make_shorthand(entry),
        "served": status.model if status else "",
        "url": f"{wanted.root}/v1" if wanted else None,
        "port": wanted.port if wanted else None,
        "key_file": str(entry.key_file) if wanted and wanted.has_key else None,
        "pid": server.pid if server else None,
        "supervisor": status.supervisor.pid if status and entry.is_up else None,
        "since": status.since if status else None,
        "restarts": status.restarts if status else 0,
        "diagnosis": str(status.diagnosis) if status and status.diagnosis else None,
        "log": str(entry.log),
    }


def get_phase(entry: ServerEntry) -> str:
    """How it is, in a word; `lost` where its supervisor was killed or the machine restarted."""
    status = entry.status
    if status is None:
        return "lost"
    is_over = status.phase in ("stopped", "failed")
    return status.phase if entry.is_up or is_over else "lost"


def make_shorthand(entry: ServerEntry) -> str:
    """What `agentcall run -m` and `Agent` take for it."""
    wanted, launch = entry.wanted, entry.launch
    if wanted is not None and wanted.kind == "embedded" and launch is not None:
        return launch.model
    return f"lmdeploy:{entry.name}"


def _describe_start(launched: LaunchedServer) -> str:
    """What is so now, and what may be done next."""
    entry = launched.entry
    wanted, model = entry.wanted, make_shorthand(entry)
    if wanted is None:
        return ""
    state = "is" if launched.is_new else "was up already and is"
    lines = [f"{entry.name} {state} {get_phase(entry)} at {wanted.root}/v1"]
    if wanted.has_key:
        lines.append(f"its API key is in {entry.key_file}, which only you can read")
        lines.append("programs on this machine that use agentcall find it by themselves")
    if not is_loopback(wanted.host):
        lines.append(f"other machines reach it at port {wanted.port}, with AGENTCALL_API_KEY set")
    nexts = (
        f'agentcall run -m {model} "What is (3+5)*2?" -t calculator',
        f"agentcall server smoke {entry.name}",
        f"agentcall server logs -f {entry.name}",
        f"agentcall server stop {entry.name}",
    )
    lines += [style_text(f"  {line}", "dim", sys.stdout) for line in nexts]
    return "\n".join(lines) + "\n"


def _warn_if_too_large(launch: Launch) -> None:
    """Say before anything is loaded that it will not fit, where that can be known."""
    try:
        gpu: GPUMemory = read_smallest_gpu(launch.tp)
        if launch.kind != "lmdeploy" or plan_memory(make_plan_request(launch, gpu)).fits:
            return
        print_warning(f"by the plan it does not fit: {suggest_launch(launch, gpu)}")
    except ServerError:
        return
