"""Limits on the size of an MCP server's HTTP responses."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import httpx2

MAX_BODY_BYTES = 2**24
"""The largest response that is one message, in bytes."""
MAX_STREAM_BYTES = 2**26
"""The largest response that is a stream of messages, in bytes."""


async def limit_response(response: Any) -> None:  # Any: httpx2's Response
    """Make a response raise an error if it is too long. A hook for httpx2's `event_hooks`."""
    encoding = response.headers.get("content-encoding", "identity")
    if encoding != "identity":
        raise httpx2.DecodingError(
            f"the response is compressed ({encoding}), which was not requested"
        )
    is_stream = response.headers.get("content-type", "").startswith("text/event-stream")
    response.stream = _LimitedStream(
        response.stream, MAX_STREAM_BYTES if is_stream else MAX_BODY_BYTES
    )


class _LimitedStream(httpx2.AsyncByteStream):
    """A response body that raises an error beyond `limit` bytes."""

    def __init__(self, inner: Any, limit: int) -> None:  # Any: any stream of httpx2
        self._inner = inner
        self._limit = limit

    async def __aiter__(self) -> AsyncIterator[bytes]:
        remaining = self._limit
        async for chunk in self._inner:
            remaining -= len(chunk)
            if remaining < 0:
                raise httpx2.ReadError(f"the response is over {self._limit} bytes")
            yield chunk

    async def aclose(self) -> None:
        await self._inner.aclose()
