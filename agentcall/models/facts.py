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
from agentcall.models.age import inside, lmdeploy_age
from agentcall.models.completion import whole
from agentcall.models.endpoint import Endpoint

Fate: TypeAlias = Literal["reach", "dropped", "refused", "unknown"]
"""What happens to tools: they reach the prompt, vanish silently, are refused; or nobody knows."""

PATH = "/chat/completions"
_NAMES = {"llamacpp": "llama.cpp", "library": "ollama"}
_TAKE_ANY_NAME = ("llama.cpp", "openai", "system", "")
"""Servers and gateways that know more names than they list."""

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
    """What a server says and does.

    `server` is its kind ("lmdeploy", "vllm", "llama.cpp", ...), `version` the guess in words and
    `since` the oldest version it can be, both for LMDeploy alone. `tokens` are the prompt's
    without and with a tool, `refusal` the words that refused tools; `context` the window in tokens.
    """

    model: str
    served: tuple[str, ...] = ()
    server: str = ""
    version: str = ""
    since: tuple[int, ...] = ()
    tools: Fate = "unknown"
    tokens: tuple[int, int] | None = None
    refusal: str = ""
    context: int | None = None


@dataclass(frozen=True, slots=True)
class Listing:
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
        return _NAMES.get(owner, owner)

    def context(self, model: str) -> int | None:
        """The window of a model in tokens, where its card tells it."""
        for card in self.cards:
            if card["id"] == model:
                told = (card.get("max_model_len"), card.get("context_length"))
                known = (*told, inside(card, "meta").get("n_ctx"))
                return next((size for size in known if isinstance(size, int) and size > 0), None)
        return None


async def listing(endpoint: Endpoint) -> Listing:
    """What a server lists at `/models`. Raises ModelError."""
    listed = await endpoint.get("/models")
    data = listed.get("data") if isinstance(listed, Mapping) else None
    if not isinstance(data, Sequence) or isinstance(data, str):
        return Listing()
    return Listing(tuple(card for card in data if isinstance(card, Mapping) and card.get("id")))


def meant(wanted: str | None, listed: Listing, place: str) -> str:
    """The served model that is meant: by its name, or by the last part of its path.

    Raises UnknownModel, naming the served ones, where there is no such model.
    """
    names = listed.names
    if wanted is None:
        if not names:
            raise UnknownModel(f"{place} serves no model; name one after a # in the URL")
        return names[0]
    if wanted in names or not names:
        return wanted
    short = _short(wanted)
    for name in names:
        if short in (_short(name), _short(name).removesuffix(":latest")):
            return name
    if listed.server in _TAKE_ANY_NAME:
        return wanted
    raise UnknownModel(f"{place} does not serve {wanted!r}; it serves {', '.join(names[:20])}")


def _short(name: str) -> str:
    return name.rstrip("/").rpartition("/")[2].lower()


async def identity(endpoint: Endpoint, wanted: str | None) -> Facts:
    """Who the server is and which model is meant. Raises ModelError, UnknownModel."""
    try:
        listed = await listing(endpoint)
    except (ModelRefused, BadAnswer) as error:
        if wanted is None or (isinstance(error, ModelRefused) and error.status in (401, 403)):
            raise
        return Facts(wanted)
    return await identified(endpoint, listed, meant(wanted, listed, endpoint.place))


async def identified(endpoint: Endpoint, listed: Listing, model: str) -> Facts:
    """Who the server of a listing is."""
    facts = Facts(model, listed.names, listed.server, context=listed.context(model))
    if facts.server != "lmdeploy":
        return facts
    age = await lmdeploy_age(endpoint)
    return replace(facts, version=age.text, since=age.since)


async def with_fate_of_tools(endpoint: Endpoint, facts: Facts) -> Facts:
    """The same facts, and what happens to tools, seen by two requests for one token each.

    Raises ModelError if even the request without tools fails.
    """
    patient = replace(endpoint, tries=min(2, endpoint.tries))
    plain = _prompt_tokens(patient, _question(facts.model))
    offering = _prompt_tokens(patient, _question(facts.model, tools=[_PROBED]))
    bare, armed = await asyncio.gather(plain, offering, return_exceptions=True)
    if isinstance(bare, BaseException):
        raise bare
    if isinstance(armed, ModelRefused) and not _busy(armed):
        return replace(facts, tools="refused", refusal=armed.body)
    if isinstance(armed, BaseException):
        raise armed
    if not bare or not armed:
        return facts
    return replace(facts, tools="dropped" if armed <= bare else "reach", tokens=(bare, armed))


async def streams_with_tools(endpoint: Endpoint, facts: Facts) -> bool | None:
    """Whether a request for a stream with tools gets one; None if it is refused or fails.

    Costs a request for one token. LMDeploy up to 0.7.1 answers it with plain JSON.
    """
    body = _question(facts.model, tools=[_PROBED], stream=True)
    begun = b""
    try:
        async with aclosing(endpoint.stream(PATH, body)) as pieces:
            async for piece in pieces:
                begun = (begun + piece).lstrip()
                if begun:
                    break
    except ModelRefused:
        return None
    return bool(begun) and begun[:1] not in b"{[<"


def _busy(refused: ModelRefused) -> bool:
    """Whether a server refused for lack of time, not because of what was asked."""
    return isinstance(refused, RateLimited) and not isinstance(refused, ServerFailed)


def _question(model: str, **fields: JSON) -> bytes:
    """The shortest chat request: for one token."""
    messages: JSON = [{"role": "user", "content": "Hi"}]
    fixed: dict[str, JSON] = {"model": model, "max_tokens": 1, "temperature": 0}
    return orjson.dumps({**fixed, **fields, "messages": messages})


async def _prompt_tokens(endpoint: Endpoint, body: bytes) -> int:
    """How many tokens the prompt of a request had; 0 if the server does not say."""
    usage = whole(await endpoint.post(PATH, body)).usage
    return usage.input_tokens if usage else 0
