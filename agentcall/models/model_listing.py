"""The models that a server lists, and which of them a name means.

Formats: `GET /models` of the OpenAI API reference; further fields of a model's card as vLLM,
SGLang, llama.cpp, LM Studio, Xinference, Infinity, OpenRouter, Together, Fireworks and Mistral have
them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from agentcall.errors import UnknownModel
from agentcall.messages import JSON
from agentcall.models.http import HTTPEndpoint
from agentcall.models.server_programs import PROGRAMS, explain_no_model
from agentcall.models.server_version import get_nested

_SERVER_NAMES = {"llamacpp": "llama.cpp", "library": "ollama"}
"""The kind of a server by the `owned_by` of its models, where they differ."""

_ANY_NAME_SERVERS = ("llama.cpp", "openai", "system", "")
"""Servers and gateways that accept more model names than they list."""

_KIND_FIELDS = ("type", "model_type", "task", "mode", "kind", "object_type", "pipeline_tag")
_CHAT_KIND = re.compile(
    r"chat|llm|vlm|language|completions?|responses|generat|image-text-to-text", re.IGNORECASE
)
_OTHER_KIND = re.compile(
    r"embed|rerank|rank|classif|moderat|image|video|diffusion|audio|speech|transcri|tts|stt|asr"
    r"|feature|similarity",
    re.IGNORECASE,
)
_CHAT_NAME = re.compile(r"(?<![a-z])chat(?![a-z])", re.IGNORECASE)
_OTHER_NAME = re.compile(
    r"embed|rerank|colbert|minilm|mpnet|whisper|parakeet|kokoro|moderation|diffusion|transcri"
    r"|dall-?e|gpt-image|clip-vit|speech|musicgen|nougat|reward|t5-(?:small|base|large|xx?l)"
    r"|(?<![a-z])(?:bge|gte|e5|jina|splade|tts|xtts|stt|asr|bark|piper|flux|sdxl|sd|sd3|sora|veo"
    r"|imagen|vits|melo|canary|clip|siglip)(?![a-z])",
    re.IGNORECASE,
)
_FILE_PATH = re.compile(r"[/~.]|[A-Za-z]:[\\/]")


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
        """The kind of the server, from the owner of its first model."""
        owner = str(self.cards[0].get("owned_by") or "") if self.cards else ""
        return _SERVER_NAMES.get(owner, owner)

    def get_context_window(self, model: str) -> int | None:
        """Return the window of a model in tokens; None if its card does not report it."""
        for card in self.cards:
            if card["id"] == model:  # vLLM and SGLang, OpenRouter, llama.cpp
                sizes = (
                    card.get("max_model_len"),
                    card.get("context_length"),
                    get_nested(card, "meta").get("n_ctx"),
                )
                return next((size for size in sizes if isinstance(size, int) and size > 0), None)
        return None


async def list_models(endpoint: HTTPEndpoint) -> ModelListing:
    """Return what a server lists at `/models`. Raises ModelError."""
    body = await endpoint.get("/models")
    data = body.get("data") if isinstance(body, Mapping) else body
    if not isinstance(data, Sequence) or isinstance(data, str):
        return ModelListing()
    return ModelListing(
        tuple(card for card in data if isinstance(card, Mapping) and card.get("id"))
    )


def match_model(
    model: str | None, listing: ModelListing, server_url: str, program: str = ""
) -> str:
    """Return the name of the listed model that a name means; None means the first chat model.

    With the name of a program (`PROGRAMS`), as in the shorthand `ollama:`, None means its only
    chat model, and errors say how to get another one.

    A name means the model of this name, or one whose path ends in it, or the reverse: `some-7b` and
    `org/some-7b` are the same, `openai/some-7b` and `azure/some-7b` are not. The folders of a file
    path do not count.

    Raises UnknownModel, which lists the served models, if there is no such model.
    """
    names = listing.names
    if model is None:
        return _choose_model(listing, server_url, program)
    if model in names or not (names or program == "ollama"):
        return model
    for name in names:
        if _is_same_model(model, name) or _is_same_model(model, name.removesuffix(":latest")):
            return name
    if listing.server in _ANY_NAME_SERVERS and program != "ollama":
        return model
    served = ", ".join(names[:20]) or "no model"
    kind = program or (listing.server if listing.server in PROGRAMS else "")
    hint = explain_no_model(kind, model, names) if kind else ""
    raise UnknownModel(
        f"{server_url} does not serve {model!r}; it serves {served}{'; ' if hint else ''}{hint}"
    )


def _choose_model(listing: ModelListing, server_url: str, program: str) -> str:
    """Return the first chat model; of a program that was named, the only one."""
    names = listing.names
    if not names:
        hint = explain_no_model(program, None, names) if program else ""
        raise UnknownModel(
            f"{server_url} lists no model; {hint or 'name one after a # in the URL'}"
        )
    cards = [card for card in listing.cards if is_chat_model(card)]
    if program and len(_list_base_models(cards)) > 1:
        choices = ", ".join(f"{program}:{card['id']}" for card in cards[:20])
        raise UnknownModel(f"{server_url} has several models; name one of them: {choices}")
    if cards:
        return str(cards[0]["id"])
    raise UnknownModel(
        f"{server_url} lists no model that chats, only {', '.join(names[:20])}; if one of them "
        f"does, name it after a # in the URL: #{names[0]}"
    )


def _list_base_models(cards: Sequence[Mapping[str, JSON]]) -> set[str]:
    """Return the models without adapters (LoRA); several names of one model count once (vLLM)."""
    bases = [card for card in cards if not card.get("parent")] or cards
    return {str(card.get("root") or card["id"]) for card in bases}


def is_chat_model(card: Mapping[str, JSON]) -> bool:
    """Whether a listed model chats, by its card, or else by its name."""
    if card.get("active") is False or card.get("supports_chat") is False:
        return False
    abilities = [card.get(key) for key in ("capabilities", "model_ability", "output_modalities")]
    abilities.append(get_nested(card, "architecture").get("output_modalities"))
    for ability in abilities:
        if isinstance(ability, Mapping) and "completion_chat" in ability:
            return bool(ability["completion_chat"])
        if isinstance(ability, Sequence) and not isinstance(ability, str) and ability:
            words = " ".join(map(str, ability))
            if _OTHER_KIND.search(words) and not re.search(f"text|{_CHAT_KIND.pattern}", words):
                return False
    kinds = [kind for key in _KIND_FIELDS if isinstance(kind := card.get(key), str)]
    for kind in kinds:
        if _CHAT_KIND.search(kind) and not _OTHER_KIND.search(kind.replace("image-text-to", "")):
            return True
        if _OTHER_KIND.search(kind):
            return False
    name = str(card["id"])
    return _OTHER_NAME.search(name) is None or _CHAT_NAME.search(name) is not None


def _is_same_model(wanted: str, listed: str) -> bool:
    one, other = wanted.lower().strip("/").split("/"), listed.lower().strip("/").split("/")
    size = min(len(one), len(other))
    if one[-size:] == other[-size:]:
        return True
    is_file = _FILE_PATH.match(wanted) or _FILE_PATH.match(listed)
    return is_file is not None and one[-1] == other[-1]
