"""Servers that agentcall launched on this machine: where they are, and the keys they ask for.

A key is kept with its server, in a file that only this user reads, so it never stands in a
shorthand, on a command line or in a log.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from agentcall_server.embedded_models import lookup
from agentcall_server.errors import UnknownModelName
from agentcall_server.launch import ServerKind
from agentcall_server.ports import is_loopback
from agentcall_server.server_registry import ServerEntry, find_by_port, find_entry, list_entries


@dataclass(frozen=True, slots=True)
class LocalServer:
    """A server that is ready: its base URL, its model's name there, and its key."""

    name: str
    url: str
    model: str
    api_key: str = field(default="", repr=False)


def find_local_server(name: str) -> LocalServer | None:
    """The LMDeploy server of that name, or that serves a model of that name, if it is ready."""
    found = find_entry(name) if name else next(_iterate_ready("lmdeploy"), None)
    return _to_local_server(found, "lmdeploy") if found is not None else None


def find_embedded_server(name: str | None) -> LocalServer | None:
    """The ready server of an embedded model; the default one for None."""
    try:
        wanted = lookup(name)
        for found in _iterate_ready("embedded"):
            launch = found.launch
            if launch is not None and lookup(launch.model.partition(":")[2] or None) == wanted:
                return _to_local_server(found, "embedded")
    except UnknownModelName:
        pass
    return None


def find_api_key(url: str) -> str:
    """The key for a server: that of one that was launched here, else AGENTCALL_API_KEY."""
    return _find_local_key(url) or os.environ.get("AGENTCALL_API_KEY", "")


def _find_local_key(url: str) -> str:
    """The key that a server of ours at the URL asks for; '' if there is none."""
    parts = urlsplit(url)
    found = find_by_port(parts.port) if parts.port else None
    wanted = found.wanted if found is not None else None
    if found is None or wanted is None or not wanted.has_key:
        return ""
    host = parts.hostname or ""
    return found.read_key() if is_loopback(host) or host == wanted.host else ""


def _iterate_ready(kind: ServerKind) -> Iterator[ServerEntry]:
    for one in list_entries():
        wanted = one.wanted
        if wanted is not None and wanted.kind == kind and one.is_ready:
            yield one


def _to_local_server(found: ServerEntry, kind: ServerKind) -> LocalServer | None:
    wanted, status = found.wanted, found.status
    if wanted is None or status is None or wanted.kind != kind or not found.is_ready:
        return None
    return LocalServer(found.name, f"{wanted.root}/v1", status.model, found.endpoint.key)
