"""The HTTP side of a model: one server, reached over aiohttp.

aiohttp, because httpx's connection pool is quadratic in waiting requests and the official client
walks the whole history on every call (docs/performance.md). Rules:
1. One deadline covers a request from its first try to its last byte.
2. A request is tried again only as long as nothing of its answer was given away.
3. No key, user or password is in an error's text, not even where the server repeats it.
"""

from __future__ import annotations

import asyncio
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
from agentcall.models.address import address, authorization, joined, place, url_secrets
from agentcall.models.completion import parsed
from agentcall.models.refusal import (
    is_lost_node,
    lost_node,
    masked,
    no_json,
    refusal,
    retry_after_of,
)
from agentcall.models.sessions import shared_session

MAX_BYTES = 64 * 1024 * 1024
"""Bytes of an answer beyond which it is refused."""

T = TypeVar("T")
_FIRST_WAIT, _LONGEST_WAIT = 0.125, 8.0
_RETRIED = (ModelUnreachable, RateLimited)
_FAILURES = (aiohttp.ClientError, OSError, asyncio.TimeoutError)


@dataclass(frozen=True, slots=True, repr=False)
class Endpoint:
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
        known = address(self.url)
        object.__setattr__(self, "url", known.url)
        object.__setattr__(self, "api_key", self.api_key.strip() or known.api_key)

    async def get(self, path: str) -> JSON:
        """The JSON at a path below the base URL, tried once. Raises ModelError."""
        return await self._whole("GET", path, None, monotonic() + min(10.0, self.timeout))

    def post(self, path: str, body: bytes) -> Awaitable[JSON]:
        """The JSON answered to a body. Raises ModelError."""
        return self._tried(lambda deadline: self._whole("POST", path, body, deadline))

    async def stream(self, path: str, body: bytes) -> AsyncGenerator[bytes, None]:
        """The bytes answered to a body, as they arrive.

        Raises ModelError: CutAnswer if the connection breaks once the answer has begun.
        """
        response, data = await self._tried(lambda deadline: self._begun(path, body, deadline))
        content, size = response.content, 0
        try:
            while data:
                size += len(data)
                if size > self.max_bytes:
                    raise self._too_long()
                yield data
                data = await content.readany()
        except _FAILURES as error:
            raise self._cut(error) from _cause(error)
        finally:
            response.release()  # keeps the connection if the answer was read to its end

    @property
    def place(self) -> str:
        """The URL without query, for messages."""
        return place(self.url)

    @property
    def secrets(self) -> Collection[str]:
        """What no error may show: the key, and what stands in the URL's query."""
        return [self.api_key, *url_secrets(self.url)]

    async def _tried(self, attempt: Callable[[float], Awaitable[T]]) -> T:
        """What an attempt gives, made again while failing may pass and there is time."""
        deadline = monotonic() + self.timeout
        try:
            return await attempt(deadline)
        except _RETRIED as error:
            return await self._again(attempt, deadline, error)

    async def _again(
        self, attempt: Callable[[float], Awaitable[T]], deadline: float, failure: ModelError
    ) -> T:
        """What a later attempt gives, the first having failed."""
        # imported here: most requests go well, and need none of it
        from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type

        failures = [failure]

        async def next_try() -> T:
            if failures:
                raise failures.pop()
            return await attempt(deadline)

        def wait(state: RetryCallState) -> float:
            error = state.outcome.exception() if state.outcome else None
            return _wait(error, state.attempt_number)

        def enough(state: RetryCallState) -> bool:
            return (
                state.attempt_number >= self.tries or monotonic() + state.upcoming_sleep > deadline
            )

        again = retry_if_exception_type(_RETRIED)
        return await AsyncRetrying(retry=again, stop=enough, wait=wait, reraise=True)(next_try)

    async def _begun(
        self, path: str, body: bytes, deadline: float
    ) -> tuple[aiohttp.ClientResponse, bytes]:
        """A stream, and the first that came of it."""
        response = await self._opened("POST", path, body, deadline)
        try:
            data = await response.content.readany()
        except _FAILURES as error:
            response.release()
            raise self._cut(error) from error
        except BaseException:
            response.release()
            raise
        if is_lost_node(data):
            response.release()
            raise masked(lost_node(data, self.place), self.secrets)
        return response, data

    async def _whole(self, method: str, path: str, body: bytes | None, deadline: float) -> JSON:
        began = monotonic()
        response = await self._opened(method, path, body, deadline)
        try:
            data = await self._read(response)
        except _FAILURES as error:
            raise self._failure(error, deadline - began) from _cause(error)
        finally:
            response.release()
        if is_lost_node(data):
            raise masked(lost_node(data, self.place), self.secrets)
        try:
            return parsed(data)
        except ValueError:
            raise masked(no_json(data, self.place), self.secrets) from None

    async def _read(self, response: aiohttp.ClientResponse) -> bytes:
        content = response.content
        blocks: list[bytes] = []
        size = 0
        while not content.at_eof():
            blocks.append(await content.readany())
            size += len(blocks[-1])
            if size > self.max_bytes:
                raise self._too_long()
        return b"".join(blocks)

    async def _opened(
        self, method: str, path: str, body: bytes | None, deadline: float
    ) -> aiohttp.ClientResponse:
        left = max(deadline - monotonic(), 0.001)
        timeout = _limit(round(left, 2) or 0.001)
        headers = {"Content-Type": "application/json", "User-Agent": "agentcall"}
        if self.api_key:
            headers["Authorization"] = authorization(self.api_key)
        try:
            session = await shared_session()
            response = await session.request(
                method, joined(self.url, path), data=body, headers=headers, timeout=timeout
            )
            if response.status < 400:
                return response
            raise await self._refused(response)
        except _FAILURES as error:
            raise self._failure(error, left) from _cause(error)

    async def _refused(self, response: aiohttp.ClientResponse) -> ModelError:
        try:
            data = await response.content.read(65536)
        finally:
            response.release()
        wait = retry_after_of(response.headers.get("Retry-After"))
        refused = refusal(response.status, data, url=self.place, retry_after=wait)
        return masked(refused, self.secrets)

    def _cut(self, error: Exception) -> ModelError:
        """What broke a stream that had begun, as an error of ours."""
        failure = self._failure(error, self.timeout)
        return CutAnswer(str(failure)) if isinstance(failure, ModelUnreachable) else failure

    def _too_long(self) -> BadAnswer:
        return BadAnswer(
            f"the answer of {self.place} is longer than {self.max_bytes} bytes; "
            "ask for less with max_tokens, or take more with max_bytes="
        )

    def _failure(self, error: Exception, seconds: float) -> ModelError:
        """What aiohttp raised, as an error of ours."""
        if isinstance(error, aiohttp.ConnectionTimeoutError) and self.timeout > 10:
            return ModelUnreachable(f"{self.place} does not take connections; is it running?")
        if isinstance(error, (asyncio.TimeoutError, TimeoutError)):
            return ModelTimeout(
                f"{self.place} gave no whole answer in {seconds:.3g} seconds; "
                "give it more with timeout=, or a smaller task"
            )
        if isinstance(error, aiohttp.ClientConnectorError):
            why = error.strerror or error
            return ModelUnreachable(f"no server answers at {self.place} ({why}); is it running?")
        said = "a redirect leads nowhere" if isinstance(error, aiohttp.InvalidURL) else error
        said = getattr(error, "message", None) or said  # a ClientResponseError's str has the URL
        kind = type(error).__name__
        return ModelUnreachable(f"the connection to {self.place} broke: {kind}: {said}")

    def __repr__(self) -> str:
        return f"Endpoint({self.place!r})"


def _cause(error: Exception) -> Exception | None:
    """The error as the cause of ours; not one whose own words have the URL with its secrets."""
    return None if isinstance(error, (aiohttp.ClientResponseError, aiohttp.InvalidURL)) else error


@lru_cache(maxsize=64)
def _limit(seconds: float) -> aiohttp.ClientTimeout:
    """The limit of a request; most requests have the same, and making one takes its time."""
    return aiohttp.ClientTimeout(total=seconds, sock_connect=min(10.0, seconds))


def _wait(failure: BaseException | None, failures: int) -> float:
    """Seconds until the next try: what the server asks for, else a random time that doubles."""
    if isinstance(failure, RateLimited) and failure.retry_after is not None:
        return failure.retry_after
    return random.uniform(0, min(_FIRST_WAIT * 2**failures, _LONGEST_WAIT))  # noqa: S311 - no secret
