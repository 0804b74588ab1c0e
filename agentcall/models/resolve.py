"""Resolve a model's shorthand to a `Model`.

    "lmdeploy:internlm2_5-7b-chat"   a server or model that agentcall launched on this machine, by
                                     its name; else LMDeploy at 127.0.0.1:23333, or at the
                                     address in `NAME@host:port`
    "http://host:port/v1"            the first model of the server; /v1 is added to a bare host
    "http://host:port/v1#model"      this model of the server
    "ollama:NAME", "vllm:NAME", ...  a model of a program on this machine (`server_programs.py`), or
                                     with `NAME@host:port` elsewhere; without NAME its only one
    "embedded", "embedded:NAME"      the embedded model on the CPU, started by the first request
    "code:NAME"                      a model that calls tools by programs (`code_mode.py`); NAME is
                                     any of these
    several, as a list or "URL,URL"  a `LoadBalancer`: the least busy server, or the next if it
                                     fails
    None                             AGENTCALL_MODEL, else a running local LMDeploy, else embedded

The API key is that of a server that agentcall launched, else AGENTCALL_API_KEY, else that of the
program's own variable. The HTTP client and the embedded runtime are imported by the first request,
so that importing agentcall stays fast.
"""

from __future__ import annotations

import os
import re
import threading
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from typing import TYPE_CHECKING, Protocol, TypeAlias, runtime_checkable

from agentcall.errors import MissingExtra, UnknownModel, UsageError
from agentcall.models.url import add_v1_path, redact_url

if TYPE_CHECKING:
    from agentcall.dialects.dialect import PromptSpec
    from agentcall.models.load_balancer import LoadBalancer
    from agentcall.models.model import Model, ModelRequest, ResponseEvent

LMDEPLOY = ("127.0.0.1", 23333)
"""The default address of LMDeploy's api_server."""

ModelLike: TypeAlias = "Model | str | Sequence[Model | str]"
"""A model, its shorthand, or several of them that serve the same model."""

_SINGLE_TRIES, _BALANCED_TRIES = 4, 1
"""Attempts of a request on one server; a load balancer asks another server instead."""

_HOST_AND_PORT = r"[\w.-]+:\d{2,5}(?:/|#|$)"
"""Matches an address without its scheme, such as `localhost:8000`."""


def resolve_model(model: ModelLike | None) -> Model:
    """Resolve a model or a shorthand; None selects the default. Raises UnknownModel, UsageError."""
    if model is None:
        return _LazyModel(_create_default_model)
    if isinstance(model, str):
        shorthands = split_shorthands(model)
        if len(shorthands) == 1:
            return _resolve_shorthand(model, _SINGLE_TRIES)
        return _create_load_balancer(shorthands)
    if isinstance(model, Sequence):
        return _create_load_balancer(model)
    return _require_model(model)


def _require_model(value: Model) -> Model:
    """Return the model. Raises UsageError for anything else that a program passes."""
    if isinstance(value, type) or not hasattr(value, "ask"):
        raise UsageError(_explain_no_model(value))
    return value


def _explain_no_model(value: object) -> str:
    if hasattr(value, "chat") and hasattr(value, "models"):
        return (
            f"model={value!r:.100} is a client of the openai package; use "
            "OpenAIChat(client, model) of agentcall.models.openai_client"
        )
    return (
        f'model={value!r:.100} is not a model; use a shorthand such as "http://host:port/v1", or '
        "an object with the method `ask` of agentcall.models.model.Model"
    )


def describe_model(model: ModelLike | None) -> str:
    """Return the model or shorthand as text for messages, without the secrets of its URLs."""
    if isinstance(model, str):
        return ", ".join(repr(_redact_shorthand(each)) for each in split_shorthands(model))
    if isinstance(model, Sequence):
        return f"[{', '.join(map(describe_model, model))}]"
    return repr(model)


def _redact_shorthand(shorthand: str) -> str:
    # In `ollama:NAME@host:port` the name stands before the @; elsewhere it may be a password.
    if "@" in shorthand and "//" not in shorthand:
        from agentcall.models.server_programs import PROGRAMS

        if shorthand.partition(":")[0] in (*PROGRAMS, "lmdeploy"):
            return shorthand
    return redact_url(shorthand)


def get_resolved_model(model: Model) -> Model | None:
    """Return the model that a shorthand was resolved to; None before its first request."""
    return model.inner_model if isinstance(model, _WrapsModel) else model


def prepare_model(model: Model, prompt: PromptSpec) -> None:
    """Do what an embedded model does before its first answer; nothing for a model on a server.

    Blocks. Raises what the first request would raise.
    """
    while isinstance(model, _LazyModel):
        model = model.create_once()
    if isinstance(model, _SupportsPrepare):
        model.prepare(prompt)


def split_shorthands(shorthand: str) -> list[str]:
    """Split a text at the commas between shorthands; the name of a model may contain commas."""
    if "," not in shorthand:
        return [shorthand.strip()]
    from agentcall.models.server_programs import PROGRAMS

    kinds = "|".join(PROGRAMS)
    separator = rf"\s*,\s*(?=(?i:https?):|(?:{kinds}|lmdeploy|embedded)(?![\w-]))"
    return re.split(separator, shorthand.strip())


def _create_load_balancer(nodes: Sequence[Model | str]) -> LoadBalancer:
    from agentcall.models.load_balancer import LoadBalancer

    return LoadBalancer(
        *(
            _resolve_shorthand(node, _BALANCED_TRIES)
            if isinstance(node, str)
            else _require_model(node)
            for node in nodes
        )
    )


def _resolve_shorthand(shorthand: str, tries: int) -> Model:
    shorthand = shorthand.strip()
    kind, _, rest = shorthand.partition(":")
    if kind.lower() in ("http", "https"):
        url, _, model = shorthand.partition("#")
        url, model = add_v1_path(url), model.strip()
        return _LazyModel(lambda: _create_http_model(url, model or None, tries))
    if kind == "lmdeploy":
        return _LazyModel(lambda: _create_lmdeploy_model(rest, tries))
    if kind == "code":
        return _LazyModel(lambda: _create_code_mode(rest))
    if kind == "embedded":
        return _LazyModel(lambda: _create_embedded_model(rest or None))
    from agentcall.models.server_programs import PROGRAMS, locate_program  # few programs need it

    if kind in PROGRAMS and not rest.startswith("//"):
        address = locate_program(kind, rest)
        return _LazyModel(lambda: _create_http_model(address.url, address.model, tries, kind))
    shown = _redact_shorthand(shorthand)
    raise UnknownModel(f"{shown!r} is not the name of a model; {_suggest_shorthand(shorthand)}")


def _create_code_mode(rest: str) -> Model:
    from agentcall.models.code_mode import CodeMode

    return CodeMode(resolve_model(rest or None))


def _suggest_shorthand(text: str) -> str:
    """Return the forms of a shorthand, after the one that was probably meant."""
    from difflib import get_close_matches

    from agentcall.models.server_programs import PROGRAMS

    first, *others = PROGRAMS
    forms = (
        "http://host:port/v1, http://host:port/v1#NAME, lmdeploy:NAME, embedded, embedded:NAME, or "
        f"{first}:NAME for a server at its usual port on this machine (likewise "
        f"{', '.join(others)})"
    )
    kind, _, name = text.partition(":")
    kinds = get_close_matches(
        re.sub(r"[ ._-]", "", kind.lower()), (*PROGRAMS, "lmdeploy", "embedded"), 1, 0.75
    )
    if re.match(_HOST_AND_PORT, text):
        return f"use http://{text} for a server at this address; the forms are {forms}"
    if kinds and "@" not in name:
        return f"did you mean {kinds[0]}:{name}? The forms are {forms}"
    return f"use {forms}"


@runtime_checkable
class _WrapsModel(Protocol):
    """A model that creates another one by its first request."""

    @property
    def inner_model(self) -> Model | None:
        """The other model; None before the first request."""
        ...


@runtime_checkable
class _SupportsPrepare(Protocol):
    """A model that can be made ready before its first request."""

    def prepare(self, prompt: PromptSpec) -> None:
        """Make it ready for conversations with this prompt."""
        ...


class _LazyModel:
    """A model that is created by its first request; concurrent first requests create it once."""

    def __init__(self, factory: Callable[[], Model]) -> None:
        self._factory = factory
        self._lock = threading.Lock()
        self._model: Model | None = None

    @property
    def inner_model(self) -> Model | None:
        model = self._model
        return None if model is None else get_resolved_model(model)

    def ask(self, request: ModelRequest) -> AsyncIterator[ResponseEvent]:
        model = self._model
        return self._ask_first(request) if model is None else model.ask(request)

    @property
    def secrets(self) -> Collection[str]:
        from agentcall.models.model import collect_secrets

        return () if self._model is None else collect_secrets([self._model])

    async def fetch_context_window(self) -> int | None:
        from agentcall.models.model import fetch_context_window

        return None if self._model is None else await fetch_context_window(self._model)

    async def find_context_window(self) -> int | None:
        from agentcall.models.model import find_context_window

        return None if self._model is None else await find_context_window(self._model)

    async def _ask_first(self, request: ModelRequest) -> AsyncIterator[ResponseEvent]:
        import asyncio  # already imported, as a loop is running

        # In a thread: starting the embedded model takes seconds, and its download minutes.

        model = await asyncio.to_thread(self.create_once)
        async for part in model.ask(request):
            yield part

    def create_once(self) -> Model:
        """Return the model, created by the first call."""
        with self._lock:
            if self._model is None:
                self._model = self._factory()
            return self._model


def _create_http_model(url: str, model: str | None, tries: int, program: str = "") -> Model:
    from agentcall.models.http import HTTPEndpoint
    from agentcall.models.http_chat import HTTPChat
    from agentcall.models.local_servers import find_api_key

    endpoint = HTTPEndpoint(url, find_api_key(url, program), tries=tries, program=program)
    return HTTPChat(endpoint, model)


def _create_lmdeploy_model(name: str, tries: int) -> Model:
    from agentcall.models.local_servers import find_local_server
    from agentcall.models.server_programs import split_address

    if address := split_address(name):
        return _create_http_model(address.url, address.model, tries)
    server = find_local_server(name) if name else None
    url = server.url if server else "http://{}:{}/v1".format(*LMDEPLOY)
    return _create_http_model(url, server.model if server else name or None, tries)


def _create_default_model() -> Model:
    """Return the model of AGENTCALL_MODEL, else a local one. Raises UsageError if there is none."""
    shorthand = os.environ.get("AGENTCALL_MODEL") or _detect_shorthand()
    if shorthand != "embedded":
        return resolve_model(shorthand)
    try:
        return _create_embedded_model(None)
    except MissingExtra as error:
        raise MissingExtra(
            "no model was named, and none was found:\n"
            '- AGENTCALL_MODEL is not set: set it to a server such as "http://host:port/v1" or '
            '"ollama:NAME", or name it with Agent(model) or -m\n'
            f"- no LMDeploy answers at {LMDEPLOY[0]}:{LMDEPLOY[1]}: `agentcall server start MODEL` "
            "starts one on a machine with a GPU\n"
            f"{_list_listening()}"
            f"- {error}"
        ) from None


def _list_listening() -> str:
    """Return the programs that may be meant, as a line of a message; "" if there are none."""
    from agentcall.models.server_programs import PROGRAMS, find_listening_programs

    kinds = find_listening_programs()
    if not kinds:
        return ""
    names = ", ".join(f"{PROGRAMS[kind].title} (-m {kind}:)" for kind in kinds)
    return f"- something listens at the usual port of {names}\n"


def _detect_shorthand() -> str:
    """Return the shorthand of a running local LMDeploy, else of the embedded model."""
    import socket

    try:
        with socket.create_connection(LMDEPLOY, timeout=0.25):
            return "lmdeploy:"
    except OSError:
        from agentcall.models.local_servers import find_local_server

        server = find_local_server("")
        return f"lmdeploy:{server.name}" if server else "embedded"


def _create_embedded_model(name: str | None) -> Model:
    from agentcall.models.embedded import EmbeddedChat

    return EmbeddedChat(name)
