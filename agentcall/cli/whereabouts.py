"""Which server a word on the command line means, for commands that ask the server itself."""

from __future__ import annotations

import os

from agentcall.errors import UsageError
from agentcall.models.local_servers import find_local_server
from agentcall.models.resolve import LMDEPLOY

_LOCAL_URL = "http://{}:{}/v1".format(*LMDEPLOY)


def resolve_server(address: str) -> tuple[str, str | None]:
    """The base URL and the model's name that a word means. Raises UsageError."""
    kind, _, rest = address.partition(":")
    if kind == "lmdeploy" and rest and (place := find_local_server(rest)):
        return place.url, place.model
    url, _, name = (_LOCAL_URL, "", rest) if kind == "lmdeploy" else address.partition("#")
    if not url.startswith(("http://", "https://")):
        raise UsageError(
            f"{address!r} is no model server; use http://host:port/v1 or lmdeploy:NAME"
        )
    return url.rstrip("/"), name or None


def get_default_server() -> str:
    """What is meant without a word: that of AGENTCALL_MODEL, else a local LMDeploy."""
    model = os.environ.get("AGENTCALL_MODEL", "")
    return model if model.startswith(("http:", "https:", "lmdeploy:")) else _LOCAL_URL
