"""Servers that agentcall launched on this machine: their URLs and API keys.

A key is stored with its server, in a file that only this user can read, so that it appears in no
shorthand, command line or log.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from agentcall.models.server_programs import find_program_key
from agentcall_server.embedded_models import lookup
from agentcall_server.errors import UnknownModelName
from agentcall_server.launch import ServerKind
from agentcall_server.ports import is_loopback
from agentcall_server.server_registry import ServerEntry, find_by_port, find_entry, list_entries


@dataclass(frozen=True, slots=True)
class LocalServer:
    """A server that is ready: its base URL, the name of its model, and its API key."""

    name: str
    url: str
    model: str
    api_key: str = field(default="", repr=False)


def find_local_server(name: str) -> LocalServer | None:
    """Return the ready LMDeploy server with this name, or with a model of this name.

    An empty name finds any ready LMDeploy server.
    """
    entry = find_entry(name) if name else next(_iterate_ready("lmdeploy"), None)
    return _to_local_server(entry, "lmdeploy") if entry is not None else None


def find_embedded_server(name: str | None) -> LocalServer | None:
    """Return the ready server of an embedded model; None selects the default model."""
    try:
        model = lookup(name)
        for entry in _iterate_ready("embedded"):
            launch = entry.launch
            if launch is not None and lookup(launch.model.partition(":")[2] or None) == model:
                return _to_local_server(entry, "embedded")
    except UnknownModelName:
        pass
    return None


def find_api_key(url: str, program: str = "") -> str:
    """Return the API key for a URL.

    It is that of a server launched here, else AGENTCALL_API_KEY, else what the environment has for
    the program that a shorthand names.
    """
    key = _find_local_key(url) or os.environ.get("AGENTCALL_API_KEY", "")
    return key or find_program_key(program)


def _find_local_key(url: str) -> str:
    parts = urlsplit(url)
    entry = find_by_port(parts.port) if parts.port else None
    spec = entry.wanted if entry is not None else None
    if entry is None or spec is None or not spec.has_key:
        return ""
    # The key is for this server alone, and not for another host with the same port.
    host = parts.hostname or ""
    return entry.read_key() if is_loopback(host) or host == spec.host else ""


def _iterate_ready(kind: ServerKind) -> Iterator[ServerEntry]:
    for entry in list_entries():
        if entry.wanted is not None and entry.wanted.kind == kind and entry.is_ready:
            yield entry


def _to_local_server(entry: ServerEntry, kind: ServerKind) -> LocalServer | None:
    spec, status = entry.wanted, entry.status
    if spec is None or status is None or spec.kind != kind or not entry.is_ready:
        return None
    return LocalServer(entry.name, f"{spec.root}/v1", status.model, entry.endpoint.key)
