"""Ask a server for its version and the context window of a model.

Diagnostics need these, and a run whose server may have dropped a part of the conversation. vLLM and
SGLang report the window on the model's card, llama.cpp at `/props`, Ollama at `/api/ps` once the
model is loaded, LM Studio at `/api/v0/models`, KoboldCpp on a page of its own. LMDeploy does not
report it, but its refusal of a prompt that is too long names it (since 0.16, before it computes
anything). Which length is certainly too long follows from `/metrics`: the histogram of prompt
lengths ends at the window, in steps of 1, 2 and 5.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace

import orjson

from agentcall.errors import ModelError, ModelRefused
from agentcall.messages import JSON
from agentcall.models.capabilities import CHAT_PATH, ServerCapabilities
from agentcall.models.errors import find_window
from agentcall.models.http import HTTPEndpoint
from agentcall.models.server_version import get_nested, get_root_endpoint

_VERSION_PATHS = {
    "vllm": ("/version", "version"),
    "sglang": ("/get_server_info", "version"),
    "llama.cpp": ("/props", "build_info"),
    "ollama": ("/api/version", "version"),
}
_MAX_STEP = 200_000
"""Do not send a too long prompt above this step of the histogram: it has half a megabyte."""

_REPORTS_WINDOW_SINCE = (0, 16)
"""The first LMDeploy that refuses a too long prompt before it computes anything."""

_STEP_PATTERN = re.compile(
    r'^lmdeploy:request_prompt_tokens_bucket\{[^}]*le="([\d.e+]+)"', re.MULTILINE
)


async def fetch_version(endpoint: HTTPEndpoint, capabilities: ServerCapabilities) -> str:
    """Return the version of the server as text; empty if it is unknown."""
    if capabilities.server not in _VERSION_PATHS:
        return capabilities.version
    path, key = _VERSION_PATHS[capabilities.server]
    version = (await _fetch_json(endpoint, path)).get(key)
    return version if isinstance(version, str) else ""


async def fetch_context_window(
    endpoint: HTTPEndpoint, capabilities: ServerCapabilities, *, probe: bool = True
) -> int | None:
    """Return the window of the model in tokens; None if the server does not report it.

    probe: whether LMDeploy may be sent a prompt that is too long.
    """
    if capabilities.context_window:
        return capabilities.context_window
    match capabilities.server:
        case "llama.cpp":
            props = await _fetch_json(endpoint, "/props")
            return _to_size(get_nested(props, "default_generation_settings").get("n_ctx"))
        case "ollama":
            models = (await _fetch_json(endpoint, "/api/ps")).get("models")
            return _find_window(models, "name", capabilities.model, "context_length")
        case "organization_owner":  # LM Studio
            models = (await _fetch_json(endpoint, "/api/v0/models")).get("data")
            return _find_window(models, "id", capabilities.model, "loaded_context_length")
        case "koboldcpp":
            page = await _fetch_json(endpoint, "/api/extra/true_max_context_length")
            return _to_size(page.get("value"))
        case "lmdeploy" if probe and capabilities.min_version >= _REPORTS_WINDOW_SINCE:
            return await _read_refused_window(endpoint, capabilities.model)
        case _:
            return None


def _find_window(models: JSON, key: str, name: str, window: str) -> int | None:
    """Return the window in the entry of a model, whose name is under this key."""
    for entry in models if isinstance(models, (list, tuple)) else ():
        if isinstance(entry, Mapping) and entry.get(key) == name:
            return _to_size(entry.get(window))
    return None


def _to_size(value: JSON) -> int | None:
    return value if isinstance(value, int) and value > 0 else None


async def _read_refused_window(endpoint: HTTPEndpoint, model: str) -> int | None:
    """Send LMDeploy a prompt that is too long, and read the window from its refusal."""
    longest = find_longest_step(await _fetch_metrics(endpoint))
    if longest is None or longest > _MAX_STEP:
        return None
    too_long: JSON = [{"role": "user", "content": "a " * (longest * 5 // 2 + 1)}]
    body: JSON = {"model": model, "max_tokens": 1, "messages": too_long}
    try:
        await replace(endpoint, tries=1).post(CHAT_PATH, orjson.dumps(body))
    except ModelRefused as refused:
        return find_window(refused.body)
    except ModelError:
        pass
    return None


def find_longest_step(metrics: str) -> int | None:
    """Return the last finite step of the prompt lengths; the window is at most 2.5 times it."""
    steps = [float(step) for step in _STEP_PATTERN.findall(metrics)]
    return int(max(steps)) if steps else None


async def _fetch_metrics(endpoint: HTTPEndpoint) -> str:
    """Return the metrics page, which is not JSON; empty if there is none."""
    try:
        page = await get_root_endpoint(endpoint).get_bytes("/metrics")
    except ModelError:
        return ""
    return page.decode("utf-8", "replace")


async def _fetch_json(endpoint: HTTPEndpoint, path: str) -> Mapping[str, JSON]:
    try:
        page = await get_root_endpoint(endpoint).get(path)
    except ModelError:
        return {}
    return page if isinstance(page, Mapping) else {}
