"""`agentcall run --launch`: the model's server, started where none is up."""

from __future__ import annotations

import os
import socket

from agentcall.cli.faults import warn
from agentcall.errors import ModelError, ModelUnreachable, UsageError
from agentcall.models.launched import launched
from agentcall.models.shorthand import LMDEPLOY, parted


def ensure_up(model: str | None) -> None:
    """Launch what `lmdeploy:NAME` means, unless it is up, and wait. Raises UsageError, ServerError.

    A server that was launched before is launched as it was then.
    """
    name = _name(model)
    if name is None:
        raise UsageError("--launch is for -m lmdeploy:NAME; it starts that model on LMDeploy")
    if launched(name) is not None or _listens():
        return
    from agentcall.cli.starting import patient, remembered
    from agentcall_server.launch import Launch
    from agentcall_server.launcher import launch_server
    from agentcall_server.progress import screen

    report = screen()
    launch = remembered(name) or Launch(name, port=LMDEPLOY[1])
    server = launch_server(launch, report)
    patient(server, report)
    warn(f"{server.entry.name} stays up; agentcall server stop {server.entry.name} ends it")


def hint(model: str | None, error: ModelError | None) -> None:
    """Say that the server could be launched, where that is what is missing."""
    if isinstance(error, ModelUnreachable) and _name(model):
        warn("no server of it is up; --launch starts one (agentcall server start)")


def _name(model: str | None) -> str | None:
    """The name in `lmdeploy:NAME`; None for anything else, and for several servers."""
    meant = model or os.environ.get("AGENTCALL_MODEL", "")
    kind, _, name = meant.partition(":")
    return name if kind == "lmdeploy" and name and len(parted(meant)) == 1 else None


def _listens() -> bool:
    try:
        with socket.create_connection(LMDEPLOY, timeout=0.25):
            return True
    except OSError:
        return False
