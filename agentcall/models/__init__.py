"""Models: chat clients for OpenAI-compatible servers, and ways to combine several of them.

The names are imported when they are first used, so that `import agentcall.models` needs neither
aiohttp nor openai.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from agentcall.models.fallback import Fallback, RateLimitedModel
    from agentcall.models.http import HTTPEndpoint
    from agentcall.models.http_chat import HTTPChat
    from agentcall.models.load_balancer import LoadBalancer
    from agentcall.models.model import Model
    from agentcall.models.openai_client import OpenAIChat

_LATE = {
    "Fallback": "fallback",
    "HTTPChat": "http_chat",
    "HTTPEndpoint": "http",
    "LoadBalancer": "load_balancer",
    "Model": "model",
    "OpenAIChat": "openai_client",
    "RateLimitedModel": "fallback",
}


def __getattr__(name: str) -> object:
    if name not in _LATE:
        raise AttributeError(f"module 'agentcall.models' has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(f"agentcall.models.{_LATE[name]}"), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


__all__ = [
    "Fallback",
    "HTTPChat",
    "HTTPEndpoint",
    "LoadBalancer",
    "Model",
    "OpenAIChat",
    "RateLimitedModel",
]
