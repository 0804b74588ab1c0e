"""How old an LMDeploy server is: guessed, as none of them tells its version.

The fields of a chat request and the paths in /openapi.json differ from version to version. The
table below was made by comparing the sources of all releases from 0.5.3 to 0.18.0; the fields are
the same on `lmdeploy serve proxy`. Where the document is hidden (--disable-fastapi-docs), a few
paths are asked for: one that takes POST alone answers 405 to a GET, one that is not there 404.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, replace

from agentcall.errors import ModelError, ModelRefused
from agentcall.messages import JSON
from agentcall.models.endpoint import Endpoint


@dataclass(frozen=True, slots=True)
class Age:
    """`since` is the oldest version it can be, empty if nothing is known; `text` says which."""

    since: tuple[int, ...] = ()
    text: str = ""


@dataclass(frozen=True, slots=True)
class _Row:
    age: Age
    has: frozenset[str] = frozenset()
    lacks: frozenset[str] = frozenset()

    def fits(self, signs: frozenset[str]) -> bool:
        return self.has <= signs and not self.lacks & signs


def _row(since: str, text: str, has: str = "", lacks: str = "") -> _Row:
    age = Age(tuple(map(int, since.split("."))), text)
    return _Row(age, frozenset(has.split()), frozenset(lacks.split()))


_ROWS = (
    _row("0.18", "0.18 or later", "parallel_tool_calls", lacks="do_preprocess"),
    _row("0.16", "0.16 or 0.17", "parallel_tool_calls /v1/responses", "/v1/chat/interactive"),
    _row("0.14", "0.14 or 0.15", "parallel_tool_calls /v1/chat/interactive"),
    _row("0.14", "0.14 to 0.17", "parallel_tool_calls"),
    _row("0.13", "0.13", "repetition_ngram_size"),
    _row("0.11.1", "0.11.1 to 0.12", "chat_template_kwargs"),
    _row("0.10.1", "0.10.1 to 0.11.0", "include_stop_str_in_output"),
    _row("0.10", "0.10.0", "max_completion_tokens"),
    _row("0.9", "0.9", "enable_thinking"),
    _row("0.7", "0.7 or 0.8", "spaces_between_special_tokens"),
    _row("0.6", "0.6", "stream_options"),
    _row("0.5", "0.5 or earlier"),
)
_ROWS_BY_PATH = (
    _row("0.16", "0.16 or later", "/v1/responses", lacks="/v1/chat/interactive"),
    _row("0.14", "0.14 or 0.15", "/v1/responses"),
    _row("0.13", "0.13", "/v1/messages"),
    _row("0.11", "0.11 or 0.12", "/is_sleeping"),
    _row("0.10.2", "0.10.2", "/generate"),
    _row("0.5", "0.10.1 or earlier", "/v1/chat/interactive"),
)
_PATHS = sorted({path for row in _ROWS_BY_PATH for path in row.has | row.lacks})


async def lmdeploy_age(endpoint: Endpoint) -> Age:
    """The age of the LMDeploy server at an endpoint; costs no request to its model."""
    root = root_of(endpoint)
    try:
        document = await root.get("/openapi.json")
    except ModelError:
        return _age(_ROWS_BY_PATH, await _paths(root))
    return age_of(document)


def root_of(endpoint: Endpoint) -> Endpoint:
    """The same server without the `/v1`: where the pages are that OpenAI's API does not have."""
    path, mark, query = endpoint.url.partition("?")
    return replace(endpoint, url=f"{path.removesuffix('/v1')}{mark}{query}")


def age_of(document: JSON) -> Age:
    """The age that an OpenAPI document of LMDeploy tells."""
    fields = inside(document, "components", "schemas", "ChatCompletionRequest", "properties")
    if not fields:
        return Age()
    return _age(_ROWS, frozenset(fields) | frozenset(inside(document, "paths")))


def _age(rows: tuple[_Row, ...], signs: frozenset[str]) -> Age:
    return next((row.age for row in rows if row.fits(signs)), Age())


async def _paths(root: Endpoint) -> frozenset[str]:
    there = await asyncio.gather(*(_is_there(root, path) for path in _PATHS))
    return frozenset(path for path, found in zip(_PATHS, there, strict=True) if found)


async def _is_there(root: Endpoint, path: str) -> bool:
    try:
        await root.get(path)
    except ModelRefused as refused:
        return refused.status == 405
    except ModelError:
        return False
    return True


def inside(value: JSON, *keys: str) -> Mapping[str, JSON]:
    """The object under these keys, one below the other; an empty one if it is not there."""
    for key in keys:
        value = value.get(key) if isinstance(value, Mapping) else None
    return value if isinstance(value, Mapping) else {}
