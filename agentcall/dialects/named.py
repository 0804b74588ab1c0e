"""The dialects by name; each is imported when it is first spoken."""

from __future__ import annotations

from importlib import import_module

from agentcall.dialects.protocol import Dialect
from agentcall.errors import UsageError

_PLACES = {
    "native": "native:NATIVE",
    "internlm": "internlm:INTERNLM",
    "internlm-named": "internlm:INTERNLM_NAMED",
    "constrained": "constrained:CONSTRAINED",
}


def dialect_named(name: str) -> Dialect:
    """The dialect of that name. Raises UsageError."""
    if name not in _PLACES:
        raise UsageError(f"there is no dialect {name!r}; use auto, {', '.join(_PLACES)}")
    module, _, attribute = _PLACES[name].partition(":")
    dialect: Dialect = getattr(import_module(f"agentcall.dialects.{module}"), attribute)
    return dialect
