"""HTTP requests to a model server, over aiohttp.

aiohttp is used because httpx's connection pool is quadratic in waiting requests, and the official
client walks the whole history on every call (docs/performance.md). Rules:

1. One deadline covers a request from its first attempt to its last byte.
2. A request is retried only until a part of its answer has been passed on.
3. No error message contains a key, user name or password, even if the server echoes it.
4. A redirect is followed only within the server, and only if the request stays the same: a POST
   that becomes a GET is an error that names the target, and a key is sent to no other server.

There is one aiohttp session per event loop, shared by all servers. A session cannot be used by two
loops, and no caller is responsible for closing it, so an async generator owns it: `asyncio.run`,
pytest-asyncio and `run_sync` close their loop's generators when the loop ends. A session whose loop
was closed without that (`run_until_complete`, then `close`) is cleaned up when the next session is
created, or at interpreter exit.
"""

from __future__ import annotations

import asyncio
import atexit
import logging
import os
import random
from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from os import PathLike
from ssl import SSLContext, create_default_context
from time import monotonic
from typing import TypeVar, cast
from urllib.parse import urljoin

import aiohttp

from agentcall.display import to_single_line
from agentcall.errors import (
    BadAnswer,
    CutAnswer,
    ModelError,
    ModelRefused,
    ModelTimeout,
    ModelUnreachable,
    RateLimited,
    UsageError,
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
from agentcall.models.event_stream import decode_answer
from agentcall.models.http_proxy import find_proxy
from agentcall.models.server_programs import explain_no_server
from agentcall.models.url import (
    build_headers,
    extract_named_secrets,
    extract_url_secrets,
    is_same_server,
    join_url,
    parse_url,
    redact_url,
)

_KEEPALIVE_SECONDS = 4.0
"""Must be below 5: uvicorn, under LMDeploy and vLLM, closes an idle connection after 5 seconds."""
_MAX_HEADER_BYTES = 2**17
_MAX_REDIRECTS = 5


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
            # Gateways send policies and traces in headers of more than aiohttp's 8 kB.
            max_line_size=_MAX_HEADER_BYTES,
            max_field_size=_MAX_HEADER_BYTES,
            max_headers=1024,
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


MAX_ERROR_BYTES = 1024 * 1024
"""How much of an error's body is read: it may contain an answer that the server cannot parse."""
MAX_BYTES = 64 * 1024 * 1024
"""Default limit for the size of an answer, in bytes."""

_log = logging.getLogger("agentcall.models")

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
    proxy: the URL of an HTTP proxy, with its credentials; None selects that of the environment
        (`agentcall.models.http_proxy`), "" none.
    headers: sent with each request, in addition to or instead of the usual ones.
    ssl: the certificates to accept: those of the system, or of a file of CA certificates (PEM), or
        any if False; or an `ssl.SSLContext`, such as one with a client certificate.
    program: the program that a shorthand named, such as "ollama"; errors say how to start it.

    Raises UsageError for a URL, key, header, proxy or file that cannot be used.
    """

    url: str
    api_key: str = ""
    timeout: float = 600.0
    tries: int = 4
    max_bytes: int = MAX_BYTES
    proxy: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict[str, str], hash=False)
    ssl: SSLContext | bool | str | PathLike[str] = True
    program: str = ""
    _proxy: str = field(init=False, default="", compare=False)
    _headers: Mapping[str, str] = field(init=False, default_factory=dict[str, str], compare=False)

    def __post_init__(self) -> None:
        _check_options(self.timeout, self.headers, self.proxy)
        parsed_url = parse_url(self.url)
        api_key = self.api_key.strip() or parsed_url.api_key
        object.__setattr__(self, "url", parsed_url.url)
        object.__setattr__(self, "api_key", api_key)
        object.__setattr__(self, "ssl", _load_certificates(self.ssl))
        object.__setattr__(self, "_proxy", find_proxy(parsed_url.url, self.proxy))
        object.__setattr__(self, "_headers", build_headers(api_key, self.headers))

    async def get(self, path: str) -> JSON:
        """Return the JSON at a path below the base URL; one attempt. Raises ModelError."""
        return self._decode(await self.get_bytes(path))

    async def get_bytes(self, path: str) -> bytes:
        """Return the page at a path below the base URL; one attempt. Raises ModelError."""
        return await self._request("GET", path, None, monotonic() + min(10.0, self.timeout))

    def post(self, path: str, body: bytes) -> Awaitable[JSON]:
        """Post a body and return the JSON answer. Raises ModelError."""
        return self._run_with_retries(lambda deadline: self._post_json(path, body, deadline))

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
        """The API key, and the secrets in the URLs and headers, which no error may contain."""
        return [
            self.api_key,
            *extract_url_secrets(self.url),
            *extract_url_secrets(self._proxy),
            *extract_named_secrets(self.headers.items()),
        ]

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
                _log.warning(
                    "trying again in %.1f seconds: %s", seconds, to_single_line(str(error))
                )
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

    async def _post_json(self, path: str, body: bytes, deadline: float) -> JSON:
        return self._decode(await self._request("POST", path, body, deadline))

    async def _request(self, method: str, path: str, body: bytes | None, deadline: float) -> bytes:
        began = monotonic()
        response = await self._open_response(method, path, body, deadline)
        try:
            return await self._read_body(response)
        except _TRANSPORT_ERRORS as error:
            raise self._convert_error(error, deadline - began) from _get_safe_cause(error)
        finally:
            response.release()

    def _decode(self, data: bytes) -> JSON:
        if is_lost_node(data):
            raise mask_secrets(build_lost_node_error(data, self.display_url), self.secrets)
        try:
            return decode_answer(data)
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
        url, status = join_url(self.url, path), 0
        try:
            for _ in range(_MAX_REDIRECTS):
                response = await self._send(method, url, body, deadline)
                if response.status < 300:
                    return response
                if not (response.status < 400 and "Location" in response.headers):
                    raise await self._read_error(response)
                url, status = self._resolve_redirect(response, method, path, url), response.status
        except _TRANSPORT_ERRORS as error:
            raise self._convert_error(error, seconds) from _get_safe_cause(error)
        raise ModelRefused(f"{self.display_url} redirects in a circle", status=status)

    async def _send(
        self, method: str, url: str, body: bytes | None, deadline: float
    ) -> aiohttp.ClientResponse:
        seconds = max(deadline - monotonic(), 0.001)
        session = await get_shared_session()
        return await session.request(
            method,
            url,
            data=body,
            headers=self._headers,
            timeout=_get_client_timeout(round(seconds, 2) or 0.001),
            allow_redirects=False,
            proxy=self._proxy or None,
            ssl=self.ssl,
        )

    def _resolve_redirect(
        self, response: aiohttp.ClientResponse, method: str, path: str, url: str
    ) -> str:
        """Return the target of a redirect. Raises ModelRefused if it may not be followed."""
        response.release()
        target = urljoin(url, response.headers["Location"].strip())
        is_unchanged = method == "GET" or response.status in (307, 308)
        if is_unchanged and is_same_server(url, target):
            return target
        shown = redact_url(target).removesuffix(path)
        error = ModelRefused(
            f"{self.display_url} redirects to {shown} (HTTP {response.status}), where the request "
            "cannot follow; if that is the server, use it as the base URL",
            status=response.status,
        )
        raise mask_secrets(error, self.secrets)

    async def _read_error(self, response: aiohttp.ClientResponse) -> ModelError:
        try:
            data = await _read_start(response.content, MAX_ERROR_BYTES)
        finally:
            response.release()
        retry_after = parse_retry_after(response.headers.get("Retry-After"))
        url = f"{self.display_url}{self._format_proxy()}"
        error = parse_error_response(response.status, data, url=url, retry_after=retry_after)
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
        through = self._format_proxy()
        # Below 10 seconds the connection limit is the whole timeout: see _get_client_timeout.
        if isinstance(error, aiohttp.ConnectionTimeoutError) and self.timeout > 10:
            return ModelUnreachable(
                f"{self.display_url} does not accept connections{through}; is it running?"
            )
        if isinstance(error, (asyncio.TimeoutError, TimeoutError)):
            return ModelTimeout(
                f"{self.display_url} gave no complete answer in {seconds:.3g} seconds{through}; "
                "give it more time with timeout=, or a smaller task"
            )
        if isinstance(error, aiohttp.ClientConnectorError):
            return ModelUnreachable(self._explain_no_connection(error))
        if isinstance(error, aiohttp.ClientHttpProxyError):
            return ModelUnreachable(
                f"the proxy {redact_url(self._proxy)} refuses the connection to "
                f"{self.display_url}: {error.status} {error.message}; check its credentials "
                "(http://user:password@host:port), or name the server in NO_PROXY"
            )
        if isinstance(error, aiohttp.InvalidURL):
            message: object = "a redirect points to an invalid URL"
        else:  # the str() of a ClientResponseError contains the URL, its message does not
            message = getattr(error, "message", None) or error
        kind = type(error).__name__
        return ModelUnreachable(
            f"the connection to {self.display_url}{through} broke: {kind}: {message}"
        )

    def _format_proxy(self) -> str:
        return f" through the proxy {redact_url(self._proxy)}" if self._proxy else ""

    def _explain_no_connection(self, error: aiohttp.ClientConnectorError) -> str:
        match error:
            case aiohttp.ClientProxyConnectionError():
                return (
                    f"the proxy {redact_url(self._proxy)} does not answer ({error.strerror}); "
                    "check proxy=, HTTP_PROXY and HTTPS_PROXY, or name the host of "
                    f"{self.display_url} in NO_PROXY"
                )
            case aiohttp.ClientConnectorCertificateError():
                reason = getattr(error.certificate_error, "verify_message", "") or error
                return (
                    f"the certificate of {self.display_url} is not trusted ({reason}); give the "
                    "file of its CA as ssl= or SSL_CERT_FILE, or ssl=False to accept any"
                )
            case aiohttp.ClientConnectorSSLError():
                reason = str(getattr(error, "reason", "") or error)
                return (
                    f"no TLS connection to {self.display_url} is possible ({reason}); if the "
                    "server does not use TLS, write http:// instead of https://"
                )
            case _:
                number = error.os_error.errno or 0
                # asyncio's own words are "Connect call failed ('127.0.0.1', 80)".
                reason = os.strerror(number) if number > 0 else error.strerror or error
                question = "is it running?"
                if self.program:
                    question = explain_no_server(self.program, self.url)
                return f"no server answers at {self.display_url} ({reason}); {question}"

    def __repr__(self) -> str:
        return f"HTTPEndpoint({self.display_url!r})"


def _check_options(timeout: object, headers: object, proxy: object) -> None:
    """Raise UsageError for an option of another type; it does not show what may be a secret."""
    if not (isinstance(timeout, (int, float)) and timeout > 0):
        raise UsageError(f"timeout={timeout!r}: it has to be above 0 (seconds)")
    is_mapping = isinstance(headers, Mapping)
    values = cast("Mapping[str, object]", headers).values() if is_mapping else (None,)
    if not all(isinstance(value, str) for value in values):
        raise UsageError("headers= has to be a mapping of header names to texts")
    if not isinstance(proxy, (str, type(None))):
        raise UsageError("proxy= has to be a text, http://host:port, or None")


def _load_certificates(ssl: SSLContext | bool | str | PathLike[str]) -> SSLContext | bool:
    """Return the context for a file of CA certificates. Raises UsageError."""
    if isinstance(ssl, (SSLContext, bool)):
        return ssl
    try:
        return create_default_context(cafile=ssl)
    except (OSError, TypeError) as error:  # SSLError too
        raise UsageError(
            f"ssl={str(ssl)!r} is not a file of CA certificates in PEM format: {error}"
        ) from error


async def _read_start(content: aiohttp.StreamReader, size: int) -> bytes:
    """Read a body up to its end or to `size` bytes."""
    pieces: list[bytes] = []
    while size > 0 and not content.at_eof():
        pieces.append(await content.read(size))
        size -= len(pieces[-1])
    return b"".join(pieces)


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
