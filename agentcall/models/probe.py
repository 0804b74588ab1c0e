"""Which dialect to speak with a server and a model, and why: decided from facts, once.

Rules, first match wins:
1. A dialect that the caller names is spoken.
2. InternLM2 and 2.5 speak `native` only where tools reach the prompt and the server's parser is
   sound (LMDeploy since 0.13); else raw mode, spelled for the server's age.
3. Any other model behind LMDeploy: `native` where tools reach the prompt, else `constrained`.
4. Any other server: `native`; one that refuses tools is spoken to in `constrained` from then on.
Source of the ages: docs/lmdeploy.md.
"""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass
from typing import TypeAlias
from weakref import WeakKeyDictionary

from agentcall.dialects.constrained import Constrained
from agentcall.dialects.internlm import INTERNLM, INTERNLM_NAMED
from agentcall.dialects.native import Native
from agentcall.dialects.protocol import Dialect
from agentcall.errors import UsageError
from agentcall.models.endpoint import Endpoint
from agentcall.models.facts import Facts, identity, with_fate_of_tools

DIALECTS: dict[str, Dialect] = {
    dialect.name: dialect for dialect in (Native(), INTERNLM, INTERNLM_NAMED, Constrained())
}
"""The dialects by name."""

_INTERNLM2 = re.compile(r"internlm2", re.IGNORECASE)
_Key: TypeAlias = "tuple[str, str | None, str]"


@dataclass(frozen=True, slots=True)
class Choice:
    """A dialect for a model of a server, and why.

    `streams` is false where the server cannot stream an answer in this dialect.
    """

    model: str
    dialect: Dialect
    reason: str
    streams: bool = True


_chosen: dict[_Key, Choice] = {}
_locks: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[_Key, asyncio.Lock]] = WeakKeyDictionary()


async def choose(endpoint: Endpoint, model: str | None, dialect: Dialect | str) -> Choice:
    """The choice for a server and a model; asked of the server once in this process."""
    if not isinstance(dialect, str) or dialect != "auto":
        named = dialect_named(dialect) if isinstance(dialect, str) else dialect
        name = model or (await identity(endpoint, None)).model
        return Choice(name, named, "the caller named it")
    key = (endpoint.url, model, endpoint.api_key)
    locks = _locks.setdefault(asyncio.get_running_loop(), {})
    async with locks.setdefault(key, asyncio.Lock()):
        if key not in _chosen:
            _chosen[key] = decide(await gathered(endpoint, model))
    return _chosen[key]


def dialect_named(name: str) -> Dialect:
    """The dialect of that name. Raises UsageError."""
    if name not in DIALECTS:
        raise UsageError(f"there is no dialect {name!r}; use auto, {', '.join(DIALECTS)}")
    return DIALECTS[name]


async def gathered(endpoint: Endpoint, model: str | None) -> Facts:
    """The facts that the choice needs: those that cost model requests only where they matter."""
    facts = await identity(endpoint, model)
    if facts.server == "lmdeploy" or _INTERNLM2.search(facts.model):
        return await with_fate_of_tools(endpoint, facts)
    return facts


def decide(facts: Facts) -> Choice:
    """The choice that the facts call for."""
    if _INTERNLM2.search(facts.model):
        return _for_internlm2(facts)
    lmdeploy = facts.server == "lmdeploy"
    if facts.tools in ("dropped", "refused"):
        return Choice(facts.model, DIALECTS["constrained"], _why(facts))
    streams = not lmdeploy or facts.since >= (0, 13)
    return Choice(facts.model, DIALECTS["native"], _why(facts), streams)


def _for_internlm2(facts: Facts) -> Choice:
    lmdeploy = facts.server == "lmdeploy"
    if lmdeploy and facts.since and facts.since < (0, 10):
        why = f"LMDeploy {facts.version} renders the plugin roles itself; raw mode is sound there"
        return Choice(facts.model, INTERNLM_NAMED, why)
    if facts.tools == "reach" and (not lmdeploy or facts.since >= (0, 13)):
        return Choice(facts.model, DIALECTS["native"], _why(facts))
    return Choice(facts.model, INTERNLM, f"{_why(facts)}; raw mode puts them there")


def _why(facts: Facts) -> str:
    bare, armed = facts.tokens or (0, 0)
    match facts.tools:
        case "reach":
            return f"tools reach the prompt ({bare} tokens without one, {armed} with one)"
        case "dropped":
            return f"the server's template drops tools ({bare} tokens with or without one)"
        case "refused":
            return f"the server refuses tools ({facts.refusal[:80]})"
        case "unknown":
            return f"{facts.server or 'the server'} is taken to know the tools field"


def without_tools(choice: Choice, refusal: str) -> Choice:
    """The choice for a server that turned out to refuse tools."""
    dialect = INTERNLM if _INTERNLM2.search(choice.model) else DIALECTS["constrained"]
    return Choice(choice.model, dialect, f"the server refuses tools ({refusal[:80]})")
