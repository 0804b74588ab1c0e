"""The dialects by name; each is imported when it is first spoken."""

from __future__ import annotations

from importlib import import_module

from agentcall.dialects.protocol import Dialect
from agentcall.errors import UsageError

_DIALECT_LOCATIONS = {
    "native": "native:NATIVE",
    "internlm": "internlm:INTERNLM",
    "internlm-named": "internlm:INTERNLM_NAMED",
    "constrained": "constrained:CONSTRAINED",
}


def get_dialect(name: str) -> Dialect:
    """The dialect of that name. Raises UsageError."""
    if name not in _DIALECT_LOCATIONS:
        raise UsageError(f"there is no dialect {name!r}; use auto, {', '.join(_DIALECT_LOCATIONS)}")
    module, _, attribute = _DIALECT_LOCATIONS[name].partition(":")
    dialect: Dialect = getattr(import_module(f"agentcall.dialects.{module}"), attribute)
    return dialect
