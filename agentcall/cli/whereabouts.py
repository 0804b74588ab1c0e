"""Which server a word on the command line means, for commands that ask the server itself."""

from __future__ import annotations

import os

from agentcall.errors import UsageError
from agentcall.models.launched import launched
from agentcall.models.shorthand import LMDEPLOY

_LOCAL = "http://{}:{}/v1".format(*LMDEPLOY)


def server_of(word: str) -> tuple[str, str | None]:
    """The base URL and the model's name that a word means. Raises UsageError."""
    kind, _, rest = word.partition(":")
    if kind == "lmdeploy" and rest and (place := launched(rest)):
        return place.url, place.model
    url, _, name = (_LOCAL, "", rest) if kind == "lmdeploy" else word.partition("#")
    if not url.startswith(("http://", "https://")):
        raise UsageError(f"{word!r} is no model server; use http://host:port/v1 or lmdeploy:NAME")
    return url.rstrip("/"), name or None


def usual_server() -> str:
    """What is meant without a word: that of AGENTCALL_MODEL, else a local LMDeploy."""
    model = os.environ.get("AGENTCALL_MODEL", "")
    return model if model.startswith(("http:", "https:", "lmdeploy:")) else _LOCAL
