"""HTTP requests to a model server, over aiohttp.

aiohttp is used because httpx's connection pool is quadratic in waiting requests, and the official
client walks the whole history on every call (docs/performance.md). Rules:

1. One deadline covers a request from its first attempt to its last byte.
2. A request is retried only until a part of its answer has been passed on.
3. No error message contains a key, user name or password, even if the server echoes it.

There is one aiohttp session per event loop, shared by all servers. A session cannot be used by two
loops, and no caller is responsible for closing it, so an async generator owns it: `asyncio.run`,
pytest-asyncio and `run_sync` close their loop's generators when the loop ends. A session whose loop
was closed without that (`run_until_complete`, then `close`) is cleaned up when the next session is
created, or at interpreter exit.
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
from agentcall.models.response_reader import decode_json
from agentcall.models.url import (
    extract_url_secrets,
    format_authorization,
    join_url,
    parse_url,
    redact_url,
)

_KEEPALIVE_SECONDS = 4.0
"""Must be below 5: uvicorn, under LMDeploy and vLLM, closes an idle connection after 5 seconds."""


@dataclass(frozen=True, slots=True)
class _PooledSession:
    session: aiohttp.ClientSession
    closer: AsyncGenerator[None, None]


_sessions: dict[asyncio.AbstractEventLoop, _PooledSession] = {}


async def get_shared_session() -> aiohttp.ClientSession:
    """Return the session of the running event loop; create it when it is first needed."""
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
    """Keep a session open until the loop closes its async generators."""
    try:
        yield
    finally:
        _sessions.pop(loop, None)
        await session.close()


def _get_connection_limit() -> int:
    """Return the maximum of open connections: three quarters of the limit of open files."""
    try:
        from resource import RLIM_INFINITY, RLIMIT_NOFILE, getrlimit
    except ImportError:  # Windows has no such limit
        return 0
    files = getrlimit(RLIMIT_NOFILE)[0]
    return 0 if files == RLIM_INFINITY else max(64, files * 3 // 4)


def _drop_orphans() -> None:
    """Release the sessions whose event loop was closed before they were."""
    for loop in list(_sessions):
        if loop.is_closed():
            session = _sessions.pop(loop).session
            connector = session.connector
            session.detach()
            if connector is not None:
                # Nothing can be awaited without a loop: run only the first step, which closes the
                # sockets.
                next(connector.close().__await__(), None)


@atexit.register
def _close_remaining() -> None:
    """Close the sessions of loops that are still open at exit."""
    for loop, pooled in list(_sessions.items()):
        if not loop.is_running() and not loop.is_closed():
            loop.run_until_complete(pooled.closer.aclose())
    _drop_orphans()


MAX_BYTES = 64 * 1024 * 1024
"""Default limit for the size of an answer, in bytes."""

T = TypeVar("T")
_INITIAL_BACKOFF, _MAX_BACKOFF = 0.125, 8.0
_RETRYABLE_ERRORS = (ModelUnreachable, RateLimited)
_TRANSPORT_ERRORS = (aiohttp.ClientError, OSError, asyncio.TimeoutError)


@dataclass(frozen=True, slots=True, repr=False)
class HTTPEndpoint:
    """A model server: its base URL, an API key, and limits for each request.

    url: `http://host:port/v1`; credentials in it (see `parse_url`) are moved to `api_key`.
    api_key: sent as `Authorization: Bearer`, unless it names another scheme itself.
    timeout: seconds for one request from its first attempt to its last byte, retries included.
    tries: maximum number of attempts.
    max_bytes: maximum size of an answer.
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
        """Return the JSON at a path below the base URL; one attempt. Raises ModelError."""
        return await self._request_json("GET", path, None, monotonic() + min(10.0, self.timeout))

    def post(self, path: str, body: bytes) -> Awaitable[JSON]:
        """Post a body and return the JSON answer. Raises ModelError."""
        return self._run_with_retries(
            lambda deadline: self._request_json("POST", path, body, deadline)
        )

    async def stream(self, path: str, body: bytes) -> AsyncGenerator[bytes, None]:
        """Post a body and yield the bytes of the answer as they arrive.

        Raises ModelError; it is CutAnswer if the connection breaks after the answer has begun.
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
            response.release()  # the connection is reused if the answer was read to its end

    @property
    def display_url(self) -> str:
        """The URL without its query, for messages."""
        return redact_url(self.url)

    @property
    def secrets(self) -> Collection[str]:
        """The API key and the secrets in the URL, which no error may contain."""
        return [self.api_key, *extract_url_secrets(self.url)]

    async def _run_with_retries(self, attempt: Callable[[float], Awaitable[T]]) -> T:
        """Await an attempt, and repeat it after transient errors until the deadline."""
        deadline = monotonic() + self.timeout
        failures = 0
        while True:
            try:
                return await attempt(deadline)
            except _RETRYABLE_ERRORS as error:
                failures += 1
                seconds = _compute_backoff(error, failures)
                if failures >= self.tries or monotonic() + seconds > deadline:
                    raise
            await asyncio.sleep(seconds)

    async def _start_stream(
        self, path: str, body: bytes, deadline: float
    ) -> tuple[aiohttp.ClientResponse, bytes]:
        """Open a stream and read its first bytes, which may be an error under HTTP 200."""
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
        seconds = max(deadline - monotonic(), 0.001)
        timeout = _get_client_timeout(round(seconds, 2) or 0.001)
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
            raise await self._read_error(response)
        except _TRANSPORT_ERRORS as error:
            raise self._convert_error(error, seconds) from _get_safe_cause(error)

    async def _read_error(self, response: aiohttp.ClientResponse) -> ModelError:
        try:
            data = await response.content.read(65536)
        finally:
            response.release()
        retry_after = parse_retry_after(response.headers.get("Retry-After"))
        error = parse_error_response(
            response.status, data, url=self.display_url, retry_after=retry_after
        )
        return mask_secrets(error, self.secrets)

    def _convert_cut(self, error: Exception) -> ModelError:
        """Convert an error that broke a stream after its beginning."""
        failure = self._convert_error(error, self.timeout)
        return CutAnswer(str(failure)) if isinstance(failure, ModelUnreachable) else failure

    def _build_too_long_error(self) -> BadAnswer:
        return BadAnswer(
            f"the answer of {self.display_url} is longer than {self.max_bytes} bytes; "
            "ask for less with max_tokens, or raise the limit with max_bytes="
        )

    def _convert_error(self, error: Exception, seconds: float) -> ModelError:
        """Convert an error of aiohttp to a ModelError."""
        # Below 10 seconds the connection limit is the whole timeout: see _get_client_timeout.
        if isinstance(error, aiohttp.ConnectionTimeoutError) and self.timeout > 10:
            return ModelUnreachable(
                f"{self.display_url} does not accept connections; is it running?"
            )
        if isinstance(error, (asyncio.TimeoutError, TimeoutError)):
            return ModelTimeout(
                f"{self.display_url} gave no complete answer in {seconds:.3g} seconds; "
                "give it more time with timeout=, or a smaller task"
            )
        if isinstance(error, aiohttp.ClientConnectorError):
            reason = error.strerror or error
            return ModelUnreachable(
                f"no server answers at {self.display_url} ({reason}); is it running?"
            )
        if isinstance(error, aiohttp.InvalidURL):
            message: object = "a redirect points to an invalid URL"
        else:  # the str() of a ClientResponseError contains the URL, its message does not
            message = getattr(error, "message", None) or error
        kind = type(error).__name__
        return ModelUnreachable(f"the connection to {self.display_url} broke: {kind}: {message}")

    def __repr__(self) -> str:
        return f"HTTPEndpoint({self.display_url!r})"


def _get_safe_cause(error: Exception) -> Exception | None:
    """Return the error, or None if its message contains the URL with its secrets."""
    return None if isinstance(error, (aiohttp.ClientResponseError, aiohttp.InvalidURL)) else error


@lru_cache(maxsize=64)
def _get_client_timeout(seconds: float) -> aiohttp.ClientTimeout:
    """Return aiohttp's timeout; cached, as most requests have the same and creating it is slow."""
    return aiohttp.ClientTimeout(total=seconds, sock_connect=min(10.0, seconds))


def _compute_backoff(error: ModelError, failures: int) -> float:
    """Return the seconds to wait: the server's Retry-After, else exponential with full jitter."""
    if isinstance(error, RateLimited) and error.retry_after is not None:
        return error.retry_after
    return random.uniform(0, min(_INITIAL_BACKOFF * 2**failures, _MAX_BACKOFF))  # noqa: S311 - no secret
