"""The model server that a command line means, and `--launch`, which starts it."""

from __future__ import annotations

import os
import socket
import threading
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agentcall.cli.errors import print_warning
from agentcall.errors import ModelError, ModelUnreachable, UsageError
from agentcall.models.local_servers import find_api_key, find_local_server
from agentcall.models.resolve import LMDEPLOY, prepare_model, split_shorthands
from agentcall.models.server_programs import PROGRAMS, locate_program, split_address

if TYPE_CHECKING:
    from agentcall.agent import Agent
    from agentcall.models.http import HTTPEndpoint
    from agentcall_server.launch import Launch
    from agentcall_server.launcher import LaunchedServer
    from agentcall_server.progress import ProgressReporter

# `agentcall run` imports this file, so what starts servers is imported late.


def resolve_server(address: str) -> tuple[HTTPEndpoint, str | None]:
    """Return the server of an address, and the model's name in it. Raises UsageError."""
    from agentcall.models.http import HTTPEndpoint

    kind, _, rest = address.partition(":")
    program = ""
    if kind == "lmdeploy" and rest and (server := find_local_server(rest)):
        url, name = server.url, server.model
    elif kind == "lmdeploy" and (elsewhere := split_address(rest)):
        url, name = elsewhere.url, elsewhere.model or ""
    elif kind in PROGRAMS:
        located = locate_program(kind, rest)
        url, name, program = located.url, located.model or "", kind
    else:
        url, _, name = (_local_url(), "", rest) if kind == "lmdeploy" else address.partition("#")
    if not url.startswith(("http://", "https://")):
        raise UsageError(
            f"{address!r} is not a model server; use http://host:port/v1, lmdeploy:NAME, or one of "
            f"{', '.join(PROGRAMS)} with its usual port on this machine"
        )
    url = url.rstrip("/")
    return HTTPEndpoint(url, find_api_key(url, program), program=program), name or None


def get_default_server() -> str:
    """Return the server of AGENTCALL_MODEL, else the URL of a local LMDeploy."""
    model = os.environ.get("AGENTCALL_MODEL", "")
    kind = model.partition(":")[0]
    return model if kind in ("http", "https", "lmdeploy", *PROGRAMS) else _local_url()


def _local_url() -> str:
    return "http://{}:{}/v1".format(*LMDEPLOY)


def prepare_in_background(agent: Agent[Any, Any]) -> None:  # Any: the user's own types
    """Start an embedded model while the user types, or before the first client comes."""

    def prepare() -> None:
        with suppress(Exception):  # the first question meets the same error and reports it
            prepare_model(agent.spec.model, agent.spec.prompt)

    threading.Thread(target=prepare, name="prepare-model", daemon=True).start()


def ensure_server(model: str | None) -> None:
    """Launch the server of `lmdeploy:NAME` unless it is up, and wait until it is ready.

    A server that was launched before is launched with the same options.
    Raises UsageError and ServerError.
    """
    name = _parse_lmdeploy_name(model)
    if name is None:
        raise UsageError("--launch is for -m lmdeploy:NAME; it starts that model on LMDeploy")
    if find_local_server(name) is not None or _is_listening():
        return
    from agentcall_server.launch import Launch
    from agentcall_server.launcher import launch_server
    from agentcall_server.progress import make_progress

    progress = make_progress()
    launch = find_previous_launch(name) or Launch(name, port=LMDEPLOY[1])
    server = launch_server(launch, progress)
    wait_for_server(server, progress)
    name = server.entry.name
    print_warning(f"{name} stays up; agentcall server stop {name} stops it")


def print_launch_hint(model: str | None, error: ModelError | None) -> None:
    """Suggest --launch if a launched server is what is missing."""
    if isinstance(error, ModelUnreachable) and _parse_lmdeploy_name(model):
        print_warning("its server is not up; --launch starts it (or agentcall server start)")


def find_previous_launch(name: str) -> Launch | None:
    """Return how the server of this name was launched before; None if it was not."""
    from agentcall_server.server_registry import find_last_launch

    return None if Path(name).exists() else find_last_launch(name)


def wait_for_server(server: LaunchedServer, progress: ProgressReporter) -> None:
    """Wait until a server is ready; Ctrl-C leaves it loading. Raises ServerError."""
    from agentcall_server.launcher import wait_until_ready

    try:
        wait_until_ready(server, progress)
    except KeyboardInterrupt:
        name = server.entry.name
        print_warning(f"{name} continues to load: agentcall server status {name}, or stop {name}")
        raise


def _parse_lmdeploy_name(model: str | None) -> str | None:
    """Return the name in `lmdeploy:NAME`; None for other models and for several servers."""
    model = model or os.environ.get("AGENTCALL_MODEL", "")
    kind, _, name = model.partition(":")
    return name if kind == "lmdeploy" and name and len(split_shorthands(model)) == 1 else None


def _is_listening() -> bool:
    try:
        with socket.create_connection(LMDEPLOY, timeout=0.25):
            return True
    except OSError:
        return False
