"""Examine a model server: what works, what does not, and what to change."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

from agentcall.diagnostics.refusals import RefusalReport, probe_refusals
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
    DialectChoice,
    ServerCapabilities,
    ToolSupport,
    can_stream_tools,
    describe_server,
    has_sound_parser,
    is_internlm2,
    needs_tool_probe,
    probe_tool_support,
    select_dialect,
)
from agentcall.models.context_window import fetch_context_window, fetch_version
from agentcall.models.http import HTTPEndpoint
from agentcall.models.model_listing import list_models, match_model
from agentcall.models.url import join_url

FindingLevel: TypeAlias = Literal["ok", "warn", "error"]

SMALL_CONTEXT = 8192
"""Tokens of context below which tools, results and history hardly fit together."""

_MAX_TIMEOUT = 60.0
_GUIDED_SINCE = (0, 10, 2)
"""The first LMDeploy that constrains answers to a JSON Schema on both of its engines."""

_SERVER_NAMES = {"lmdeploy": "LMDeploy", "vllm": "vLLM", "sglang": "SGLang", "ollama": "Ollama"}
_TOOL_ADVICE = {
    "vllm": "launch vLLM with --enable-auto-tool-choice --tool-call-parser NAME",
    "sglang": "launch SGLang with --tool-call-parser NAME",
    "llama.cpp": "launch llama-server with --jinja",
    "ollama": "use a model that Ollama lists with tool support",
}
_CONTEXT_ADVICE = {
    "lmdeploy": "launch with a larger --session-len",
    "vllm": "launch with a larger --max-model-len",
    "sglang": "launch with a larger --context-length",
    "llama.cpp": "launch with a larger --ctx-size",
    "ollama": "set OLLAMA_CONTEXT_LENGTH; Ollama silently cuts longer prompts",
}
_TEMPLATE_FLAG = "--chat-template FILE.json, a template that supports tools (docs/lmdeploy.md)"


@dataclass(frozen=True, slots=True)
class Finding:
    """One observation: its level, a description, and what to change (empty if nothing)."""

    level: FindingLevel
    what: str
    advice: str = ""


@dataclass(frozen=True, slots=True)
class DoctorReport:
    """The report on a server and a model.

    server: the kind of the server ("lmdeploy", "vllm", "llama.cpp", "ollama", ...), or "".
    version: the server's version, or a range such as "0.16 or 0.17"; "" if unknown.
    model: the model's full name on the server; "" if none was found.
    served: the names of all models of the server.
    context: the context window in tokens; None if the server does not report it.
    tools: what happens to the tools of a request; see `ToolSupport`.
    streams_with_tools: whether a request for a stream with tools works; None if unknown.
    dialect, reason: the choice of `dialect="auto"` and its reason; "" if there is none.
    adaptations: names of what the server is sent in place of what it refuses.
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
    adaptations: tuple[str, ...] = ()
    findings: tuple[Finding, ...] = ()

    @property
    def healthy(self) -> bool:
        """Whether no finding is an error, so that an agent can work with this server."""
        return all(finding.level != "error" for finding in self.findings)


async def examine(endpoint: HTTPEndpoint | str, model: str | None = None) -> DoctorReport:
    """Examine a server and what it does with tools; never raises a ModelError.

    endpoint: the server, or its base URL.
    model: the name as in `Agent`; None selects the first model that the server lists.

    Sends six requests for one token each, at most one that LMDeploy refuses, and one more for each
    form of request that the server refuses.
    """
    try:
        server = HTTPEndpoint(endpoint) if isinstance(endpoint, str) else endpoint
    except UsageError as error:
        finding = Finding("error", str(error), "check the URL")
        return DoctorReport(str(endpoint), findings=(finding,))
    # A user waits for the report.
    timeout, tries = min(server.timeout, _MAX_TIMEOUT), min(server.tries, 2)
    server = replace(server, timeout=timeout, tries=tries)
    url = server.display_url
    try:
        listing = await list_models(server)
    except ModelError as error:
        return DoctorReport(url, findings=(await _explain_listing_error(server, error),))
    try:
        name = match_model(model, listing, url, server.program)
    except UnknownModel as error:
        if listing.cards:
            advice = f"use one of the models that it serves, such as {listing.names[0]}"
        else:
            advice = "launch the server with a model"
        finding = Finding("error", str(error), advice)
        return DoctorReport(url, listing.server, served=listing.names, findings=(finding,))
    return await _examine_model(server, await describe_server(server, listing, name))


async def _examine_model(endpoint: HTTPEndpoint, capabilities: ServerCapabilities) -> DoctorReport:
    capabilities = replace(capabilities, version=await fetch_version(endpoint, capabilities))
    report = DoctorReport(
        endpoint.display_url,
        capabilities.server,
        capabilities.version,
        capabilities.model,
        capabilities.served_models,
    )
    findings = (
        _check_server(capabilities, endpoint.display_url),
        Finding("ok", f"the model is {capabilities.model}"),
    )
    try:
        capabilities = await probe_tool_support(endpoint, capabilities)
        streamed = await can_stream_tools(endpoint, capabilities)
    except ModelError as error:
        failure = _explain_error(endpoint, error)
        failure = replace(failure, what=f"the model does not answer: {failure.what}")
        return replace(report, context=capabilities.context_window, findings=(*findings, failure))
    capabilities = replace(
        capabilities, context_window=await fetch_context_window(endpoint, capabilities)
    )
    choice = predict_choice(capabilities)
    refusals = await probe_refusals(endpoint, capabilities.model, choice.dialect)
    learned = _explain_refusals(refusals)
    return replace(
        report,
        context=capabilities.context_window,
        tools=capabilities.tool_support,
        streams_with_tools=None
        if streamed is None
        else streamed and has_sound_parser(capabilities),
        dialect=choice.dialect.name,
        reason=choice.reason,
        adaptations=tuple(learned.name for learned in refusals.learned),
        findings=(*findings, *list_findings(capabilities, streamed, choice), *learned),
    )


def predict_choice(capabilities: ServerCapabilities) -> DialectChoice:
    """Return the choice of "auto", which probes fewer servers than the doctor does."""
    if capabilities.tool_support == "dropped" and not needs_tool_probe(capabilities):
        capabilities = replace(capabilities, tool_support="unknown", prompt_tokens=None)
    return select_dialect(capabilities)


def list_findings(
    capabilities: ServerCapabilities, streamed: bool | None, choice: DialectChoice
) -> tuple[Finding, ...]:
    """List the findings on a model that answers.

    streamed: whether a request for a stream with tools got a stream; None if it was refused.
    """
    findings = [_check_window(capabilities), _check_tools(capabilities, choice)]
    if streamed is not None:
        findings.append(_check_stream(capabilities, choice, streamed=streamed))
    return (*findings, _check_dialect(capabilities, choice))


def _check_server(capabilities: ServerCapabilities, url: str) -> Finding:
    name = _SERVER_NAMES.get(capabilities.server, capabilities.server) or "an unknown server"
    what = f"{name} {capabilities.version}".strip() + f" answers at {url}"
    if has_sound_parser(capabilities):
        return Finding("ok", what)
    if not capabilities.min_version:
        advice = "launch without --disable-fastapi-docs, so that its version can be detected"
        return Finding("warn", f"{what}; it hides its version", advice)
    return Finding("warn", f"{what}; it is old", "upgrade LMDeploy to 0.13 or later")


def _check_window(capabilities: ServerCapabilities) -> Finding:
    if capabilities.context_window is None:
        return Finding("ok", "the server does not report the context length")
    what = f"the context length is {capabilities.context_window} tokens"
    if capabilities.context_window >= SMALL_CONTEXT:
        return Finding("ok", what)
    advice = _CONTEXT_ADVICE.get(capabilities.server, "give the server a larger context")
    return Finding("warn", f"{what}: tools, results and history must fit into it", advice)


def _check_tools(capabilities: ServerCapabilities, choice: DialectChoice) -> Finding:
    without_tool, with_tool = capabilities.prompt_tokens or (0, 0)
    advice = f"{_describe_alternative(choice)}; {_advise_on_tools(capabilities)}"
    match capabilities.tool_support:
        case "reach":
            counts = f"{without_tool} tokens without one, {with_tool} with one"
            return Finding("ok", f"tools reach the prompt ({counts})")
        case "refused":
            what = f"the server refuses tools: {capabilities.refusal[:200]}"
            return Finding("warn", what, advice)
        case "dropped":
            what = "tools do not reach the prompt: the chat template ignores them"
            if choice.dialect.name != "native":
                return Finding("warn", what, advice)
            advice = f'set dialect="constrained"; {_advise_on_tools(capabilities)}'
            return Finding("error", what, advice)
        case "unknown":
            what = "unknown whether tools reach the prompt: the server does not count tokens"
            advice = 'if the model never calls a tool, set dialect="constrained"'
            return Finding("warn", what, advice)


def _describe_alternative(choice: DialectChoice) -> str:
    mode = "raw mode" if choice.dialect.name.startswith("internlm") else choice.dialect.name
    return f"agentcall uses {mode} instead"


def _advise_on_tools(capabilities: ServerCapabilities) -> str:
    """Return how to make the server itself support tools."""
    parser = "internlm" if is_internlm2(capabilities.model) else "NAME"
    if capabilities.server != "lmdeploy":
        advice = _TOOL_ADVICE.get(
            capabilities.server, "give the server a chat template that supports tools"
        )
    elif capabilities.tool_support == "refused" and parser == "NAME":
        advice = "launch with --tool-call-parser NAME"
    else:
        advice = f"launch with --tool-call-parser {parser} and {_TEMPLATE_FLAG}"
    return f"for tools from other clients, {advice}"


def _check_stream(
    capabilities: ServerCapabilities, choice: DialectChoice, *, streamed: bool
) -> Finding:
    if streamed and has_sound_parser(capabilities):
        return Finding("ok", "a stream with tools works")
    fault = "garbles the calls in a stream" if streamed else "answers without a stream"
    what = f"a stream with tools does not work: the server {fault}"
    if choice.dialect.name != "native":
        return Finding("warn", what, f"{_describe_alternative(choice)}, which can be streamed")
    return Finding("warn", what, "agentcall requests complete answers instead")


def _check_dialect(capabilities: ServerCapabilities, choice: DialectChoice) -> Finding:
    what = f"agentcall uses the dialect {choice.dialect.name}: {choice.reason}"
    is_old = capabilities.server == "lmdeploy" and () < capabilities.min_version < _GUIDED_SINCE
    if choice.dialect.name == "constrained" and is_old:
        reason = "before 0.10.2 LMDeploy does not constrain answers to a schema on every engine"
        return Finding("warn", f"{what}; {reason}", "upgrade LMDeploy to 0.13 or later")
    return Finding("ok", what)


def _explain_refusals(refusals: RefusalReport) -> tuple[Finding, ...]:
    """List what was learned of the server from what it refuses."""
    findings = [Finding("ok", f"learned: {item.name}: {item.reason}") for item in refusals.learned]
    if refusals.failure:
        what = f"a conversation with a call and its result is refused: {refusals.failure}"
        advice = "try another chat template; agentcall does not know this refusal"
        findings.append(Finding("warn", what, advice))
    return tuple(findings)


async def _explain_listing_error(endpoint: HTTPEndpoint, error: ModelError) -> Finding:
    """Explain why a server does not list its models; try the usual path if this one is wrong."""
    url = endpoint.display_url
    below = replace(endpoint, url=join_url(endpoint.url, "/v1"))
    is_wrong_path = isinstance(error, BadAnswer) or (
        isinstance(error, ModelRefused) and error.status in (404, 405)
    )
    if is_wrong_path and not url.endswith("/v1") and await _can_list(below):
        return Finding("error", f"there is no model API at {url}", f"use {below.display_url}")
    return _explain_error(endpoint, error)


async def _can_list(endpoint: HTTPEndpoint) -> bool:
    try:
        return bool((await list_models(endpoint)).cards)
    except ModelError as error:
        return isinstance(error, ModelRefused) and error.status in (401, 403)


def _explain_error(endpoint: HTTPEndpoint, error: ModelError) -> Finding:
    match error:
        case ModelRefused(status=401 | 403):
            problem = "refuses this API key" if endpoint.api_key else "requires an API key"
            advice = "set AGENTCALL_API_KEY to one of the keys that the server was launched with"
            return Finding("error", f"the server at {endpoint.display_url} {problem}", advice)
        case ModelRefused(status=404 | 405) | BadAnswer():
            advice = "give the base URL of an OpenAI-compatible server; it usually ends in /v1"
        case ModelTimeout():
            advice = "wait until it has loaded its model, and check its log"
        case ModelUnreachable():
            advice = "check host and port"
            if not endpoint.program:
                advice = f"start the server (agentcall server start MODEL), or {advice}"
        case ModelRefused():
            advice = "check the server's log"
        case _:
            advice = "check the URL"
    return Finding("error", str(error), advice)
