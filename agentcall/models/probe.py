"""Which dialect to speak with a server and a model, and why: decided from facts, once.

Rules, first match wins:
1. A dialect that the caller names is spoken.
2. InternLM2 and 2.5 speak `native` only where tools reach the prompt and the server's parser is
   sound (LMDeploy since 0.13); else raw mode, spelled for the server's age.
3. Any other model behind LMDeploy: `native` where tools reach the prompt and results can be told
   (LMDeploy since 0.6), else `constrained`.
4. Any other server: `native`; one that refuses tools is spoken to in `constrained` from then on.
Source of the ages: docs/lmdeploy.md.
"""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass, replace
from typing import TypeAlias
from weakref import WeakKeyDictionary

from agentcall.dialects.named import get_dialect
from agentcall.dialects.protocol import Dialect
from agentcall.models.endpoint import HTTPEndpoint
from agentcall.models.facts import ServerCapabilities, identify_server, probe_tool_support

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
            f"LMDeploy {capabilities.version} knows InternLM's plugin roles but not the calls of earlier "
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
