"""The HTTP side of a model: one server, reached over aiohttp.

aiohttp, because httpx's connection pool is quadratic in waiting requests and the official client
walks the whole history on every call (docs/performance.md). Rules:
1. One deadline covers a request from its first try to its last byte.
2. A request is tried again only as long as nothing of its answer was given away.
3. No key, user or password is in an error's text, not even where the server repeats it.

One aiohttp session an event loop, for all servers; closed when its loop shuts down.

A session cannot be shared between loops, and nobody is there to close it. So an async generator
holds it: `asyncio.run`, pytest-asyncio and `run_sync` close these at their loop's end. A loop that
was closed without that (`run_until_complete`, then `close`) is noticed when the next session is
made, or when the interpreter ends.
"""

from __future__ import annotations

import asyncio
import atexit
import random
from collections.abc import AsyncGenerator, Awaitable, Callable, Collection
from dataclasses import dataclass
from functools import lru_cache
from time import monotonic
from typing import TypeVar

import aiohttp

from agentcall.errors import (
    BadAnswer,
    CutAnswer,
    ModelError,
    ModelTimeout,
    ModelUnreachable,
    RateLimited,
)
from agentcall.messages import JSON
from agentcall.models.errors import (
    build_lost_node_error,
    build_not_json_error,
    is_lost_node,
    mask_secrets,
    parse_error_response,
    parse_retry_after,
)
from agentcall.models.stream import decode_json
from agentcall.models.url import (
    extract_url_secrets,
    format_authorization,
    join_url,
    parse_url,
    redact_url,
)

_KEEPALIVE_SECONDS = 4.0
"""Seconds: uvicorn, under LMDeploy and vLLM, closes an idle connection after five."""


@dataclass(frozen=True, slots=True)
class _PooledSession:
    session: aiohttp.ClientSession
    closer: AsyncGenerator[None, None]


_sessions: dict[asyncio.AbstractEventLoop, _PooledSession] = {}


async def get_shared_session() -> aiohttp.ClientSession:
    """The session of the running event loop."""
    loop = asyncio.get_running_loop()
    pooled = _sessions.get(loop)
    if pooled is None or pooled.session.closed:
        _drop_orphans()
        session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                limit=_get_connection_limit(),
                ttl_dns_cache=300,
                keepalive_timeout=_KEEPALIVE_SECONDS,
            ),
            cookie_jar=aiohttp.DummyCookieJar(),
            read_bufsize=2**18,
        )
        pooled = _sessions[loop] = _PooledSession(session, _close_with_loop(session, loop))
        await pooled.closer.__anext__()
    return pooled.session


async def _close_with_loop(
    session: aiohttp.ClientSession, loop: asyncio.AbstractEventLoop
) -> AsyncGenerator[None, None]:
    """Holds a session open until the loop closes its async generators, as it does at its end."""
    try:
        yield
    finally:
        _sessions.pop(loop, None)
        await session.close()


def _get_connection_limit() -> int:
    """How many connections we open at most: three quarters of the files we may have open."""
    try:
        from resource import RLIM_INFINITY, RLIMIT_NOFILE, getrlimit
    except ImportError:  # Windows has no such limit
        return 0
    files = getrlimit(RLIMIT_NOFILE)[0]
    return 0 if files == RLIM_INFINITY else max(64, files * 3 // 4)


def _drop_orphans() -> None:
    """Lets go of the sessions whose loop was closed under them."""
    for loop in list(_sessions):
        if loop.is_closed():
            session = _sessions.pop(loop).session
            connector = session.connector
            session.detach()
            if connector is not None:
                # Nothing can be awaited any more; the first step is all that needs no loop.
                next(connector.close().__await__(), None)


@atexit.register
def _close_remaining() -> None:
    """Closes the sessions of loops that nobody closed."""
    for loop, pooled in list(_sessions.items()):
        if not loop.is_running() and not loop.is_closed():
            loop.run_until_complete(pooled.closer.aclose())
    _drop_orphans()


MAX_BYTES = 64 * 1024 * 1024
"""Bytes of an answer beyond which it is refused."""

T = TypeVar("T")
_INITIAL_BACKOFF, _MAX_BACKOFF = 0.125, 8.0
_RETRYABLE_ERRORS = (ModelUnreachable, RateLimited)
_TRANSPORT_ERRORS = (aiohttp.ClientError, OSError, asyncio.TimeoutError)


@dataclass(frozen=True, slots=True, repr=False)
class HTTPEndpoint:
    """A server: its base URL (up to `/v1`), a key, and how patient we are.

    url: `http://host:port/v1`; a key may stand in it, as `address` says, and is taken out.
    api_key: sent as `Authorization: Bearer`, unless it names another scheme itself.
    timeout: seconds that one request may take from first try to last byte, retries and all.
    tries: how often a request is tried at most.
    max_bytes: the longest answer that is taken.
    """

    url: str
    api_key: str = ""
    timeout: float = 600.0
    tries: int = 4
    max_bytes: int = MAX_BYTES

    def __post_init__(self) -> None:
        parsed_url = parse_url(self.url)
        object.__setattr__(self, "url", parsed_url.url)
        object.__setattr__(self, "api_key", self.api_key.strip() or parsed_url.api_key)

    async def get(self, path: str) -> JSON:
        """The JSON at a path below the base URL, tried once. Raises ModelError."""
        return await self._request_json("GET", path, None, monotonic() + min(10.0, self.timeout))

    def post(self, path: str, body: bytes) -> Awaitable[JSON]:
        """The JSON answered to a body. Raises ModelError."""
        return self._run_with_retries(
            lambda deadline: self._request_json("POST", path, body, deadline)
        )

    async def stream(self, path: str, body: bytes) -> AsyncGenerator[bytes, None]:
        """The bytes answered to a body, as they arrive.

        Raises ModelError: CutAnswer if the connection breaks once the answer has begun.
        """
        response, data = await self._run_with_retries(
            lambda deadline: self._start_stream(path, body, deadline)
        )
        content, size = response.content, 0
        try:
            while data:
                size += len(data)
                if size > self.max_bytes:
                    raise self._build_too_long_error()
                yield data
                data = await content.readany()
        except _TRANSPORT_ERRORS as error:
            raise self._convert_cut(error) from _get_safe_cause(error)
        finally:
            response.release()  # keeps the connection if the answer was read to its end

    @property
    def display_url(self) -> str:
        """The URL without query, for messages."""
        return redact_url(self.url)

    @property
    def secrets(self) -> Collection[str]:
        """What no error may show: the key, and what stands in the URL's query."""
        return [self.api_key, *extract_url_secrets(self.url)]

    async def _run_with_retries(self, attempt: Callable[[float], Awaitable[T]]) -> T:
        """What an attempt gives, made again while failing may pass and there is time."""
        deadline = monotonic() + self.timeout
        try:
            return await attempt(deadline)
        except _RETRYABLE_ERRORS as error:
            return await self._retry(attempt, deadline, error)

    async def _retry(
        self, attempt: Callable[[float], Awaitable[T]], deadline: float, failure: ModelError
    ) -> T:
        """What a later attempt gives, the first having failed."""
        # imported here: most requests go well, and need none of it
        from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type

        failures = [failure]

        async def attempt_again() -> T:
            if failures:
                raise failures.pop()
            return await attempt(deadline)

        def compute_wait(state: RetryCallState) -> float:
            error = state.outcome.exception() if state.outcome else None
            return _compute_backoff(error, state.attempt_number)

        def should_stop(state: RetryCallState) -> bool:
            return (
                state.attempt_number >= self.tries or monotonic() + state.upcoming_sleep > deadline
            )

        again = retry_if_exception_type(_RETRYABLE_ERRORS)
        return await AsyncRetrying(retry=again, stop=should_stop, wait=compute_wait, reraise=True)(
            attempt_again
        )

    async def _start_stream(
        self, path: str, body: bytes, deadline: float
    ) -> tuple[aiohttp.ClientResponse, bytes]:
        """A stream, and the first that came of it."""
        response = await self._open_response("POST", path, body, deadline)
        try:
            data = await response.content.readany()
        except _TRANSPORT_ERRORS as error:
            response.release()
            raise self._convert_cut(error) from error
        except BaseException:
            response.release()
            raise
        if is_lost_node(data):
            response.release()
            raise mask_secrets(build_lost_node_error(data, self.display_url), self.secrets)
        return response, data

    async def _request_json(
        self, method: str, path: str, body: bytes | None, deadline: float
    ) -> JSON:
        began = monotonic()
        response = await self._open_response(method, path, body, deadline)
        try:
            data = await self._read_body(response)
        except _TRANSPORT_ERRORS as error:
            raise self._convert_error(error, deadline - began) from _get_safe_cause(error)
        finally:
            response.release()
        if is_lost_node(data):
            raise mask_secrets(build_lost_node_error(data, self.display_url), self.secrets)
        try:
            return decode_json(data)
        except ValueError:
            raise mask_secrets(build_not_json_error(data, self.display_url), self.secrets) from None

    async def _read_body(self, response: aiohttp.ClientResponse) -> bytes:
        content = response.content
        blocks: list[bytes] = []
        size = 0
        while not content.at_eof():
            blocks.append(await content.readany())
            size += len(blocks[-1])
            if size > self.max_bytes:
                raise self._build_too_long_error()
        return b"".join(blocks)

    async def _open_response(
        self, method: str, path: str, body: bytes | None, deadline: float
    ) -> aiohttp.ClientResponse:
        left = max(deadline - monotonic(), 0.001)
        timeout = _get_client_timeout(round(left, 2) or 0.001)
        headers = {"Content-Type": "application/json", "User-Agent": "agentcall"}
        if self.api_key:
            headers["Authorization"] = format_authorization(self.api_key)
        try:
            session = await get_shared_session()
            response = await session.request(
                method, join_url(self.url, path), data=body, headers=headers, timeout=timeout
            )
            if response.status < 400:
                return response
            raise await self._read_refusal(response)
        except _TRANSPORT_ERRORS as error:
            raise self._convert_error(error, left) from _get_safe_cause(error)

    async def _read_refusal(self, response: aiohttp.ClientResponse) -> ModelError:
        try:
            data = await response.content.read(65536)
        finally:
            response.release()
        wait = parse_retry_after(response.headers.get("Retry-After"))
        refused = parse_error_response(
            response.status, data, url=self.display_url, retry_after=wait
        )
        return mask_secrets(refused, self.secrets)

    def _convert_cut(self, error: Exception) -> ModelError:
        """What broke a stream that had begun, as an error of ours."""
        failure = self._convert_error(error, self.timeout)
        return CutAnswer(str(failure)) if isinstance(failure, ModelUnreachable) else failure

    def _build_too_long_error(self) -> BadAnswer:
        return BadAnswer(
            f"the answer of {self.display_url} is longer than {self.max_bytes} bytes; "
            "ask for less with max_tokens, or take more with max_bytes="
        )

    def _convert_error(self, error: Exception, seconds: float) -> ModelError:
        """What aiohttp raised, as an error of ours."""
        if isinstance(error, aiohttp.ConnectionTimeoutError) and self.timeout > 10:
            return ModelUnreachable(f"{self.display_url} does not take connections; is it running?")
        if isinstance(error, (asyncio.TimeoutError, TimeoutError)):
            return ModelTimeout(
                f"{self.display_url} gave no whole answer in {seconds:.3g} seconds; "
                "give it more with timeout=, or a smaller task"
            )
        if isinstance(error, aiohttp.ClientConnectorError):
            why = error.strerror or error
            return ModelUnreachable(
                f"no server answers at {self.display_url} ({why}); is it running?"
            )
        said = "a redirect leads nowhere" if isinstance(error, aiohttp.InvalidURL) else error
        said = getattr(error, "message", None) or said  # a ClientResponseError's str has the URL
        kind = type(error).__name__
        return ModelUnreachable(f"the connection to {self.display_url} broke: {kind}: {said}")

    def __repr__(self) -> str:
        return f"Endpoint({self.display_url!r})"


def _get_safe_cause(error: Exception) -> Exception | None:
    """The error as the cause of ours; not one whose own words have the URL with its secrets."""
    return None if isinstance(error, (aiohttp.ClientResponseError, aiohttp.InvalidURL)) else error


@lru_cache(maxsize=64)
def _get_client_timeout(seconds: float) -> aiohttp.ClientTimeout:
    """The limit of a request; most requests have the same, and making one takes its time."""
    return aiohttp.ClientTimeout(total=seconds, sock_connect=min(10.0, seconds))


def _compute_backoff(failure: BaseException | None, failures: int) -> float:
    """Seconds until the next try: what the server asks for, else a random time that doubles."""
    if isinstance(failure, RateLimited) and failure.retry_after is not None:
        return failure.retry_after
    return random.uniform(0, min(_INITIAL_BACKOFF * 2**failures, _MAX_BACKOFF))  # noqa: S311 - no secret
