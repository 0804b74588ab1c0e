"""Servers that agentcall launched on this machine: where they are, and the keys they ask for.

A key is kept with its server, in a file that only this user reads, so it never stands in a
shorthand, on a command line or in a log.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from agentcall_server.catalogue import lookup
from agentcall_server.errors import UnknownModel
from agentcall_server.launch import Kind
from agentcall_server.ledger import Entry, at, entries, find
from agentcall_server.listener import is_loopback


@dataclass(frozen=True, slots=True)
class Place:
    """A server that is ready: its base URL, its model's name there, and its key."""

    name: str
    url: str
    model: str
    key: str = field(default="", repr=False)


def launched(name: str) -> Place | None:
    """The LMDeploy server of that name, or that serves a model of that name, if it is ready."""
    found = find(name) if name else next(_ready("lmdeploy"), None)
    return _place(found, "lmdeploy") if found is not None else None


def launched_embedded(name: str | None) -> Place | None:
    """The ready server of an embedded model; the default one for None."""
    try:
        wanted = lookup(name)
        for found in _ready("embedded"):
            launch = found.launch
            if launch is not None and lookup(launch.model.partition(":")[2] or None) == wanted:
                return _place(found, "embedded")
    except UnknownModel:
        pass
    return None


def api_key(url: str) -> str:
    """The key for a server: that of one that was launched here, else AGENTCALL_API_KEY."""
    return _own_key(url) or os.environ.get("AGENTCALL_API_KEY", "")


def _own_key(url: str) -> str:
    """The key that a server of ours at the URL asks for; '' if there is none."""
    parts = urlsplit(url)
    found = at(parts.port) if parts.port else None
    wanted = found.wanted if found is not None else None
    if found is None or wanted is None or not wanted.has_key:
        return ""
    host = parts.hostname or ""
    return found.key() if is_loopback(host) or host == wanted.host else ""


def _ready(kind: Kind) -> Iterator[Entry]:
    for one in entries():
        wanted = one.wanted
        if wanted is not None and wanted.kind == kind and one.is_ready:
            yield one


def _place(found: Entry, kind: Kind) -> Place | None:
    wanted, status = found.wanted, found.status
    if wanted is None or status is None or wanted.kind != kind or not found.is_ready:
        return None
    return Place(found.name, f"{wanted.root}/v1", status.model, found.door.key)
