"""A model by a short name.

    "lmdeploy:internlm2_5-7b-chat"   a server or model that agentcall launched on this machine, by
                                     its name; else LMDeploy at 127.0.0.1:23333
    "http://host:port/v1"            the first model that the server has; without a path, /v1
    "http://host:port/v1#model"      that model of it
    "embedded", "embedded:NAME"      the embedded model, on the CPU, started when first asked
    several, as a list or "URL,URL"  the least busy of them, and another where one fails (balance)
    none                             AGENTCALL_MODEL, else a live local LMDeploy, else embedded

The API key is that of a server that agentcall launched, else AGENTCALL_API_KEY, if set. The HTTP
client and the embedded runtime are imported when a model is first asked, so that importing
agentcall costs neither.
"""

from __future__ import annotations

import os
import re
import threading
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from typing import TYPE_CHECKING, TypeAlias, cast

from agentcall.errors import MissingExtra, ModelUnreachable, UnknownModel
from agentcall.models.url import add_v1_path, redact_url

if TYPE_CHECKING:
    from agentcall.models.base import Model, ModelRequest, ResponseEvent
    from agentcall.models.load_balancer import LoadBalancer
    from agentcall_server.embedded_server import EmbeddedServer

LMDEPLOY = ("127.0.0.1", 23333)
"""Where LMDeploy's api_server listens by default."""


ModelLike: TypeAlias = "Model | str | Sequence[Model | str]"
"""A model, its shorthand, or several of them that serve the same model."""

_TRIES_ALONE, _TRIES_BALANCED = 4, 1
"""How often a request is tried on a server: once, where another server can be asked instead."""

_SEPARATOR = re.compile(r"\s*,\s*(?=https?:|lmdeploy\b|embedded\b)")
"""Between two shorthands; the name of a model may hold commas of its own."""


def resolve_model(model: ModelLike | None) -> Model:
    """The model that is meant. Raises UnknownModel, UsageError."""
    if model is None:
        return _LazyModel(
            lambda: resolve_model(os.environ.get("AGENTCALL_MODEL") or _detect_shorthand())
        )
    if isinstance(model, str):
        several = split_shorthands(model)
        return (
            _resolve_one(model, _TRIES_ALONE)
            if len(several) == 1
            else _create_load_balancer(several)
        )
    return _create_load_balancer(model) if isinstance(model, Sequence) else model


def describe_model(model: ModelLike | None) -> str:
    """What is meant, to be shown: shorthands without the secrets of their URLs."""
    if isinstance(model, str):
        return ", ".join(repr(redact_url(one)) for one in split_shorthands(model))
    if isinstance(model, Sequence):
        return f"[{', '.join(map(describe_model, model))}]"
    return repr(model)


def get_resolved_model(model: Model) -> Model | None:
    """The model that a shorthand has become; None before it was first asked."""
    return model.inner_model if isinstance(model, _LazyModel) else model


def split_shorthands(shorthand: str) -> list[str]:
    """The shorthands that a text with commas between them holds; mostly one."""
    return _SEPARATOR.split(shorthand.strip())


def _create_load_balancer(nodes: Sequence[Model | str]) -> LoadBalancer:
    from agentcall.models.load_balancer import LoadBalancer

    each = (
        _resolve_one(node, _TRIES_BALANCED) if isinstance(node, str) else node for node in nodes
    )
    return LoadBalancer(*each)


def _resolve_one(shorthand: str, tries: int) -> Model:
    kind, _, rest = shorthand.partition(":")
    if kind in ("http", "https"):
        url, _, model = shorthand.partition("#")
        url = add_v1_path(url)
        return _LazyModel(lambda: _create_http_model(url, model or None, tries))
    if kind == "lmdeploy":
        return _LazyModel(lambda: _create_lmdeploy_model(rest, tries))
    if kind == "embedded":
        return _LazyModel(lambda: _create_embedded_model(rest or None))
    raise UnknownModel(
        f"{redact_url(shorthand)!r} names no model; use lmdeploy:NAME, http://host:port/v1, "
        "http://host:port/v1#NAME, embedded, or embedded:NAME"
    )


class _LazyModel:
    """A model that is made when it is first asked, once, however many ask at the same time."""

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
        from agentcall.models.base import collect_secrets

        return () if self._model is None else collect_secrets([self._model])

    async def _ask_first(self, request: ModelRequest) -> AsyncIterator[ResponseEvent]:
        # Starting the embedded model takes seconds and its download minutes.
        import asyncio  # a loop runs, so it is there

        model = await asyncio.to_thread(self._create_once)
        async for part in model.ask(request):
            yield part

    def _create_once(self) -> Model:
        with self._lock:
            if self._model is None:
                self._model = self._factory()
            return self._model


def _create_http_model(
    url: str, model: str | None, tries: int, temperature: float | None = None
) -> Model:
    from agentcall.models.http import HTTPEndpoint
    from agentcall.models.http_chat import HTTPChat
    from agentcall.models.local_servers import find_api_key
    from agentcall.settings import ModelSettings

    settings = ModelSettings(temperature=temperature)
    return HTTPChat(HTTPEndpoint(url, find_api_key(url), tries=tries), model, settings=settings)


def _create_lmdeploy_model(name: str, tries: int) -> Model:
    from agentcall.models.local_servers import find_local_server

    server = find_local_server(name) if name else None
    url = server.url if server else "http://{}:{}/v1".format(*LMDEPLOY)
    return _create_http_model(url, server.model if server else name or None, tries, temperature=0.0)


def _detect_shorthand() -> str:
    """The shorthand of what there is: a live local LMDeploy, else the embedded model."""
    import socket

    try:
        with socket.create_connection(LMDEPLOY, timeout=0.25):
            return "lmdeploy:"
    except OSError:
        from agentcall.models.local_servers import find_local_server

        server = find_local_server("")
        return f"lmdeploy:{server.name}" if server else "embedded"


def _create_embedded_model(name: str | None) -> Model:
    from agentcall.dialects.constrained import ConstrainedDialect
    from agentcall.models.http_chat import HTTPChat
    from agentcall.models.local_servers import find_embedded_server
    from agentcall.settings import ModelSettings
    from agentcall_server.embedded_server import ensure

    server = find_embedded_server(name) or _start_embedded_server(ensure, name)
    return cast(
        "Model",
        HTTPChat(
            server.url,
            server.model,
            dialect=ConstrainedDialect(),
            settings=ModelSettings(temperature=0.0, max_tokens=1024),
        ),
    )


def _start_embedded_server(
    ensure: Callable[[str | None], EmbeddedServer], name: str | None
) -> EmbeddedServer:
    """The running embedded server; what keeps it from running, as an error of ours."""
    from agentcall_server.errors import RuntimeMissing, ServerError
    from agentcall_server.errors import UnknownModelName as Unknown

    try:
        return ensure(name)
    except RuntimeMissing as error:
        raise MissingExtra(str(error)) from error
    except Unknown as error:
        raise UnknownModel(str(error)) from error
    except ServerError as error:
        raise ModelUnreachable(str(error)) from error
