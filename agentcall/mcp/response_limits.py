"""The bodies of an MCP server's HTTP responses, read within bounds."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import httpx2

MAX_BODY_BYTES = 2**24
"""Bytes of a response that is one message."""
MAX_STREAM_BYTES = 2**26
"""Bytes of one that is a stream of messages."""


async def bound(response: Any) -> None:  # Any: httpx2's Response
    """Makes a response end with an error where it is too long. For httpx2's event hooks."""
    encoding = response.headers.get("content-encoding", "identity")
    if encoding != "identity":
        raise httpx2.DecodingError(
            f"the answer is compressed ({encoding}), which was not asked for"
        )
    is_stream = response.headers.get("content-type", "").startswith("text/event-stream")
    response.stream = _LimitedStream(
        response.stream, MAX_STREAM_BYTES if is_stream else MAX_BODY_BYTES
    )


class _LimitedStream(httpx2.AsyncByteStream):
    """A body that raises where it is longer than it may be."""

    def __init__(self, inner: Any, limit: int) -> None:  # Any: any stream of httpx2
        self._inner = inner
        self._limit = limit

    async def __aiter__(self) -> AsyncIterator[bytes]:
        left = self._limit
        async for piece in self._inner:
            left -= len(piece)
            if left < 0:
                raise httpx2.ReadError(f"the answer is over {self._limit} bytes")
            yield piece

    async def aclose(self) -> None:
        await self._inner.aclose()
