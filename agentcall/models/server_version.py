"""Detect the version of an LMDeploy server, which no LMDeploy reports, from its OpenAPI document.

The fields of a chat request and the paths in /openapi.json differ from version to version. The
rules below come from a comparison of the sources of all releases from 0.5.3 to 0.18.0; the fields
are the same on `lmdeploy serve proxy`. If the document is hidden (--disable-fastapi-docs), a few
paths are probed: a path that accepts only POST answers 405 to a GET, an unknown path answers 404.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, replace

from agentcall.errors import ModelError, ModelRefused
from agentcall.messages import JSON
from agentcall.models.http import HTTPEndpoint


@dataclass(frozen=True, slots=True)
class ServerVersion:
    """A detected version.

    `min_version` is the oldest version it can be, empty if unknown; `text` describes the range,
    such as "0.16 or 0.17".
    """

    min_version: tuple[int, ...] = ()
    text: str = ""


@dataclass(frozen=True, slots=True)
class _VersionRule:
    version: ServerVersion
    required: frozenset[str] = frozenset()
    forbidden: frozenset[str] = frozenset()

    def matches(self, features: frozenset[str]) -> bool:
        return self.required <= features and not self.forbidden & features


def _create_rule(
    min_version: str, text: str, required: str = "", forbidden: str = ""
) -> _VersionRule:
    version = ServerVersion(tuple(map(int, min_version.split("."))), text)
    return _VersionRule(version, frozenset(required.split()), frozenset(forbidden.split()))


# The first rule that matches applies: newest versions first.
_RULES_BY_FIELD = (
    _create_rule("0.18", "0.18 or later", "parallel_tool_calls", forbidden="do_preprocess"),
    _create_rule(
        "0.16", "0.16 or 0.17", "parallel_tool_calls /v1/responses", "/v1/chat/interactive"
    ),
    _create_rule("0.14", "0.14 or 0.15", "parallel_tool_calls /v1/chat/interactive"),
    _create_rule("0.14", "0.14 to 0.17", "parallel_tool_calls"),
    _create_rule("0.13", "0.13", "repetition_ngram_size"),
    _create_rule("0.11.1", "0.11.1 to 0.12", "chat_template_kwargs"),
    _create_rule("0.10.1", "0.10.1 to 0.11.0", "include_stop_str_in_output"),
    _create_rule("0.10", "0.10.0", "max_completion_tokens"),
    _create_rule("0.9", "0.9", "enable_thinking"),
    _create_rule("0.7", "0.7 or 0.8", "spaces_between_special_tokens"),
    _create_rule("0.6", "0.6", "stream_options"),
    _create_rule("0.5", "0.5 or earlier"),
)
_RULES_BY_PATH = (
    _create_rule("0.16", "0.16 or later", "/v1/responses", forbidden="/v1/chat/interactive"),
    _create_rule("0.14", "0.14 or 0.15", "/v1/responses"),
    _create_rule("0.13", "0.13", "/v1/messages"),
    _create_rule("0.11", "0.11 or 0.12", "/is_sleeping"),
    _create_rule("0.10.2", "0.10.2", "/generate"),
    _create_rule("0.5", "0.10.1 or earlier", "/v1/chat/interactive"),
)
_PROBED_PATHS = sorted({path for rule in _RULES_BY_PATH for path in rule.required | rule.forbidden})


async def detect_lmdeploy_version(endpoint: HTTPEndpoint) -> ServerVersion:
    """Detect the version of the LMDeploy server at an endpoint; sends no request to its model."""
    root = get_root_endpoint(endpoint)
    try:
        document = await root.get("/openapi.json")
    except ModelError:
        return _match_version(_RULES_BY_PATH, await _probe_paths(root))
    return infer_version(document)


def get_root_endpoint(endpoint: HTTPEndpoint) -> HTTPEndpoint:
    """Return the endpoint without `/v1`, for the server's pages outside of OpenAI's API."""
    path, separator, query = endpoint.url.partition("?")
    return replace(endpoint, url=f"{path.removesuffix('/v1')}{separator}{query}")


def infer_version(document: JSON) -> ServerVersion:
    """Infer the version from LMDeploy's OpenAPI document."""
    fields = get_nested(document, "components", "schemas", "ChatCompletionRequest", "properties")
    if not fields:
        return ServerVersion()
    return _match_version(
        _RULES_BY_FIELD, frozenset(fields) | frozenset(get_nested(document, "paths"))
    )


def _match_version(rules: tuple[_VersionRule, ...], features: frozenset[str]) -> ServerVersion:
    return next((rule.version for rule in rules if rule.matches(features)), ServerVersion())


async def _probe_paths(root: HTTPEndpoint) -> frozenset[str]:
    results = await asyncio.gather(*(_has_path(root, path) for path in _PROBED_PATHS))
    return frozenset(path for path, exists in zip(_PROBED_PATHS, results, strict=True) if exists)


async def _has_path(root: HTTPEndpoint, path: str) -> bool:
    try:
        await root.get(path)
    except ModelRefused as refused:
        return refused.status == 405
    except ModelError:
        return False
    return True


def get_nested(value: JSON, *keys: str) -> Mapping[str, JSON]:
    """Return the object at a path of keys; an empty one if it does not exist."""
    for key in keys:
        value = value.get(key) if isinstance(value, Mapping) else None
    return value if isinstance(value, Mapping) else {}
