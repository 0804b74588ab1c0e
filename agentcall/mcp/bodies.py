"""The bodies of an MCP server's HTTP responses, read within bounds."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import httpx2

LONGEST = 2**24
"""Bytes of a response that is one message."""
LONGEST_STREAM = 2**26
"""Bytes of one that is a stream of messages."""


async def bound(response: Any) -> None:  # Any: httpx2's Response
    """Makes a response end with an error where it is too long. For httpx2's event hooks."""
    encoding = response.headers.get("content-encoding", "identity")
    if encoding != "identity":
        raise httpx2.DecodingError(
            f"the answer is compressed ({encoding}), which was not asked for"
        )
    is_stream = response.headers.get("content-type", "").startswith("text/event-stream")
    response.stream = _Bounded(response.stream, LONGEST_STREAM if is_stream else LONGEST)


class _Bounded(httpx2.AsyncByteStream):
    """A body that raises where it is longer than it may be."""

    def __init__(self, inner: Any, most: int) -> None:  # Any: any stream of httpx2
        self._inner = inner
        self._most = most

    async def __aiter__(self) -> AsyncIterator[bytes]:
        left = self._most
        async for piece in self._inner:
            left -= len(piece)
            if left < 0:
                raise httpx2.ReadError(f"the answer is over {self._most} bytes")
            yield piece

    async def aclose(self) -> None:
        await self._inner.aclose()
