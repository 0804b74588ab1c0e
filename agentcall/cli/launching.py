"""`agentcall run --launch`: the model's server, started where none is up."""

from __future__ import annotations

import os
import socket

from agentcall.cli.faults import print_warning
from agentcall.errors import ModelError, ModelUnreachable, UsageError
from agentcall.models.local_servers import find_local_server
from agentcall.models.resolve import LMDEPLOY, split_shorthands


def ensure_server(model: str | None) -> None:
    """Launch what `lmdeploy:NAME` means, unless it is up, and wait. Raises UsageError, ServerError.

    A server that was launched before is launched as it was then.
    """
    name = _parse_lmdeploy_name(model)
    if name is None:
        raise UsageError("--launch is for -m lmdeploy:NAME; it starts that model on LMDeploy")
    if find_local_server(name) is not None or _is_listening():
        return
    from agentcall.cli.starting import find_previous_launch, wait_for_server
    from agentcall_server.launch import Launch
    from agentcall_server.launcher import launch_server
    from agentcall_server.progress import make_progress

    report = make_progress()
    launch = find_previous_launch(name) or Launch(name, port=LMDEPLOY[1])
    server = launch_server(launch, report)
    wait_for_server(server, report)
    print_warning(
        f"{server.entry.name} stays up; agentcall server stop {server.entry.name} ends it"
    )


def print_launch_hint(model: str | None, error: ModelError | None) -> None:
    """Say that the server could be launched, where that is what is missing."""
    if isinstance(error, ModelUnreachable) and _parse_lmdeploy_name(model):
        print_warning("no server of it is up; --launch starts one (agentcall server start)")


def _parse_lmdeploy_name(model: str | None) -> str | None:
    """The name in `lmdeploy:NAME`; None for anything else, and for several servers."""
    meant = model or os.environ.get("AGENTCALL_MODEL", "")
    kind, _, name = meant.partition(":")
    return name if kind == "lmdeploy" and name and len(split_shorthands(meant)) == 1 else None


def _is_listening() -> bool:
    try:
        with socket.create_connection(LMDEPLOY, timeout=0.25):
            return True
    except OSError:
        return False
