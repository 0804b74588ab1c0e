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
from agentcall.models.address import place, with_v1

if TYPE_CHECKING:
    from agentcall.models.balance import Balanced
    from agentcall.models.protocol import Answer, Model, Request
    from agentcall_server.embedded import EmbeddedServer

LMDEPLOY = ("127.0.0.1", 23333)
"""Where LMDeploy's api_server listens by default."""


Named: TypeAlias = "Model | str | Sequence[Model | str]"
"""A model, its shorthand, or several of them that serve the same model."""

_ALONE, _AMONG_OTHERS = 4, 1
"""How often a request is tried on a server: once, where another server can be asked instead."""

_COMMA = re.compile(r"\s*,\s*(?=https?:|lmdeploy\b|embedded\b)")
"""Between two shorthands; the name of a model may hold commas of its own."""


def model_from(named: Named | None) -> Model:
    """The model that is meant. Raises UnknownModel, UsageError."""
    if named is None:
        return _Late(lambda: model_from(os.environ.get("AGENTCALL_MODEL") or _found()))
    if isinstance(named, str):
        several = parted(named)
        return _one(named, _ALONE) if len(several) == 1 else _balanced(several)
    return _balanced(named) if isinstance(named, Sequence) else named


def place_of(named: Named | None) -> str:
    """What is meant, to be shown: shorthands without the secrets of their URLs."""
    if isinstance(named, str):
        return ", ".join(repr(place(one)) for one in parted(named))
    if isinstance(named, Sequence):
        return f"[{', '.join(map(place_of, named))}]"
    return repr(named)


def made_of(model: Model) -> Model | None:
    """The model that a shorthand has become; None before it was first asked."""
    return model.made if isinstance(model, _Late) else model


def parted(shorthand: str) -> list[str]:
    """The shorthands that a text with commas between them holds; mostly one."""
    return _COMMA.split(shorthand.strip())


def _balanced(nodes: Sequence[Model | str]) -> Balanced:
    from agentcall.models.balance import Balanced

    each = (_one(node, _AMONG_OTHERS) if isinstance(node, str) else node for node in nodes)
    return Balanced(*each)


def _one(shorthand: str, tries: int) -> Model:
    kind, _, rest = shorthand.partition(":")
    if kind in ("http", "https"):
        url, _, model = shorthand.partition("#")
        url = with_v1(url)
        return _Late(lambda: _http(url, model or None, tries))
    if kind == "lmdeploy":
        return _Late(lambda: _lmdeploy(rest, tries))
    if kind == "embedded":
        return _Late(lambda: _embedded(rest or None))
    raise UnknownModel(
        f"{place(shorthand)!r} names no model; use lmdeploy:NAME, http://host:port/v1, "
        "http://host:port/v1#NAME, embedded, or embedded:NAME"
    )


class _Late:
    """A model that is made when it is first asked, once, however many ask at the same time."""

    def __init__(self, make: Callable[[], Model]) -> None:
        self._make = make
        self._lock = threading.Lock()
        self._model: Model | None = None

    @property
    def made(self) -> Model | None:
        model = self._model
        return None if model is None else made_of(model)

    def ask(self, request: Request) -> AsyncIterator[Answer]:
        model = self._model
        return self._first(request) if model is None else model.ask(request)

    @property
    def secrets(self) -> Collection[str]:
        from agentcall.models.protocol import secrets_of

        return () if self._model is None else secrets_of([self._model])

    async def _first(self, request: Request) -> AsyncIterator[Answer]:
        # Starting the embedded model takes seconds and its download minutes.
        import asyncio  # a loop runs, so it is there

        model = await asyncio.to_thread(self._made)
        async for part in model.ask(request):
            yield part

    def _made(self) -> Model:
        with self._lock:
            if self._model is None:
                self._model = self._make()
            return self._model


def _http(url: str, model: str | None, tries: int, temperature: float | None = None) -> Model:
    from agentcall.models.endpoint import Endpoint
    from agentcall.models.http_chat import HTTPChat
    from agentcall.models.launched import api_key
    from agentcall.models.protocol import Settings

    settings = Settings(temperature=temperature)
    return HTTPChat(Endpoint(url, api_key(url), tries=tries), model, settings=settings)


def _lmdeploy(name: str, tries: int) -> Model:
    from agentcall.models.launched import launched

    place = launched(name) if name else None
    url = place.url if place else "http://{}:{}/v1".format(*LMDEPLOY)
    return _http(url, place.model if place else name or None, tries, temperature=0.0)


def _found() -> str:
    """The shorthand of what there is: a live local LMDeploy, else the embedded model."""
    import socket

    try:
        with socket.create_connection(LMDEPLOY, timeout=0.25):
            return "lmdeploy:"
    except OSError:
        from agentcall.models.launched import launched

        place = launched("")
        return f"lmdeploy:{place.name}" if place else "embedded"


def _embedded(name: str | None) -> Model:
    from agentcall.dialects.constrained import Constrained
    from agentcall.models.http_chat import HTTPChat
    from agentcall.models.launched import launched_embedded
    from agentcall.models.protocol import Settings
    from agentcall_server.embedded import ensure

    server = launched_embedded(name) or _started(ensure, name)
    return cast(
        "Model",
        HTTPChat(
            server.url,
            server.model,
            dialect=Constrained(),
            settings=Settings(temperature=0.0, max_tokens=1024),
        ),
    )


def _started(ensure: Callable[[str | None], EmbeddedServer], name: str | None) -> EmbeddedServer:
    """The running embedded server; what keeps it from running, as an error of ours."""
    from agentcall_server.errors import RuntimeMissing, ServerError
    from agentcall_server.errors import UnknownModel as Unknown

    try:
        return ensure(name)
    except RuntimeMissing as error:
        raise MissingExtra(str(error)) from error
    except Unknown as error:
        raise UnknownModel(str(error)) from error
    except ServerError as error:
        raise ModelUnreachable(str(error)) from error
