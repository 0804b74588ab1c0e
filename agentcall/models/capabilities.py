"""Which dialect to speak with a server and a model, and why: decided from facts, once.

Rules, first match wins:
1. A dialect that the caller names is spoken.
2. InternLM2 and 2.5 speak `native` only where tools reach the prompt and the server's parser is
   sound (LMDeploy since 0.13); else raw mode, spelled for the server's age.
3. Any other model behind LMDeploy: `native` where tools reach the prompt and results can be told
   (LMDeploy since 0.6), else `constrained`.
4. Any other server: `native`; one that refuses tools is spoken to in `constrained` from then on.
Source of the ages: docs/lmdeploy.md.

What can be learned of a server by asking it: who it is, what it serves, what it does with tools.

Whether tools reach the prompt is seen by asking twice for one token, with and without a tool, and
comparing the prompt's tokens.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias
from weakref import WeakKeyDictionary

import orjson

from agentcall.dialects.base import Dialect, get_dialect
from agentcall.errors import BadAnswer, ModelRefused, RateLimited, ServerFailed, UnknownModel
from agentcall.messages import JSON
from agentcall.models.http import HTTPEndpoint
from agentcall.models.server_version import detect_lmdeploy_version, get_nested
from agentcall.models.stream import parse_completion

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


SOUND_PARSER_SINCE = (0, 13)
"""The first LMDeploy whose tool parsers keep no state between requests and stream right."""

_JINJA_SINCE = (0, 10)
"""The first LMDeploy that renders messages with the model's own template."""

_TOOL_ROLE_SINCE = (0, 6)
"""The first LMDeploy that takes messages of the role `tool`."""

_INTERNLM2 = re.compile(r"internlm[-_ ]?2", re.IGNORECASE)
_ChoiceKey: TypeAlias = "tuple[str, str | None, str]"


@dataclass(frozen=True, slots=True)
class DialectChoice:
    """A dialect for a model of a server, and why.

    `streams` is false where the server cannot stream an answer in this dialect, `sees` where the
    model takes no images.
    """

    model: str
    dialect: Dialect
    reason: str
    can_stream: bool = True
    accepts_images: bool = True


_choices: dict[_ChoiceKey, DialectChoice] = {}
_pending_choices: WeakKeyDictionary[
    asyncio.AbstractEventLoop, dict[_ChoiceKey, asyncio.Task[DialectChoice]]
] = WeakKeyDictionary()


async def choose_dialect(
    endpoint: HTTPEndpoint, model: str | None, dialect: Dialect | str
) -> DialectChoice:
    """The choice for a server and a model; asked of the server once in this process.

    Raises ModelError, UnknownModel; a failure is not kept, the next caller asks again.
    """
    if not isinstance(dialect, str):
        return await _use_given_dialect(endpoint, model, dialect)
    if dialect != "auto":
        return await _use_given_dialect(endpoint, model, get_dialect(dialect))
    key = (endpoint.url, model, endpoint.api_key)
    return (
        _choices[key] if key in _choices else await asyncio.shield(_share_detection(endpoint, key))
    )


def clear_dialect_cache() -> None:
    """Forgets all choices, so that servers are asked again: one may have been started anew."""
    _choices.clear()


async def _use_given_dialect(
    endpoint: HTTPEndpoint, model: str | None, dialect: Dialect
) -> DialectChoice:
    name = model or (await identify_server(endpoint, None)).model
    return DialectChoice(name, dialect, "the caller named it")


def _share_detection(endpoint: HTTPEndpoint, key: _ChoiceKey) -> asyncio.Task[DialectChoice]:
    """The asking that is under way in this loop: all who wait share what comes of it."""
    pending = _pending_choices.setdefault(asyncio.get_running_loop(), {})
    if key not in pending:
        task = pending[key] = asyncio.ensure_future(_detect_choice(endpoint, key))
        task.add_done_callback(_retrieve_exception)
        task.add_done_callback(lambda _: pending.pop(key))
    return pending[key]


async def _detect_choice(endpoint: HTTPEndpoint, key: _ChoiceKey) -> DialectChoice:
    choice = select_dialect(await detect_capabilities(endpoint, key[1]))
    for name in (key[1], choice.model):
        _choices[endpoint.url, name, endpoint.api_key] = choice
    return choice


def _retrieve_exception(task: asyncio.Task[DialectChoice]) -> None:
    """Keeps asyncio from complaining of a failure whose waiters have all gone."""
    if not task.cancelled():
        task.exception()


async def detect_capabilities(endpoint: HTTPEndpoint, model: str | None) -> ServerCapabilities:
    """The facts that the choice needs: those that cost model requests only where they matter."""
    capabilities = await identify_server(endpoint, model)
    return (
        await probe_tool_support(endpoint, capabilities)
        if needs_tool_probe(capabilities)
        else capabilities
    )


def needs_tool_probe(capabilities: ServerCapabilities) -> bool:
    """Whether the choice depends on what the server does with tools."""
    if is_internlm2(capabilities.model):
        return not _renders_by_role(capabilities)
    return capabilities.server == "lmdeploy"


def is_internlm2(model: str) -> bool:
    """Whether a model is InternLM2 or 2.5, by its name."""
    return bool(_INTERNLM2.search(model))


def select_dialect(capabilities: ServerCapabilities) -> DialectChoice:
    """The choice that the facts call for."""
    if is_internlm2(capabilities.model):
        return replace(_select_for_internlm2(capabilities), accepts_images=False)
    old = capabilities.server == "lmdeploy" and () < capabilities.min_version < _TOOL_ROLE_SINCE
    if capabilities.tool_support in ("dropped", "refused") or old:
        why = (
            f"LMDeploy {capabilities.version} takes no tool results"
            if old
            else _explain_support(capabilities)
        )
        return DialectChoice(capabilities.model, get_dialect("constrained"), why)
    return DialectChoice(
        capabilities.model,
        get_dialect("native"),
        _explain_support(capabilities),
        _has_sound_parser(capabilities),
    )


def _select_for_internlm2(capabilities: ServerCapabilities) -> DialectChoice:
    if _renders_by_role(capabilities):
        why = (
            f"LMDeploy {capabilities.version} knows InternLM's plugin roles but not the calls "
            "of earlier "
            "turns; raw mode puts tools, calls and results into the prompt"
        )
        return DialectChoice(capabilities.model, get_dialect("internlm-named"), why)
    if capabilities.tool_support == "reach" and _has_sound_parser(capabilities):
        return DialectChoice(
            capabilities.model, get_dialect("native"), _explain_support(capabilities)
        )
    why = (
        f"{_explain_support(capabilities)}; raw mode puts tools, calls and results into the prompt"
    )
    return DialectChoice(capabilities.model, get_dialect("internlm"), why)


def _renders_by_role(capabilities: ServerCapabilities) -> bool:
    """Whether it is an LMDeploy with a template of its own for InternLM2."""
    return capabilities.server == "lmdeploy" and () < capabilities.min_version < _JINJA_SINCE


def _has_sound_parser(capabilities: ServerCapabilities) -> bool:
    """Whether what the server parses of tool calls can be relied on, streams included."""
    return capabilities.server != "lmdeploy" or capabilities.min_version >= SOUND_PARSER_SINCE


def _explain_support(capabilities: ServerCapabilities) -> str:
    bare, armed = capabilities.prompt_tokens or (0, 0)
    match capabilities.tool_support:
        case "reach":
            reach = f"tools reach the prompt ({bare} tokens without one, {armed} with one)"
            return (
                reach
                if _has_sound_parser(capabilities)
                else f"{reach}, but {_explain_unsound(capabilities)}"
            )
        case "dropped":
            return f"the chat template drops tools ({bare} prompt tokens with or without one)"
        case "refused":
            return f"the server refuses tools ({_shorten_refusal(capabilities.refusal)})"
        case "unknown" if not _has_sound_parser(capabilities):
            return _explain_unsound(capabilities)
        case "unknown":
            return f"{capabilities.server or 'the server'} is taken to know the tools field"


def _explain_unsound(capabilities: ServerCapabilities) -> str:
    if not capabilities.version:
        return "this LMDeploy hides its age and may be too old to stream tool calls"
    return f"LMDeploy {capabilities.version} cannot stream tool calls"


def choose_without_tools(choice: DialectChoice, refusal: str) -> DialectChoice:
    """The choice for a server that turned out to refuse tools."""
    name = "internlm" if is_internlm2(choice.model) else "constrained"
    return replace(
        choice,
        dialect=get_dialect(name),
        reason=f"the server refuses tools ({_shorten_refusal(refusal)})",
        can_stream=True,
    )


def _shorten_refusal(message: str) -> str:
    """The first words of a refusal."""
    return message if len(message) <= 120 else message[:120] + "..."
