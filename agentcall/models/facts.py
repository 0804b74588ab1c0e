"""What can be learned of a server by asking it: who it is, what it serves, what it does with tools.

No server tells its version. LMDeploy's is guessed from what its OpenAPI document holds; whether
tools reach the prompt is seen by asking twice for one token, with and without a tool, and
comparing the prompt's tokens.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

import orjson

from agentcall.errors import ModelError, ModelRefused, UnknownModel
from agentcall.messages import JSON
from agentcall.models.completion import usage_of
from agentcall.models.endpoint import Endpoint

Fate: TypeAlias = Literal["reach", "dropped", "refused", "unknown"]
"""What happens to tools: they reach the prompt, vanish silently, are refused; or nobody knows."""

_LMDEPLOY_SINCE = (
    ("0.17", "field:ChatCompletionRequest.n>1"),
    ("0.14", "path:/v1/responses"),
    ("0.13", "path:/v1/messages"),
    ("0.12", "field:chat_template_kwargs"),
    ("0.11", "path:/is_sleeping"),
    ("0.10", "field:max_completion_tokens"),
    ("0.6", "field:min_p"),
)
"""The first sign of each LMDeploy version in /openapi.json, newest first."""

_PROBED: JSON = {
    "type": "function",
    "function": {
        "name": "look_up_a_word_in_the_dictionary",
        "description": "Gives the meaning of one word of the English language.",
        "parameters": {
            "type": "object",
            "properties": {"word": {"type": "string", "description": "The word to look up."}},
            "required": ["word"],
        },
    },
}


@dataclass(frozen=True, slots=True)
class Facts:
    """What a server says and does; `since` is the oldest LMDeploy version it can be.

    `tokens` are the prompt's without and with a tool; `context` the window in tokens.
    """

    model: str
    served: tuple[str, ...] = ()
    server: str = ""
    since: tuple[int, ...] = ()
    tools: Fate = "unknown"
    tokens: tuple[int, int] | None = None
    refusal: str = ""
    context: int | None = None

    @property
    def version(self) -> str:
        """The guessed version as text, or nothing."""
        return ".".join(map(str, self.since))


async def identity(endpoint: Endpoint, wanted: str | None) -> Facts:
    """Who the server is and which model is meant. Raises ModelError, UnknownModel."""
    try:
        listed = await endpoint.get("/models")
    except ModelRefused as refused:
        if wanted is None or refused.status in (401, 403):
            raise
        return Facts(wanted)
    cards = _cards(listed)
    served = tuple(str(card.get("id")) for card in cards)
    model = _meant(wanted, served, endpoint)
    card = next((card for card in cards if card.get("id") == model), {})
    facts = Facts(model, served, str(card.get("owned_by") or ""), context=_context(card))
    if facts.server == "lmdeploy":
        return replace(facts, since=await _lmdeploy_since(endpoint))
    return facts


async def with_fate_of_tools(endpoint: Endpoint, facts: Facts) -> Facts:
    """The same facts, and what happens to tools, seen by two requests for one token each."""
    plain = asyncio.ensure_future(_prompt_tokens(endpoint, facts.model, with_tool=False))
    try:
        armed = await _prompt_tokens(endpoint, facts.model, with_tool=True)
    except ModelRefused as refused:
        await asyncio.wait([plain])
        if not plain.exception():
            return replace(facts, tools="refused", refusal=refused.body)
        raise
    except BaseException:
        plain.cancel()
        raise
    bare = await plain
    if bare is None or armed is None:
        return facts
    return replace(facts, tools="dropped" if armed <= bare else "reach", tokens=(bare, armed))


def _cards(listed: JSON) -> list[Mapping[str, JSON]]:
    data = listed.get("data") if isinstance(listed, Mapping) else None
    if not isinstance(data, Sequence) or isinstance(data, str):
        return []
    return [card for card in data if isinstance(card, Mapping) and card.get("id")]


def _meant(wanted: str | None, served: tuple[str, ...], endpoint: Endpoint) -> str:
    """The served model that is meant: by its name, or by the last part of its path."""
    if wanted is None:
        if not served:
            raise UnknownModel(f"{endpoint.place} serves no model; name one after a # in the URL")
        return served[0]
    last = wanted.rstrip("/").rpartition("/")[2].lower()
    for name in served:
        if name == wanted or name.rstrip("/").rpartition("/")[2].lower() == last:
            return name
    if served:
        raise UnknownModel(f"{endpoint.place} does not serve {wanted!r}; it serves {served}")
    return wanted


def _context(card: Mapping[str, JSON]) -> int | None:
    meta = card.get("meta")
    inner = meta if isinstance(meta, Mapping) else {}
    known = (card.get("max_model_len"), inner.get("n_ctx"), inner.get("n_ctx_train"))
    return next((size for size in known if isinstance(size, int) and size > 0), None)


async def _lmdeploy_since(endpoint: Endpoint) -> tuple[int, ...]:
    root = replace(endpoint, url=endpoint.url.removesuffix("/v1"))
    try:
        document = await root.get("/openapi.json")
    except ModelError:
        return ()
    signs = _signs(document if isinstance(document, Mapping) else {})
    for version, sign in _LMDEPLOY_SINCE:
        if sign in signs:
            return tuple(map(int, version.split(".")))
    return (0, 5)


def _signs(document: Mapping[str, JSON]) -> set[str]:
    paths = document.get("paths")
    schemas = _inside(document, "components", "schemas")
    fields = _inside(schemas, "ChatCompletionRequest", "properties")
    signs = {f"path:{path}" for path in (paths if isinstance(paths, Mapping) else ())}
    return signs | {f"field:{name}" for name in fields}


def _inside(value: Mapping[str, JSON], *keys: str) -> Mapping[str, JSON]:
    for key in keys:
        inner = value.get(key)
        value = inner if isinstance(inner, Mapping) else {}
    return value


async def _prompt_tokens(endpoint: Endpoint, model: str, *, with_tool: bool) -> int | None:
    body: dict[str, JSON] = {
        "model": model,
        "messages": [{"role": "user", "content": "Hi"}],
        "max_tokens": 1,
        "temperature": 0,
    }
    if with_tool:
        body["tools"] = [_PROBED]
    answer = await endpoint.post("/chat/completions", orjson.dumps(body))
    if isinstance(answer, Mapping) and answer.get("object") == "error":
        raise ModelRefused(str(answer.get("message")), status=400, body=str(answer.get("message")))
    usage = usage_of(answer) if isinstance(answer, Mapping) else None
    return usage.input_tokens or None if usage else None
