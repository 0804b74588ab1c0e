"""A running LMDeploy whose model speaks by script: what it will say, and what it was asked."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Literal
from urllib.error import HTTPError
from urllib.request import ProxyHandler, Request, build_opener

from pydantic import TypeAdapter

Finish = Literal["stop", "length", "cancelled"]


@dataclass(frozen=True, slots=True)
class Reply:
    """What the model says to one request, special tokens spelled out."""

    text: str
    match: str | None = None
    """Wait for a request whose prompt this regular expression is found in."""
    chunk: int = 1
    """Tokens per engine step."""
    delay: float = 0.0
    """Seconds before each engine step."""
    eos: bool = True
    """End the turn; if not, the reply ends as one cut by length does."""
    cached_tokens: int = 0
    """Prompt tokens reported as found in the prefix cache (0.18.0)."""
    status: str | None = None
    """Fail after the text, with this `lmdeploy.messages.ResponseType`."""
    repeat: bool = False
    """Say it to every request."""


@dataclass(frozen=True, slots=True)
class Picture:
    """An image as the engine gets it."""

    size: tuple[int, int]
    tokens: int
    pixels: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Record:
    """One request as the model saw it."""

    prompt: str
    prompt_tokens: int
    reply: str
    finish: Finish
    generation: Mapping[str, object]
    """LMDeploy's final generation config; stop ids are `stop_token_ids`, in 0.5.3 `stop_words`."""
    grammar_ok: bool | str | None
    """Whether guided decoding would have allowed the reply; None if it was off, or its error."""
    images: tuple[Picture, ...] = ()
    """The images of the prompt (0.18.0)."""

    @property
    def is_probe(self) -> bool:
        """A request for one token, which takes no reply from the script."""
        return self.generation["max_new_tokens"] == 1


@dataclass(frozen=True, slots=True)
class _State:
    records: list[Record]
    pending: int


@dataclass(frozen=True, slots=True)
class Response:
    """A plain HTTP response, whatever its status."""

    status: int
    body: bytes


@dataclass(frozen=True, slots=True)
class Stand:
    """A running server. Replies are played first in, first out; with none left it says `OK.`."""

    name: str
    version: str
    url: str
    """The address of the API, ending in `/v1`."""
    control: str
    """The address of the control port, which is no part of LMDeploy."""

    def script(self, replies: Iterable[str | Reply]) -> None:
        """Add what the model will say to the next requests."""
        spoken = [Reply(reply) if isinstance(reply, str) else reply for reply in replies]
        exchange(f"{self.control}/script", [asdict(reply) for reply in spoken])

    def records(self) -> list[Record]:
        """Every request since the last reset, probes included."""
        return self._state().records

    def pending(self) -> int:
        """How many scripted replies no request has taken."""
        return self._state().pending

    def reset(self) -> None:
        """Forget script and records."""
        exchange(f"{self.control}/reset", [])

    def _state(self) -> _State:
        return TypeAdapter(_State).validate_json(exchange(f"{self.control}/records").body)


_OPENER = build_opener(ProxyHandler({}))


def exchange(url: str, payload: object = None) -> Response:
    """GET the address, or POST the payload to it as JSON. Raises OSError if nobody answers."""
    body = None if payload is None else TypeAdapter(object).dump_json(payload)
    request = Request(url, data=body, headers={"content-type": "application/json"})
    try:
        with _OPENER.open(request, timeout=60) as response:
            return Response(response.status, response.read())
    except HTTPError as error:
        with error:
            return Response(error.code, error.read())
