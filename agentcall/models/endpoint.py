"""The HTTP side of a model: one server, reached over aiohttp.

aiohttp, because httpx's connection pool is quadratic in waiting requests and the official client
walks the whole history on every call (docs/performance.md). One session an event loop serves all
servers, and is closed when its loop shuts down.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from time import monotonic
from typing import TypeVar, cast
from urllib.parse import urlsplit, urlunsplit
from weakref import WeakKeyDictionary

import aiohttp
import orjson
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type, wait_random_exponential

from agentcall.errors import BadAnswer, ModelError, ModelTimeout, ModelUnreachable, RateLimited
from agentcall.messages import JSON
from agentcall.models.completion import excerpt
from agentcall.models.refusal import refusal, retry_after_of

MAX_BODY = 64 * 1024 * 1024
"""Bytes of an answer beyond which it is refused."""

T = TypeVar("T")
_JITTER = wait_random_exponential(multiplier=0.25, max=8)
_RETRIED = retry_if_exception_type((ModelUnreachable, RateLimited))
_sessions: WeakKeyDictionary[
    asyncio.AbstractEventLoop, tuple[aiohttp.ClientSession, AsyncGenerator[None, None]]
] = WeakKeyDictionary()


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A server: its base URL (up to `/v1`), a key, and how patient we are.

    `timeout` is the seconds that one request may take from first try to last byte, retries and
    all; `tries` is how often it is tried at most.
    """

    url: str
    api_key: str = ""
    timeout: float = 600.0
    tries: int = 4

    async def get(self, path: str) -> JSON:
        """The JSON at a path below the base URL, tried once. Raises ModelError."""
        return await self._whole("GET", path, None, monotonic() + min(10.0, self.timeout))

    async def post(self, path: str, body: bytes) -> JSON:
        """The JSON answered to a body. Raises ModelError."""
        return await self._tried(lambda deadline: self._whole("POST", path, body, deadline))

    async def stream(self, path: str, body: bytes) -> aiohttp.ClientResponse:
        """A response with a good status, to be read by `chunks`. Raises ModelError."""
        return await self._tried(lambda deadline: self._opened("POST", path, body, deadline))

    async def chunks(self, response: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
        """The bytes of a response as they arrive. Raises ModelError when it breaks."""
        size = 0
        with self._translated():
            async for data in response.content.iter_any():
                size += len(data)
                if size > MAX_BODY:
                    raise BadAnswer(f"the answer of {self.place} is longer than {MAX_BODY} bytes")
                yield data

    @property
    def place(self) -> str:
        """The URL without user, password and query, for messages."""
        parts = urlsplit(self.url)
        host = parts.netloc.rpartition("@")[2]
        return urlunsplit((parts.scheme, host, parts.path, "", ""))

    async def _tried(self, attempt: Callable[[float], Awaitable[T]]) -> T:
        """What an attempt gives, made again while failing may pass and there is time."""
        deadline = monotonic() + self.timeout

        def enough(state: RetryCallState) -> bool:
            return state.attempt_number >= self.tries or monotonic() + _wait(state) > deadline

        retrying = AsyncRetrying(retry=_RETRIED, stop=enough, wait=_wait, reraise=True)
        async def once() -> T:
            return await attempt(deadline)

        return await retrying(once)

    async def _whole(self, method: str, path: str, body: bytes | None, deadline: float) -> JSON:
        response = await self._opened(method, path, body, deadline)
        async with response:
            data = b"".join([data async for data in self.chunks(response)])
        return decoded(data, self.place)

    async def _opened(
        self, method: str, path: str, body: bytes | None, deadline: float
    ) -> aiohttp.ClientResponse:
        left = max(deadline - monotonic(), 0.001)
        timeout = aiohttp.ClientTimeout(total=left, sock_connect=min(10.0, left))
        with self._translated():
            session = await shared_session()
            response = await session.request(
                method, self.url + path, data=body, headers=self._headers(), timeout=timeout
            )
        if response.status < 400:
            return response
        async with response:
            raise await self._refused(response)

    def _headers(self) -> dict[str, str]:
        headers = {"Content-Type": "application/json"}
        if self.api_key:
            headers["Authorization"] = f"Bearer {self.api_key}"
        return headers

    async def _refused(self, response: aiohttp.ClientResponse) -> ModelError:
        with self._translated():
            data = await response.content.read(65536)
        try:
            body: JSON | str = cast("JSON", orjson.loads(data))
        except ValueError:
            body = data.decode("utf-8", "replace")
        wait = retry_after_of(response.headers.get("Retry-After"))
        return refusal(response.status, body, url=self.place, retry_after=wait)

    @contextmanager
    def _translated(self) -> Iterator[None]:
        """Turns what aiohttp raises into our errors."""
        try:
            yield
        except (asyncio.TimeoutError, TimeoutError) as error:
            raise ModelTimeout(
                f"{self.place} gave no whole answer in {self.timeout:g} seconds; "
                "give it more with timeout=, or a smaller task"
            ) from error
        except aiohttp.InvalidURL as error:
            raise ModelError(f"{self.url!r} is not a URL; use http://host:port/v1") from error
        except aiohttp.ClientConnectorError as error:
            raise ModelUnreachable(
                f"no server answers at {self.place} ({error.strerror or error}); is it running?"
            ) from error
        except (aiohttp.ClientError, OSError) as error:
            raise ModelUnreachable(
                f"the connection to {self.place} broke: {type(error).__name__}: {error}"
            ) from error


def decoded(data: bytes, place: str) -> JSON:
    """The JSON of a body. Raises BadAnswer."""
    try:
        return cast("JSON", orjson.loads(data))
    except ValueError:
        text = data[:1024].decode("utf-8", "replace")
        raise BadAnswer(
            f"{place} did not answer with JSON: {excerpt(text) or '(nothing)'}; "
            "is the base URL right? It usually ends in /v1"
        ) from None


def _wait(state: RetryCallState) -> float:
    """Seconds until the next try: what the server asks for, else a random time that doubles."""
    failure = state.outcome.exception() if state.outcome else None
    if isinstance(failure, RateLimited) and failure.retry_after is not None:
        return failure.retry_after
    return _JITTER(state)


async def shared_session() -> aiohttp.ClientSession:
    """The session of the running event loop."""
    loop = asyncio.get_running_loop()
    held = _sessions.get(loop)
    if held is None or held[0].closed:
        session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, ttl_dns_cache=300),
            cookie_jar=aiohttp.DummyCookieJar(),
            read_bufsize=2**18,
        )
        held = _sessions[loop] = (session, _kept(session))
        await held[1].__anext__()
    return held[0]


async def _kept(session: aiohttp.ClientSession) -> AsyncGenerator[None, None]:
    """Holds a session open until the loop closes its async generators, as it does at its end."""
    try:
        yield
    finally:
        await session.close()
