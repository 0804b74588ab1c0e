"""Whether a server keeps the beginnings of prompts: a long prompt is sent twice."""

from __future__ import annotations

import itertools
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from time import monotonic

import orjson

from agentcall.messages import JSON
from agentcall.models.endpoint import HTTPEndpoint
from agentcall.models.facts import CHAT_PATH

PROMPT_WORDS = 400
"""Words of the prompt, and about as many tokens: several blocks of any cache."""

_FILLER = "the cat sat on a mat and looked at the moon while it rained in the old town"


@dataclass(frozen=True, slots=True)
class PrefixCacheStats:
    """A prompt that the server had never seen, and the same once more, for one token each.

    cached_tokens: of the second, as the server reports them; None where it does not.
    """

    prompt_tokens: int | None
    first_seconds: float
    again_seconds: float
    cached_tokens: int | None


async def measure_prefix_cache(endpoint: HTTPEndpoint, model: str) -> PrefixCacheStats:
    """The figures of a server. Raises ModelError."""
    text = f"{secrets.token_hex(8)} " + " ".join(
        itertools.islice(itertools.cycle(_FILLER.split()), PROMPT_WORDS)
    )
    messages: JSON = [{"role": "user", "content": f"{text}\nSay yes."}]
    body = orjson.dumps({"model": model, "max_tokens": 1, "temperature": 0, "messages": messages})
    began = monotonic()
    await endpoint.post(CHAT_PATH, body)
    between = monotonic()
    usage = _get_member(await endpoint.post(CHAT_PATH, body), "usage")
    ended = monotonic()
    return PrefixCacheStats(
        _get_count(usage, "prompt_tokens"),
        between - began,
        ended - between,
        _get_count(_get_member(usage, "prompt_tokens_details"), "cached_tokens"),
    )


def _get_member(value: JSON, key: str) -> JSON:
    return value.get(key) if isinstance(value, Mapping) else None


def _get_count(value: JSON, key: str) -> int | None:
    found = _get_member(value, key)
    return found if isinstance(found, int) else None
