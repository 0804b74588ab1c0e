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

from agentcall.dialects.named import dialect_named
from agentcall.dialects.protocol import Dialect
from agentcall.models.endpoint import Endpoint
from agentcall.models.facts import Facts, identity, with_fate_of_tools

SOUND = (0, 13)
"""The first LMDeploy whose tool parsers keep no state between requests and stream right."""

_JINJA = (0, 10)
"""The first LMDeploy that renders messages with the model's own template."""

_TOOL_ROLE = (0, 6)
"""The first LMDeploy that takes messages of the role `tool`."""

_INTERNLM2 = re.compile(r"internlm[-_ ]?2", re.IGNORECASE)
_Key: TypeAlias = "tuple[str, str | None, str]"


@dataclass(frozen=True, slots=True)
class Choice:
    """A dialect for a model of a server, and why.

    `streams` is false where the server cannot stream an answer in this dialect, `sees` where the
    model takes no images.
    """

    model: str
    dialect: Dialect
    reason: str
    streams: bool = True
    sees: bool = True


_chosen: dict[_Key, Choice] = {}
_asked: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[_Key, asyncio.Task[Choice]]] = (
    WeakKeyDictionary()
)


async def choose(endpoint: Endpoint, model: str | None, dialect: Dialect | str) -> Choice:
    """The choice for a server and a model; asked of the server once in this process.

    Raises ModelError, UnknownModel; a failure is not kept, the next caller asks again.
    """
    if not isinstance(dialect, str):
        return await _named(endpoint, model, dialect)
    if dialect != "auto":
        return await _named(endpoint, model, dialect_named(dialect))
    key = (endpoint.url, model, endpoint.api_key)
    return _chosen[key] if key in _chosen else await asyncio.shield(_asking(endpoint, key))


def forget() -> None:
    """Forgets all choices, so that servers are asked again: one may have been started anew."""
    _chosen.clear()


async def _named(endpoint: Endpoint, model: str | None, dialect: Dialect) -> Choice:
    name = model or (await identity(endpoint, None)).model
    return Choice(name, dialect, "the caller named it")


def _asking(endpoint: Endpoint, key: _Key) -> asyncio.Task[Choice]:
    """The asking that is under way in this loop: all who wait share what comes of it."""
    asked = _asked.setdefault(asyncio.get_running_loop(), {})
    if key not in asked:
        task = asked[key] = asyncio.ensure_future(_ask(endpoint, key))
        task.add_done_callback(_looked_at)
        task.add_done_callback(lambda _: asked.pop(key))
    return asked[key]


async def _ask(endpoint: Endpoint, key: _Key) -> Choice:
    choice = decide(await gathered(endpoint, key[1]))
    for name in (key[1], choice.model):
        _chosen[endpoint.url, name, endpoint.api_key] = choice
    return choice


def _looked_at(task: asyncio.Task[Choice]) -> None:
    """Keeps asyncio from complaining of a failure whose waiters have all gone."""
    if not task.cancelled():
        task.exception()


async def gathered(endpoint: Endpoint, model: str | None) -> Facts:
    """The facts that the choice needs: those that cost model requests only where they matter."""
    facts = await identity(endpoint, model)
    return await with_fate_of_tools(endpoint, facts) if matters(facts) else facts


def matters(facts: Facts) -> bool:
    """Whether the choice depends on what the server does with tools."""
    if is_internlm2(facts.model):
        return not _renders_by_role(facts)
    return facts.server == "lmdeploy"


def is_internlm2(model: str) -> bool:
    """Whether a model is InternLM2 or 2.5, by its name."""
    return bool(_INTERNLM2.search(model))


def decide(facts: Facts) -> Choice:
    """The choice that the facts call for."""
    if is_internlm2(facts.model):
        return replace(_for_internlm2(facts), sees=False)
    old = facts.server == "lmdeploy" and () < facts.since < _TOOL_ROLE
    if facts.tools in ("dropped", "refused") or old:
        why = f"LMDeploy {facts.version} takes no tool results" if old else _why(facts)
        return Choice(facts.model, dialect_named("constrained"), why)
    return Choice(facts.model, dialect_named("native"), _why(facts), _sound(facts))


def _for_internlm2(facts: Facts) -> Choice:
    if _renders_by_role(facts):
        why = (
            f"LMDeploy {facts.version} knows InternLM's plugin roles but not the calls of earlier "
            "turns; raw mode puts tools, calls and results into the prompt"
        )
        return Choice(facts.model, dialect_named("internlm-named"), why)
    if facts.tools == "reach" and _sound(facts):
        return Choice(facts.model, dialect_named("native"), _why(facts))
    why = f"{_why(facts)}; raw mode puts tools, calls and results into the prompt"
    return Choice(facts.model, dialect_named("internlm"), why)


def _renders_by_role(facts: Facts) -> bool:
    """Whether it is an LMDeploy with a template of its own for InternLM2."""
    return facts.server == "lmdeploy" and () < facts.since < _JINJA


def _sound(facts: Facts) -> bool:
    """Whether what the server parses of tool calls can be relied on, streams included."""
    return facts.server != "lmdeploy" or facts.since >= SOUND


def _why(facts: Facts) -> str:
    bare, armed = facts.tokens or (0, 0)
    match facts.tools:
        case "reach":
            reach = f"tools reach the prompt ({bare} tokens without one, {armed} with one)"
            return reach if _sound(facts) else f"{reach}, but {_unsound(facts)}"
        case "dropped":
            return f"the chat template drops tools ({bare} prompt tokens with or without one)"
        case "refused":
            return f"the server refuses tools ({_short(facts.refusal)})"
        case "unknown" if not _sound(facts):
            return _unsound(facts)
        case "unknown":
            return f"{facts.server or 'the server'} is taken to know the tools field"


def _unsound(facts: Facts) -> str:
    if not facts.version:
        return "this LMDeploy hides its age and may be too old to stream tool calls"
    return f"LMDeploy {facts.version} cannot stream tool calls"


def without_tools(choice: Choice, refusal: str) -> Choice:
    """The choice for a server that turned out to refuse tools."""
    name = "internlm" if is_internlm2(choice.model) else "constrained"
    return replace(
        choice,
        dialect=dialect_named(name),
        reason=f"the server refuses tools ({_short(refusal)})",
        streams=True,
    )


def _short(words: str) -> str:
    """The first words of a refusal."""
    return words if len(words) <= 120 else words[:120] + "..."
