"""What can be learned of a server by asking it: who it is, what it serves, what it does with tools.

Whether tools reach the prompt is seen by asking twice for one token, with and without a tool, and
comparing the prompt's tokens.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

import orjson

from agentcall.errors import BadAnswer, ModelRefused, RateLimited, ServerFailed, UnknownModel
from agentcall.messages import JSON
from agentcall.models.age import detect_lmdeploy_version, get_nested
from agentcall.models.completion import parse_completion
from agentcall.models.endpoint import HTTPEndpoint

ToolSupport: TypeAlias = Literal["reach", "dropped", "refused", "unknown"]
"""What happens to tools: they reach the prompt, vanish silently, are refused; or nobody knows."""

CHAT_PATH = "/chat/completions"
_SERVER_NAMES = {"llamacpp": "llama.cpp", "library": "ollama"}
_ANY_NAME_SERVERS = ("llama.cpp", "openai", "system", "")
"""Servers and gateways that know more names than they list."""

_PROBE_TOOL: JSON = {
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
class ServerCapabilities:
    """What a server says and does.

    `server` is its kind ("lmdeploy", "vllm", "llama.cpp", ...), `version` the guess in words and
    `since` the oldest version it can be, both for LMDeploy alone. `tokens` are the prompt's
    without and with a tool, `refusal` the words that refused tools; `context` the window in tokens.
    """

    model: str
    served_models: tuple[str, ...] = ()
    server: str = ""
    version: str = ""
    min_version: tuple[int, ...] = ()
    tool_support: ToolSupport = "unknown"
    prompt_tokens: tuple[int, int] | None = None
    refusal: str = ""
    context_window: int | None = None


@dataclass(frozen=True, slots=True)
class ModelListing:
    """The models that a server lists: their cards, each of which has an `id`."""

    cards: tuple[Mapping[str, JSON], ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the models."""
        return tuple(str(card["id"]) for card in self.cards)

    @property
    def server(self) -> str:
        """The kind of the server, from who owns its first model."""
        owner = str(self.cards[0].get("owned_by") or "") if self.cards else ""
        return _SERVER_NAMES.get(owner, owner)

    def get_context_window(self, model: str) -> int | None:
        """The window of a model in tokens, where its card tells it."""
        for card in self.cards:
            if card["id"] == model:
                told = (card.get("max_model_len"), card.get("context_length"))
                known = (*told, get_nested(card, "meta").get("n_ctx"))
                return next((size for size in known if isinstance(size, int) and size > 0), None)
        return None


async def list_models(endpoint: HTTPEndpoint) -> ModelListing:
    """What a server lists at `/models`. Raises ModelError."""
    listed = await endpoint.get("/models")
    data = listed.get("data") if isinstance(listed, Mapping) else None
    if not isinstance(data, Sequence) or isinstance(data, str):
        return ModelListing()
    return ModelListing(
        tuple(card for card in data if isinstance(card, Mapping) and card.get("id"))
    )


def match_model(model: str | None, listing: ModelListing, server_url: str) -> str:
    """The served model that is meant: by its name, or by the last part of its path.

    Raises UnknownModel, naming the served ones, where there is no such model.
    """
    names = listing.names
    if model is None:
        if not names:
            raise UnknownModel(f"{server_url} serves no model; name one after a # in the URL")
        return names[0]
    if model in names or not names:
        return model
    short = _get_base_name(model)
    for name in names:
        if short in (_get_base_name(name), _get_base_name(name).removesuffix(":latest")):
            return name
    if listing.server in _ANY_NAME_SERVERS:
        return model
    raise UnknownModel(f"{server_url} does not serve {model!r}; it serves {', '.join(names[:20])}")


def _get_base_name(name: str) -> str:
    return name.rstrip("/").rpartition("/")[2].lower()


async def identify_server(endpoint: HTTPEndpoint, model: str | None) -> ServerCapabilities:
    """Who the server is and which model is meant. Raises ModelError, UnknownModel."""
    try:
        listing = await list_models(endpoint)
    except (ModelRefused, BadAnswer) as error:
        if model is None or (isinstance(error, ModelRefused) and error.status in (401, 403)):
            raise
        return ServerCapabilities(model)
    return await describe_server(
        endpoint, listing, match_model(model, listing, endpoint.display_url)
    )


async def describe_server(
    endpoint: HTTPEndpoint, listing: ModelListing, model: str
) -> ServerCapabilities:
    """Who the server of a listing is."""
    capabilities = ServerCapabilities(
        model, listing.names, listing.server, context_window=listing.get_context_window(model)
    )
    if capabilities.server != "lmdeploy":
        return capabilities
    age = await detect_lmdeploy_version(endpoint)
    return replace(capabilities, version=age.text, min_version=age.min_version)


async def probe_tool_support(
    endpoint: HTTPEndpoint, capabilities: ServerCapabilities
) -> ServerCapabilities:
    """The same facts, and what happens to tools, seen by two requests for one token each.

    Raises ModelError if even the request without tools fails.
    """
    patient = replace(endpoint, tries=min(2, endpoint.tries))
    plain = _count_prompt_tokens(patient, _encode_probe(capabilities.model))
    offering = _count_prompt_tokens(patient, _encode_probe(capabilities.model, tools=[_PROBE_TOOL]))
    without_tool, with_tool = await asyncio.gather(plain, offering, return_exceptions=True)
    if isinstance(without_tool, BaseException):
        raise without_tool
    if isinstance(with_tool, ModelRefused) and not _is_busy(with_tool):
        return replace(capabilities, tool_support="refused", refusal=with_tool.body)
    if isinstance(with_tool, BaseException):
        raise with_tool
    if not without_tool or not with_tool:
        return capabilities
    return replace(
        capabilities,
        tool_support="dropped" if with_tool <= without_tool else "reach",
        prompt_tokens=(without_tool, with_tool),
    )


async def can_stream_tools(endpoint: HTTPEndpoint, capabilities: ServerCapabilities) -> bool | None:
    """Whether a request for a stream with tools gets one; None if it is refused or fails.

    Costs a request for one token. LMDeploy up to 0.7.1 answers it with plain JSON.
    """
    body = _encode_probe(capabilities.model, tools=[_PROBE_TOOL], stream=True)
    begun = b""
    try:
        async with aclosing(endpoint.stream(CHAT_PATH, body)) as pieces:
            async for piece in pieces:
                begun = (begun + piece).lstrip()
                if begun:
                    break
    except ModelRefused:
        return None
    return bool(begun) and begun[:1] not in b"{[<"


def _is_busy(refused: ModelRefused) -> bool:
    """Whether a server refused for lack of time, not because of what was asked."""
    return isinstance(refused, RateLimited) and not isinstance(refused, ServerFailed)


def _encode_probe(model: str, **fields: JSON) -> bytes:
    """The shortest chat request: for one token."""
    messages: JSON = [{"role": "user", "content": "Hi"}]
    fixed: dict[str, JSON] = {"model": model, "max_tokens": 1, "temperature": 0}
    return orjson.dumps({**fixed, **fields, "messages": messages})


async def _count_prompt_tokens(endpoint: HTTPEndpoint, body: bytes) -> int:
    """How many tokens the prompt of a request had; 0 if the server does not say."""
    usage = parse_completion(await endpoint.post(CHAT_PATH, body)).usage
    return usage.input_tokens if usage else 0
