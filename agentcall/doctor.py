"""What is right and what is wrong with a model server, and what to change: findings from facts."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

from agentcall.errors import (
    BadAnswer,
    ModelError,
    ModelRefused,
    ModelTimeout,
    ModelUnreachable,
    UnknownModel,
    UsageError,
)
from agentcall.models.address import joined
from agentcall.models.endpoint import Endpoint
from agentcall.models.facts import (
    Facts,
    Fate,
    Listing,
    identified,
    listing,
    meant,
    streams_with_tools,
    with_fate_of_tools,
)
from agentcall.models.probe import SOUND, Choice, decide, is_internlm2, matters
from agentcall.models.window import version, window

Level: TypeAlias = Literal["ok", "warn", "error"]

SMALL = 8192
"""Tokens of context below which tools, results and history get in each other's way."""

_PATIENCE = 60.0
_GUIDED = (0, 10, 2)
"""The first LMDeploy that holds answers to a JSON Schema on both of its engines."""

_NAMES = {"lmdeploy": "LMDeploy", "vllm": "vLLM", "sglang": "SGLang", "ollama": "Ollama"}
_KNOW_TOOLS = {
    "vllm": "launch vLLM with --enable-auto-tool-choice --tool-call-parser NAME",
    "sglang": "launch SGLang with --tool-call-parser NAME",
    "llama.cpp": "launch llama-server with --jinja",
    "ollama": "use a model that Ollama lists as able to use tools",
}
_ENLARGE = {
    "lmdeploy": "launch with a larger --session-len",
    "vllm": "launch with a larger --max-model-len",
    "sglang": "launch with a larger --context-length",
    "llama.cpp": "launch with a larger --ctx-size",
    "ollama": "set OLLAMA_CONTEXT_LENGTH; Ollama cuts longer prompts without a word",
}
_TEMPLATE = "--chat-template FILE.json, a template that knows tools (docs/lmdeploy.md)"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing seen: how bad it is, what it is, and what to change (empty if nothing)."""

    level: Level
    what: str
    advice: str = ""


@dataclass(frozen=True, slots=True)
class Report:
    """What there is to know about a server and a model.

    server: its kind ("lmdeploy", "vllm", "llama.cpp", "ollama", ...), or "".
    version: the server's, or a guess such as "0.16 or 0.17"; "" where nothing can be told.
    model: the model's full name on the server; "" where none was found.
    served: the names of all models there.
    context: the window in tokens; None where the server does not tell.
    tools: what happens to the tools of a request; see `Fate`.
    streams_with_tools: whether a request for a stream with tools works; None if not known.
    dialect, reason: what `dialect="auto"` chooses, and why; "" where nothing could be chosen.
    """

    url: str
    server: str = ""
    version: str = ""
    model: str = ""
    served: tuple[str, ...] = ()
    context: int | None = None
    tools: Fate = "unknown"
    streams_with_tools: bool | None = None
    dialect: str = ""
    reason: str = ""
    findings: tuple[Finding, ...] = ()

    @property
    def healthy(self) -> bool:
        """Whether nothing is an error: an agent can work with this server."""
        return all(finding.level != "error" for finding in self.findings)


async def examine(endpoint: Endpoint | str, model: str | None = None) -> Report:
    """Asks a server who it is and what it does with tools; never raises a ModelError.

    endpoint: the server, or its base URL. model: as in `Agent`; None takes the first it serves.
    Costs three requests for one token each, and at most one that LMDeploy refuses.
    """
    try:
        known = Endpoint(endpoint) if isinstance(endpoint, str) else endpoint
    except UsageError as error:
        return Report(str(endpoint), findings=(Finding("error", str(error), "check the URL"),))
    return await _met(_patient(known), model)


async def _met(endpoint: Endpoint, model: str | None) -> Report:
    """The report on a server that may not be there, or may not have the model."""
    try:
        listed = await listing(endpoint)
    except ModelError as error:
        return Report(endpoint.place, findings=(await _unlisted(endpoint, error),))
    report = Report(endpoint.place, listed.server, served=listed.names)
    try:
        name = meant(model, listed, endpoint.place)
    except UnknownModel as error:
        return replace(report, findings=(Finding("error", str(error), _served(listed)),))
    return await _examined(endpoint, await identified(endpoint, listed, name))


def _patient(endpoint: Endpoint) -> Endpoint:
    """The endpoint with the patience of somebody who waits for a diagnosis."""
    timeout, tries = min(endpoint.timeout, _PATIENCE), min(endpoint.tries, 2)
    return replace(endpoint, timeout=timeout, tries=tries)


async def _examined(endpoint: Endpoint, facts: Facts) -> Report:
    facts = replace(facts, version=await version(endpoint, facts))
    report = Report(endpoint.place, facts.server, facts.version, facts.model, facts.served)
    first = (_server(facts, endpoint.place), Finding("ok", f"the model is {facts.model}"))
    try:
        facts = await with_fate_of_tools(endpoint, facts)
        streamed = await streams_with_tools(endpoint, facts)
    except ModelError as error:
        failed = _failure(endpoint, error)
        failed = replace(failed, what=f"the model does not answer: {failed.what}")
        return replace(report, context=facts.context, findings=(*first, failed))
    facts = replace(facts, context=await window(endpoint, facts))
    choice = chosen(facts)
    return replace(
        report,
        context=facts.context,
        tools=facts.tools,
        streams_with_tools=None if streamed is None else streamed and _sound(facts),
        dialect=choice.dialect.name,
        reason=choice.reason,
        findings=(*first, *findings(facts, streamed, choice)),
    )


def chosen(facts: Facts) -> Choice:
    """What "auto" chooses, which does not ask every server all that a doctor asks."""
    if facts.tools == "dropped" and not matters(facts):
        facts = replace(facts, tools="unknown", tokens=None)
    return decide(facts)


# What the facts say.


def findings(facts: Facts, streamed: bool | None, choice: Choice) -> tuple[Finding, ...]:
    """The findings about a model that answers; `streamed` is whether tools came as a stream."""
    stream = () if streamed is None else (_stream(facts, choice, streamed=streamed),)
    return (_window(facts), _tools(facts, choice), *stream, _dialect(facts, choice))


def _server(facts: Facts, place: str) -> Finding:
    name = _NAMES.get(facts.server, facts.server) or "a server that does not say what it is"
    what = f"{name} {facts.version}".strip() + f" answers at {place}"
    if facts.server != "lmdeploy" or facts.since >= SOUND:
        return Finding("ok", what)
    if not facts.since:
        told = "launch without --disable-fastapi-docs, so that its age can be told"
        return Finding("warn", f"{what}; it hides its version", told)
    return Finding("warn", f"{what}; it is old", "upgrade LMDeploy to 0.13 or later")


def _window(facts: Facts) -> Finding:
    if facts.context is None:
        return Finding("ok", "the context length is not told by the server")
    what = f"the context length is {facts.context} tokens"
    if facts.context >= SMALL:
        return Finding("ok", what)
    advice = _ENLARGE.get(facts.server, "give the server a larger context")
    return Finding("warn", f"{what}: tools, results and history have to fit", advice)


def _tools(facts: Facts, choice: Choice) -> Finding:
    bare, armed = facts.tokens or (0, 0)
    match facts.tools:
        case "reach":
            seen = f"{bare} tokens without one, {armed} with one"
            return Finding("ok", f"tools reach the prompt ({seen})")
        case "refused":
            what = f"the server refuses tools: {facts.refusal[:200]}"
            return Finding("warn", what, f"{_instead(choice)}; {_to_know_tools(facts)}")
        case "dropped":
            what = "tools do not reach the prompt: the chat template ignores them"
            if choice.dialect.name == "native":
                return Finding("error", what, f'say dialect="constrained"; {_to_know_tools(facts)}')
            return Finding("warn", what, f"{_instead(choice)}; {_to_know_tools(facts)}")
        case "unknown":
            what = "whether tools reach the prompt cannot be seen: the server counts no tokens"
            return Finding(
                "warn", what, 'if the model never calls a tool, say dialect="constrained"'
            )


def _instead(choice: Choice) -> str:
    mode = "raw mode" if choice.dialect.name.startswith("internlm") else choice.dialect.name
    return f"agentcall speaks {mode} instead"


def _to_know_tools(facts: Facts) -> str:
    """What makes the server itself know tools."""
    if facts.server != "lmdeploy":
        known = _KNOW_TOOLS.get(facts.server, "give the server a chat template that knows tools")
        return f"for tools from other clients, {known}"
    parser = "internlm" if is_internlm2(facts.model) else "NAME"
    if facts.tools == "refused" and parser == "NAME":
        return "for tools from other clients, launch with --tool-call-parser NAME"
    return (
        f"to use tools from other clients, launch with --tool-call-parser {parser} and {_TEMPLATE}"
    )


def _stream(facts: Facts, choice: Choice, *, streamed: bool) -> Finding:
    if streamed and _sound(facts):
        return Finding("ok", "a stream with tools works")
    fault = "garbles the calls in a stream" if streamed else "answers without a stream"
    what = f"a stream with tools does not work: the server {fault}"
    if choice.dialect.name != "native":
        return Finding("warn", what, f"{_instead(choice)}, which streams")
    return Finding("warn", what, "agentcall asks for whole answers instead")


def _dialect(facts: Facts, choice: Choice) -> Finding:
    what = f"agentcall speaks {choice.dialect.name}: {choice.reason}"
    old = facts.server == "lmdeploy" and () < facts.since < _GUIDED
    if choice.dialect.name == "constrained" and old:
        why = "before 0.10.2 LMDeploy holds no answer to a schema on every engine"
        return Finding("warn", f"{what}; {why}", "upgrade LMDeploy to 0.13 or later")
    return Finding("ok", what)


def _sound(facts: Facts) -> bool:
    return facts.server != "lmdeploy" or facts.since >= SOUND


# What failures say.


async def _unlisted(endpoint: Endpoint, error: ModelError) -> Finding:
    """Why a server does not list its models; a wrong path is told by trying the usual one."""
    below = replace(endpoint, url=joined(endpoint.url, "/v1"))
    lost = isinstance(error, BadAnswer) or (
        isinstance(error, ModelRefused) and error.status in (404, 405)
    )
    if lost and not endpoint.place.endswith("/v1") and await _lists(below):
        return Finding("error", f"there is no model API at {endpoint.place}", f"use {below.place}")
    return _failure(endpoint, error)


async def _lists(endpoint: Endpoint) -> bool:
    try:
        return bool((await listing(endpoint)).cards)
    except ModelError as error:
        return isinstance(error, ModelRefused) and error.status in (401, 403)


def _failure(endpoint: Endpoint, error: ModelError) -> Finding:
    match error:
        case ModelRefused(status=401 | 403):
            what = "refuses this API key" if endpoint.api_key else "wants an API key"
            advice = "set AGENTCALL_API_KEY to one of the keys that the server was launched with"
            return Finding("error", f"the server at {endpoint.place} {what}", advice)
        case ModelRefused(status=404 | 405) | BadAnswer():
            advice = "give the base URL of an OpenAI-compatible server; it usually ends in /v1"
        case ModelTimeout():
            advice = "wait until it has loaded its model, and look into its log"
        case ModelUnreachable():
            advice = "start the server (agentcall server start MODEL), or check host and port"
        case ModelRefused():
            advice = "look into the server's log"
        case _:
            advice = "check the URL"
    return Finding("error", str(error), advice)


def _served(listed: Listing) -> str:
    if not listed.cards:
        return "launch the server with a model"
    return f"use one of the models that it serves, such as {listed.names[0]}"
