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
from agentcall.models.capabilities import (
    SOUND_PARSER_SINCE,
    DialectChoice,
    ModelListing,
    ServerCapabilities,
    ToolSupport,
    can_stream_tools,
    describe_server,
    is_internlm2,
    list_models,
    match_model,
    needs_tool_probe,
    probe_tool_support,
    select_dialect,
)
from agentcall.models.context_window import fetch_context_window, fetch_version
from agentcall.models.http import HTTPEndpoint
from agentcall.models.url import join_url

FindingLevel: TypeAlias = Literal["ok", "warn", "error"]

SMALL_CONTEXT = 8192
"""Tokens of context below which tools, results and history get in each other's way."""

_MAX_TIMEOUT = 60.0
_GUIDED_SINCE = (0, 10, 2)
"""The first LMDeploy that holds answers to a JSON Schema on both of its engines."""

_SERVER_NAMES = {"lmdeploy": "LMDeploy", "vllm": "vLLM", "sglang": "SGLang", "ollama": "Ollama"}
_TOOL_ADVICE = {
    "vllm": "launch vLLM with --enable-auto-tool-choice --tool-call-parser NAME",
    "sglang": "launch SGLang with --tool-call-parser NAME",
    "llama.cpp": "launch llama-server with --jinja",
    "ollama": "use a model that Ollama lists as able to use tools",
}
_CONTEXT_ADVICE = {
    "lmdeploy": "launch with a larger --session-len",
    "vllm": "launch with a larger --max-model-len",
    "sglang": "launch with a larger --context-length",
    "llama.cpp": "launch with a larger --ctx-size",
    "ollama": "set OLLAMA_CONTEXT_LENGTH; Ollama cuts longer prompts without a word",
}
_TEMPLATE_FLAG = "--chat-template FILE.json, a template that knows tools (docs/lmdeploy.md)"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing seen: how bad it is, what it is, and what to change (empty if nothing)."""

    level: FindingLevel
    what: str
    advice: str = ""


@dataclass(frozen=True, slots=True)
class DoctorReport:
    """What there is to know about a server and a model.

    server: its kind ("lmdeploy", "vllm", "llama.cpp", "ollama", ...), or "".
    version: the server's, or a guess such as "0.16 or 0.17"; "" where nothing can be told.
    model: the model's full name on the server; "" where none was found.
    served: the names of all models there.
    context: the window in tokens; None where the server does not tell.
    tools: what happens to the tools of a request; see `ToolSupport`.
    streams_with_tools: whether a request for a stream with tools works; None if not known.
    dialect, reason: what `dialect="auto"` chooses, and why; "" where nothing could be chosen.
    """

    url: str
    server: str = ""
    version: str = ""
    model: str = ""
    served: tuple[str, ...] = ()
    context: int | None = None
    tools: ToolSupport = "unknown"
    streams_with_tools: bool | None = None
    dialect: str = ""
    reason: str = ""
    findings: tuple[Finding, ...] = ()

    @property
    def healthy(self) -> bool:
        """Whether nothing is an error: an agent can work with this server."""
        return all(finding.level != "error" for finding in self.findings)


async def examine(endpoint: HTTPEndpoint | str, model: str | None = None) -> DoctorReport:
    """Asks a server who it is and what it does with tools; never raises a ModelError.

    endpoint: the server, or its base URL. model: as in `Agent`; None takes the first it serves.
    Costs three requests for one token each, and at most one that LMDeploy refuses.
    """
    try:
        known = HTTPEndpoint(endpoint) if isinstance(endpoint, str) else endpoint
    except UsageError as error:
        return DoctorReport(
            str(endpoint), findings=(Finding("error", str(error), "check the URL"),)
        )
    return await _examine_server(_limit_waiting(known), model)


async def _examine_server(endpoint: HTTPEndpoint, model: str | None) -> DoctorReport:
    """The report on a server that may not be there, or may not have the model."""
    try:
        listed = await list_models(endpoint)
    except ModelError as error:
        return DoctorReport(
            endpoint.display_url, findings=(await _explain_listing_error(endpoint, error),)
        )
    report = DoctorReport(endpoint.display_url, listed.server, served=listed.names)
    try:
        name = match_model(model, listed, endpoint.display_url)
    except UnknownModel as error:
        return replace(report, findings=(Finding("error", str(error), _suggest_model(listed)),))
    return await _examine_model(endpoint, await describe_server(endpoint, listed, name))


def _limit_waiting(endpoint: HTTPEndpoint) -> HTTPEndpoint:
    """The endpoint with the patience of somebody who waits for a diagnosis."""
    timeout, tries = min(endpoint.timeout, _MAX_TIMEOUT), min(endpoint.tries, 2)
    return replace(endpoint, timeout=timeout, tries=tries)


async def _examine_model(endpoint: HTTPEndpoint, facts: ServerCapabilities) -> DoctorReport:
    facts = replace(facts, version=await fetch_version(endpoint, facts))
    report = DoctorReport(
        endpoint.display_url, facts.server, facts.version, facts.model, facts.served_models
    )
    first = (
        _check_server(facts, endpoint.display_url),
        Finding("ok", f"the model is {facts.model}"),
    )
    try:
        facts = await probe_tool_support(endpoint, facts)
        streamed = await can_stream_tools(endpoint, facts)
    except ModelError as error:
        failed = _explain_error(endpoint, error)
        failed = replace(failed, what=f"the model does not answer: {failed.what}")
        return replace(report, context=facts.context_window, findings=(*first, failed))
    facts = replace(facts, context_window=await fetch_context_window(endpoint, facts))
    choice = predict_choice(facts)
    return replace(
        report,
        context=facts.context_window,
        tools=facts.tool_support,
        streams_with_tools=None if streamed is None else streamed and _has_sound_calls(facts),
        dialect=choice.dialect.name,
        reason=choice.reason,
        findings=(*first, *list_findings(facts, streamed, choice)),
    )


def predict_choice(facts: ServerCapabilities) -> DialectChoice:
    """What "auto" chooses, which does not ask every server all that a doctor asks."""
    if facts.tool_support == "dropped" and not needs_tool_probe(facts):
        facts = replace(facts, tool_support="unknown", prompt_tokens=None)
    return select_dialect(facts)


# What the facts say.


def list_findings(
    facts: ServerCapabilities, streamed: bool | None, choice: DialectChoice
) -> tuple[Finding, ...]:
    """The findings about a model that answers; `streamed` is whether tools came as a stream."""
    stream = () if streamed is None else (_check_stream(facts, choice, streamed=streamed),)
    return (
        _check_window(facts),
        _check_tools(facts, choice),
        *stream,
        _check_dialect(facts, choice),
    )


def _check_server(facts: ServerCapabilities, place: str) -> Finding:
    name = _SERVER_NAMES.get(facts.server, facts.server) or "a server that does not say what it is"
    what = f"{name} {facts.version}".strip() + f" answers at {place}"
    if facts.server != "lmdeploy" or facts.min_version >= SOUND_PARSER_SINCE:
        return Finding("ok", what)
    if not facts.min_version:
        told = "launch without --disable-fastapi-docs, so that its age can be told"
        return Finding("warn", f"{what}; it hides its version", told)
    return Finding("warn", f"{what}; it is old", "upgrade LMDeploy to 0.13 or later")


def _check_window(facts: ServerCapabilities) -> Finding:
    if facts.context_window is None:
        return Finding("ok", "the context length is not told by the server")
    what = f"the context length is {facts.context_window} tokens"
    if facts.context_window >= SMALL_CONTEXT:
        return Finding("ok", what)
    advice = _CONTEXT_ADVICE.get(facts.server, "give the server a larger context")
    return Finding("warn", f"{what}: tools, results and history have to fit", advice)


def _check_tools(facts: ServerCapabilities, choice: DialectChoice) -> Finding:
    bare, armed = facts.prompt_tokens or (0, 0)
    match facts.tool_support:
        case "reach":
            seen = f"{bare} tokens without one, {armed} with one"
            return Finding("ok", f"tools reach the prompt ({seen})")
        case "refused":
            what = f"the server refuses tools: {facts.refusal[:200]}"
            return Finding(
                "warn", what, f"{_describe_alternative(choice)}; {_advise_on_tools(facts)}"
            )
        case "dropped":
            what = "tools do not reach the prompt: the chat template ignores them"
            if choice.dialect.name == "native":
                return Finding(
                    "error", what, f'say dialect="constrained"; {_advise_on_tools(facts)}'
                )
            return Finding(
                "warn", what, f"{_describe_alternative(choice)}; {_advise_on_tools(facts)}"
            )
        case "unknown":
            what = "whether tools reach the prompt cannot be seen: the server counts no tokens"
            return Finding(
                "warn", what, 'if the model never calls a tool, say dialect="constrained"'
            )


def _describe_alternative(choice: DialectChoice) -> str:
    mode = "raw mode" if choice.dialect.name.startswith("internlm") else choice.dialect.name
    return f"agentcall speaks {mode} instead"


def _advise_on_tools(facts: ServerCapabilities) -> str:
    """What makes the server itself know tools."""
    if facts.server != "lmdeploy":
        known = _TOOL_ADVICE.get(facts.server, "give the server a chat template that knows tools")
        return f"for tools from other clients, {known}"
    parser = "internlm" if is_internlm2(facts.model) else "NAME"
    if facts.tool_support == "refused" and parser == "NAME":
        return "for tools from other clients, launch with --tool-call-parser NAME"
    return (
        f"to use tools from other clients, launch with --tool-call-parser {parser} and "
        f"{_TEMPLATE_FLAG}"
    )


def _check_stream(facts: ServerCapabilities, choice: DialectChoice, *, streamed: bool) -> Finding:
    if streamed and _has_sound_calls(facts):
        return Finding("ok", "a stream with tools works")
    fault = "garbles the calls in a stream" if streamed else "answers without a stream"
    what = f"a stream with tools does not work: the server {fault}"
    if choice.dialect.name != "native":
        return Finding("warn", what, f"{_describe_alternative(choice)}, which streams")
    return Finding("warn", what, "agentcall asks for whole answers instead")


def _check_dialect(facts: ServerCapabilities, choice: DialectChoice) -> Finding:
    what = f"agentcall speaks {choice.dialect.name}: {choice.reason}"
    old = facts.server == "lmdeploy" and () < facts.min_version < _GUIDED_SINCE
    if choice.dialect.name == "constrained" and old:
        why = "before 0.10.2 LMDeploy holds no answer to a schema on every engine"
        return Finding("warn", f"{what}; {why}", "upgrade LMDeploy to 0.13 or later")
    return Finding("ok", what)


def _has_sound_calls(facts: ServerCapabilities) -> bool:
    return facts.server != "lmdeploy" or facts.min_version >= SOUND_PARSER_SINCE


# What failures say.


async def _explain_listing_error(endpoint: HTTPEndpoint, error: ModelError) -> Finding:
    """Why a server does not list its models; a wrong path is told by trying the usual one."""
    below = replace(endpoint, url=join_url(endpoint.url, "/v1"))
    lost = isinstance(error, BadAnswer) or (
        isinstance(error, ModelRefused) and error.status in (404, 405)
    )
    if lost and not endpoint.display_url.endswith("/v1") and await _can_list(below):
        return Finding(
            "error", f"there is no model API at {endpoint.display_url}", f"use {below.display_url}"
        )
    return _explain_error(endpoint, error)


async def _can_list(endpoint: HTTPEndpoint) -> bool:
    try:
        return bool((await list_models(endpoint)).cards)
    except ModelError as error:
        return isinstance(error, ModelRefused) and error.status in (401, 403)


def _explain_error(endpoint: HTTPEndpoint, error: ModelError) -> Finding:
    match error:
        case ModelRefused(status=401 | 403):
            what = "refuses this API key" if endpoint.api_key else "wants an API key"
            advice = "set AGENTCALL_API_KEY to one of the keys that the server was launched with"
            return Finding("error", f"the server at {endpoint.display_url} {what}", advice)
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


def _suggest_model(listed: ModelListing) -> str:
    if not listed.cards:
        return "launch the server with a model"
    return f"use one of the models that it serves, such as {listed.names[0]}"
