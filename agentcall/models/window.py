"""How many tokens a server takes, and its version: what is worth asking only for a diagnosis.

vLLM and SGLang tell the window on the model's card, llama.cpp at `/props`, Ollama at `/api/ps`
once the model is loaded. LMDeploy tells it nowhere, but names it when it refuses a prompt that is
too long (since 0.16, before it computes anything). How long is surely too long is read from
`/metrics`, whose histogram of prompt lengths ends at the window, in steps of 1, 2 and 5.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from dataclasses import replace

import aiohttp
import orjson

from agentcall.errors import ModelError, ModelRefused, UsageError
from agentcall.messages import JSON
from agentcall.models.address import authorization, joined
from agentcall.models.age import inside, root_of
from agentcall.models.endpoint import Endpoint
from agentcall.models.facts import PATH, Facts, identity
from agentcall.models.http_chat import HTTPChat
from agentcall.models.sessions import shared_session

_VERSION_AT = {
    "vllm": ("/version", "version"),
    "sglang": ("/get_server_info", "version"),
    "llama.cpp": ("/props", "build_info"),
    "ollama": ("/api/version", "version"),
}
_LONGEST = 200_000
"""The last step of a histogram up to which we send a prompt that is too long: half a megabyte."""

_NAMES_WINDOW = (0, 16)
_STEP = re.compile(r'^lmdeploy:request_prompt_tokens_bucket\{[^}]*le="([\d.e+]+)"', re.MULTILINE)
_WINDOW = re.compile(r"context length \((\d+)\)")


async def version(endpoint: Endpoint, facts: Facts) -> str:
    """The version of the server in words; empty if it cannot be told."""
    if facts.server not in _VERSION_AT:
        return facts.version
    path, key = _VERSION_AT[facts.server]
    told = (await _page(endpoint, path)).get(key)
    return told if isinstance(told, str) else ""


async def window_of(model: HTTPChat) -> int | None:
    """The window of a model in tokens; None if its server does not tell, or is not there."""
    try:
        facts = await identity(model.endpoint, model.model)
    except (ModelError, UsageError):
        return None
    return await window(model.endpoint, facts)


async def window(endpoint: Endpoint, facts: Facts) -> int | None:
    """The window of the model in tokens; None if the server does not tell."""
    if facts.context:
        return facts.context
    match facts.server:
        case "llama.cpp":
            props = await _page(endpoint, "/props")
            return _size(inside(props, "default_generation_settings").get("n_ctx"))
        case "ollama":
            return _of_running(await _page(endpoint, "/api/ps"), facts.model)
        case "lmdeploy" if facts.since >= _NAMES_WINDOW:
            return await _of_refusal(endpoint, facts.model)
        case _:
            return None


def _of_running(running: Mapping[str, JSON], model: str) -> int | None:
    models = running.get("models")
    for entry in models if isinstance(models, (list, tuple)) else ():
        if isinstance(entry, Mapping) and entry.get("name") == model:
            return _size(entry.get("context_length"))
    return None


def _size(value: JSON) -> int | None:
    return value if isinstance(value, int) and value > 0 else None


async def _of_refusal(endpoint: Endpoint, model: str) -> int | None:
    """The window that LMDeploy names when it refuses more words than it can take."""
    longest = longest_step(await _metrics(endpoint))
    if longest is None or longest > _LONGEST:
        return None
    too_long: JSON = [{"role": "user", "content": "a " * (longest * 5 // 2 + 1)}]
    body: JSON = {"model": model, "max_tokens": 1, "messages": too_long}
    try:
        await replace(endpoint, tries=1).post(PATH, orjson.dumps(body))
    except ModelRefused as refused:
        named = _WINDOW.search(refused.body)
        return int(named.group(1)) if named else None
    except ModelError:
        pass
    return None


def longest_step(metrics: str) -> int | None:
    """The last finite step of the histogram of prompt lengths: the window is up to 2.5 times it."""
    steps = [float(step) for step in _STEP.findall(metrics)]
    return int(max(steps)) if steps else None


async def _metrics(endpoint: Endpoint) -> str:
    """The page of metrics, which is no JSON; empty if there is none."""
    root = root_of(endpoint)
    headers = {"Authorization": authorization(root.api_key)} if root.api_key else {}
    timeout = aiohttp.ClientTimeout(total=10)
    try:
        session = await shared_session()
        async with session.get(
            joined(root.url, "/metrics"), headers=headers, timeout=timeout
        ) as page:
            return await page.text() if page.status == 200 else ""
    except (aiohttp.ClientError, OSError, ValueError, asyncio.TimeoutError):
        return ""


async def _page(endpoint: Endpoint, path: str) -> Mapping[str, JSON]:
    try:
        page = await root_of(endpoint).get(path)
    except ModelError:
        return {}
    return page if isinstance(page, Mapping) else {}
