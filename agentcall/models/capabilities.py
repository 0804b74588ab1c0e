"""Learn what a server does with tools, and choose the dialect to speak with it.

The choice is made once per server and model. The first matching rule applies:

1. A dialect that the caller names is used.
2. InternLM2 and 2.5 use `native` only if tools reach the prompt and the server's tool parser is
   sound (LMDeploy since 0.13); otherwise raw mode, in the format for the server's version.
3. Any other model behind LMDeploy uses `native` if tools reach the prompt and the server accepts
   tool results (LMDeploy since 0.6), else `constrained`.
4. A server that may drop tools without a word (`_MAY_DROP_TOOLS`) uses `native` if tools reach the
   prompt, else `constrained`. So does Ollama, which lists what a model supports.
5. Any other server gets `native`; if it refuses tools, `constrained` from then on.

Whether tools reach the prompt is seen in the prompt that llama.cpp renders at `/apply-template`, or
measured with two requests for one token, with and without a tool: the server counts more prompt
tokens for one of them. Versions: docs/lmdeploy.md.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias
from weakref import WeakKeyDictionary

import orjson

from agentcall.dialects.dialect import Dialect, get_dialect
from agentcall.errors import (
    BadAnswer,
    ModelError,
    ModelRefused,
    ModelTimeout,
    ModelUnreachable,
    RateLimited,
    ServerFailed,
)
from agentcall.messages import JSON, encode_json
from agentcall.models.adaptations import (
    NO_TOOLS,
    LearnedAdaptations,
    RequestBody,
    forget_server,
)
from agentcall.models.completion_body import parse_completion
from agentcall.models.http import HTTPEndpoint
from agentcall.models.model_listing import ModelListing, list_models, match_model
from agentcall.models.server_version import detect_lmdeploy_version, get_root_endpoint

CHAT_PATH = "/chat/completions"

_SOUND_PARSER_SINCE = (0, 13)
"""The first LMDeploy whose tool parsers share no state between requests and stream correctly."""

_JINJA_SINCE = (0, 10)
"""The first LMDeploy that renders messages with the model's own template."""

_TOOL_ROLE_SINCE = (0, 6)
"""The first LMDeploy that accepts messages with the role `tool`."""

_INTERNLM2 = re.compile(r"internlm[-_ ]?2", re.IGNORECASE)
_MAY_DROP_TOOLS = ("llama.cpp", "vllm", "sglang", "me")
"""Servers that render tools with the model's own template, which may ignore them. They are local,
so that a probe costs next to nothing. `me` is the server of llama-cpp-python."""

_PROGRAM_SERVERS = {"llamacpp": "llama.cpp"}
"""The kind of a server by the name in a shorthand, where they differ."""

_PROBE_TOOL_NAME = "look_up_a_word_in_the_dictionary"
_PROBE_TOOL: JSON = {
    "type": "function",
    "function": {
        "name": _PROBE_TOOL_NAME,
        "description": "Gives the meaning of one word of the English language.",
        "parameters": {
            "type": "object",
            "properties": {"word": {"type": "string", "description": "The word to look up."}},
            "required": ["word"],
        },
    },
}

ToolSupport: TypeAlias = Literal["reach", "dropped", "refused", "unknown"]
"""What a server does with tools: they reach the prompt, are silently dropped, or are refused."""

_ChoiceKey: TypeAlias = "tuple[str, str | None, str]"
"""Base URL, model and API key."""


@dataclass(frozen=True, slots=True)
class ServerCapabilities:
    """What is known about a server and one of its models.

    server: the kind of the server ("lmdeploy", "vllm", "llama.cpp", ...), or "".
    version, min_version: the detected version as text, and the oldest possible one; LMDeploy only.
    prompt_tokens: the prompt tokens of the probe without and with a tool.
    refusal: the message with which the server refused tools.
    context_window: in tokens.
    is_complete: false if the server did not answer, so that it has to be asked again.
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
    is_complete: bool = True


@dataclass(frozen=True, slots=True)
class DialectChoice:
    """The dialect for a model of a server, and the reason.

    `can_stream` is false if the server cannot stream an answer in this dialect, `accepts_images` is
    false for a text model. `server` is the kind of the server, or "".
    """

    model: str
    dialect: Dialect
    reason: str
    can_stream: bool = True
    accepts_images: bool = True
    server: str = ""


_choices: dict[_ChoiceKey, DialectChoice] = {}
_pending_choices: WeakKeyDictionary[
    asyncio.AbstractEventLoop, dict[_ChoiceKey, asyncio.Task[DialectChoice]]
] = WeakKeyDictionary()


async def choose_dialect(
    endpoint: HTTPEndpoint, model: str | None, dialect: Dialect | str
) -> DialectChoice:
    """Return the choice for a server and a model; a process asks each server once.

    Raises ModelError, UnknownModel; a failure is not cached, so that the next caller asks again.
    """
    if dialect != "auto":
        chosen = get_dialect(dialect) if isinstance(dialect, str) else dialect
        name, server = model or "", _PROGRAM_SERVERS.get(endpoint.program, endpoint.program)
        if not model:
            identified = await identify_server(endpoint, None)
            name, server = identified.model, identified.server
        return DialectChoice(name, chosen, "the caller named it", server=server)
    key = (endpoint.url, model, endpoint.api_key)
    if key in _choices:
        return _choices[key]
    return await asyncio.shield(_share_detection(endpoint, key))


def clear_dialect_cache() -> None:
    """Forget all choices, so that servers are asked again, as after a restart of one."""
    _choices.clear()
    forget_server()


def forget_choice(endpoint: HTTPEndpoint) -> None:
    """Forget the choices for a server, as its models have changed."""
    for key in list(_choices):
        if (key[0], key[2]) == (endpoint.url, endpoint.api_key):
            _choices.pop(key, None)
    forget_server(endpoint.display_url)


def _share_detection(endpoint: HTTPEndpoint, key: _ChoiceKey) -> asyncio.Task[DialectChoice]:
    """Return the detection that is running in this event loop; start one if there is none."""
    pending = _pending_choices.setdefault(asyncio.get_running_loop(), {})
    if key not in pending:
        task = pending[key] = asyncio.ensure_future(_detect_choice(endpoint, key))
        task.add_done_callback(_retrieve_exception)
        task.add_done_callback(lambda _: pending.pop(key))
    return pending[key]


async def _detect_choice(endpoint: HTTPEndpoint, key: _ChoiceKey) -> DialectChoice:
    capabilities = await detect_capabilities(endpoint, key[1])
    choice = replace(select_dialect(capabilities), server=capabilities.server)
    if capabilities.is_complete:  # else another client asks the server again
        for name in (key[1], choice.model):
            _choices[endpoint.url, name, endpoint.api_key] = choice
    return choice


def _retrieve_exception(task: asyncio.Task[DialectChoice]) -> None:
    """Keep asyncio from logging a failure that nobody waits for any more."""
    if not task.cancelled():
        task.exception()


async def detect_capabilities(endpoint: HTTPEndpoint, model: str | None) -> ServerCapabilities:
    """Detect what the choice depends on; the model is probed only if necessary."""
    capabilities = await identify_server(endpoint, model)
    if not needs_tool_probe(capabilities):
        return capabilities
    if is_internlm2(capabilities.model) or capabilities.server == "lmdeploy":
        return await probe_tool_support(endpoint, capabilities)
    if capabilities.server == "ollama":
        return await _read_listed_support(endpoint, capabilities)
    if capabilities.server == "llama.cpp":
        support = await _look_for_tool_in_prompt(endpoint)
        if support != "unknown":
            return replace(capabilities, tool_support=support)
    try:
        return await probe_tool_support(endpoint, capabilities)
    except (ModelRefused, BadAnswer):  # the probe was refused: the first request may not be
        return capabilities


def needs_tool_probe(capabilities: ServerCapabilities) -> bool:
    """Whether the choice depends on what the server does with tools."""
    if is_internlm2(capabilities.model):
        return not _has_builtin_template(capabilities)
    return capabilities.server in ("lmdeploy", "ollama", *_MAY_DROP_TOOLS)


async def _look_for_tool_in_prompt(endpoint: HTTPEndpoint) -> ToolSupport:
    """Let llama.cpp render a prompt with a tool: no token is computed.

    Source: tools/server/README.md of llama.cpp, POST /apply-template. "unknown" if it refuses.
    """
    root = replace(get_root_endpoint(endpoint), tries=1)
    messages: JSON = [{"role": "user", "content": "Hi"}]
    body: JSON = {"messages": messages, "tools": [_PROBE_TOOL]}
    try:
        answer = await root.post("/apply-template", orjson.dumps(body))
    except (ModelRefused, BadAnswer):
        return "unknown"
    prompt = answer.get("prompt") if isinstance(answer, Mapping) else None
    if not isinstance(prompt, str) or not prompt:
        return "unknown"
    return "reach" if _PROBE_TOOL_NAME in prompt else "dropped"


async def _read_listed_support(
    endpoint: HTTPEndpoint, capabilities: ServerCapabilities
) -> ServerCapabilities:
    """Read what Ollama lists for a model: `capabilities` of POST /api/show (docs/api.md)."""
    root = replace(get_root_endpoint(endpoint), tries=1)
    try:
        answer = await root.post("/api/show", orjson.dumps({"model": capabilities.model}))
    except (ModelRefused, BadAnswer):
        return capabilities
    listed = answer.get("capabilities") if isinstance(answer, Mapping) else None
    if not isinstance(listed, list) or "tools" in listed:
        return capabilities
    refusal = f"Ollama lists no tools among what {capabilities.model} supports"
    return replace(capabilities, tool_support="refused", refusal=refusal)


def is_internlm2(model: str) -> bool:
    """Whether a model is InternLM2 or 2.5, by its name."""
    return bool(_INTERNLM2.search(model))


def select_dialect(capabilities: ServerCapabilities) -> DialectChoice:
    """Apply the rules 2 to 5 of this module."""
    model, version = capabilities.model, capabilities.version
    if is_internlm2(model):
        return replace(_select_for_internlm2(capabilities), accepts_images=False)
    if capabilities.server == "lmdeploy" and () < capabilities.min_version < _TOOL_ROLE_SINCE:
        reason = f"LMDeploy {version} does not accept tool results"
        return DialectChoice(model, get_dialect("constrained"), reason)
    reason = _explain_support(capabilities)
    if capabilities.tool_support in ("dropped", "refused"):
        return DialectChoice(model, get_dialect("constrained"), reason)
    return DialectChoice(model, get_dialect("native"), reason, has_sound_parser(capabilities))


def _select_for_internlm2(capabilities: ServerCapabilities) -> DialectChoice:
    model = capabilities.model
    raw_mode = "raw mode puts tools, calls and results into the prompt"
    if _has_builtin_template(capabilities):
        reason = (
            f"LMDeploy {capabilities.version} knows InternLM's plugin roles but not the calls of "
            f"earlier turns; {raw_mode}"
        )
        return DialectChoice(model, get_dialect("internlm-named"), reason)
    reason = _explain_support(capabilities)
    if capabilities.tool_support == "reach" and has_sound_parser(capabilities):
        return DialectChoice(model, get_dialect("native"), reason)
    return DialectChoice(model, get_dialect("internlm"), f"{reason}; {raw_mode}")


def _has_builtin_template(capabilities: ServerCapabilities) -> bool:
    """Whether the server is an LMDeploy that renders InternLM2 with a template of its own."""
    return capabilities.server == "lmdeploy" and () < capabilities.min_version < _JINJA_SINCE


def has_sound_parser(capabilities: ServerCapabilities) -> bool:
    """Whether the calls that the server parses are reliable, also in streams."""
    return capabilities.server != "lmdeploy" or capabilities.min_version >= _SOUND_PARSER_SINCE


def _explain_support(capabilities: ServerCapabilities) -> str:
    without_tool, with_tool = capabilities.prompt_tokens or (0, 0)
    if capabilities.version:
        unsound = f"LMDeploy {capabilities.version} cannot stream tool calls"
    else:
        unsound = "this LMDeploy hides its version and may be too old to stream tool calls"
    match capabilities.tool_support:
        case "reach" if not with_tool:
            return "the chat template writes tools into the prompt"
        case "dropped" if not without_tool:
            return "the chat template drops tools"
        case "reach":
            reason = (
                f"tools reach the prompt ({without_tool} tokens without one, {with_tool} with one)"
            )
            return reason if has_sound_parser(capabilities) else f"{reason}, but {unsound}"
        case "dropped":
            return f"the chat template drops tools ({without_tool} prompt tokens in both cases)"
        case "refused":
            return f"the server refuses tools ({_shorten_refusal(capabilities.refusal)})"
        case "unknown" if not has_sound_parser(capabilities):
            return unsound
        case "unknown":
            return f"{capabilities.server or 'the server'} is assumed to support the tools field"


def choose_without_tools(choice: DialectChoice, refusal: str) -> DialectChoice:
    """Return the choice for a server that has refused tools in a request."""
    name = "internlm" if is_internlm2(choice.model) else "constrained"
    reason = f"the server refuses tools ({_shorten_refusal(refusal)})"
    return replace(choice, dialect=get_dialect(name), reason=reason, can_stream=True)


def _shorten_refusal(message: str) -> str:
    return message if len(message) <= 120 else message[:120] + "..."


async def identify_server(endpoint: HTTPEndpoint, model: str | None) -> ServerCapabilities:
    """Identify the server and the model; None selects the first chat model that it lists.

    A server whose list cannot be read is asked for a model that is named anyway. Raises ModelError
    if no model is named or the key is refused, and UnknownModel.
    """
    try:
        listing = await list_models(endpoint)
    except ModelError as error:
        if model is None or (isinstance(error, ModelRefused) and error.status == 401):
            raise
        is_silent = isinstance(error, (ModelUnreachable, ModelTimeout))
        return ServerCapabilities(model, is_complete=not is_silent)
    name = match_model(model, listing, endpoint.display_url, endpoint.program)
    return await describe_server(endpoint, listing, name)


async def describe_server(
    endpoint: HTTPEndpoint, listing: ModelListing, model: str
) -> ServerCapabilities:
    """Return the kind of a server and its version, without a request to the model."""
    capabilities = ServerCapabilities(
        model, listing.names, listing.server, context_window=listing.get_context_window(model)
    )
    if capabilities.server != "lmdeploy":
        return capabilities
    version = await detect_lmdeploy_version(endpoint)
    return replace(capabilities, version=version.text, min_version=version.min_version)


async def probe_tool_support(
    endpoint: HTTPEndpoint, capabilities: ServerCapabilities
) -> ServerCapabilities:
    """Measure what the server does with tools, with two requests for one token each.

    Raises ModelError if the request without tools fails, or the other one for another reason than
    its tools.
    """
    patient = replace(endpoint, tries=min(2, endpoint.tries))
    model = capabilities.model
    without_tool, with_tool = await asyncio.gather(
        _count_prompt_tokens(patient, _encode_probe(model)),
        _count_prompt_tokens(patient, _encode_probe(model, tools=[_PROBE_TOOL])),
        return_exceptions=True,
    )
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
    """Whether a request for a stream with tools gets a stream; None if it is refused.

    Sends a request for one token. LMDeploy up to 0.7.1 answers it with plain JSON.
    """
    body = _encode_probe(capabilities.model, tools=[_PROBE_TOOL], stream=True)
    start = b""
    try:
        async with aclosing(endpoint.stream(CHAT_PATH, body)) as pieces:
            async for piece in pieces:
                start = (start + piece).lstrip()
                if start:
                    break
    except ModelRefused:
        return None
    return bool(start) and start[:1] not in b"{[<"


def _is_busy(error: ModelRefused) -> bool:
    """Whether a server refused a request because of its load, not because of its content."""
    return isinstance(error, RateLimited) and not isinstance(error, ServerFailed)


def _encode_probe(model: str, **fields: JSON) -> bytes:
    """Encode the shortest chat request, for one token."""
    messages: JSON = [{"role": "user", "content": "Hi"}]
    head: dict[str, JSON] = {"model": model, "max_tokens": 1, "temperature": 0}
    return orjson.dumps({**head, **fields, "messages": messages})


async def _count_prompt_tokens(endpoint: HTTPEndpoint, body: bytes) -> int:
    """Return the number of prompt tokens of a request; 0 if the server does not report it."""
    learned = LearnedAdaptations()
    fields: RequestBody = orjson.loads(body)
    while True:
        try:
            answer = await endpoint.post(CHAT_PATH, encode_json(fields))
        except ModelRefused as refused:  # of a field, perhaps; whether tools are is the question
            lesson = learned.learn(refused, fields, learned.active, (NO_TOOLS,))
            if lesson is None:
                raise
            fields = lesson.adaptation.change(fields)
        else:
            usage = parse_completion(answer).usage
            return (usage.input or 0) if usage else 0
