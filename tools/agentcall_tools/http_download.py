"""One HTTP GET with limits on time, size and decompression, over aiohttp.

Rules:
1. The whole exchange ends after `seconds`, however slowly data arrives.
2. At most `max_bytes` of a body are read, before and after decompression; a longer one is cut.
3. Only gzip is accepted. It is decompressed in chunks, so that no bomb expands in memory, and a
   body that grows more than `MAX_RATIO` times is refused.
4. No proxies, netrc, cookies or redirects: the request goes to that address only, whatever the
   environment says.
"""

from __future__ import annotations

import asyncio
import os
import socket
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # imported when first needed, as it is slow to import
    import aiohttp
    from aiohttp.abc import AbstractResolver

MAX_RATIO = 200
USER_AGENT = "agentcall (a tool of a language model)"
_CHUNK_BYTES = 65_536
_MIN_RATIO_BYTES = 100_000


class HTTPDownloadError(ValueError):
    """The download failed; the message says why."""


@dataclass(frozen=True, slots=True)
class DownloadLimits:
    """The time limit of a download in seconds, and how many bytes of the body are read."""

    seconds: float = 20.0
    max_bytes: int = 2_000_000


@dataclass(frozen=True, slots=True)
class DownloadedResponse:
    """A server's response; `is_complete` is false if the body was cut."""

    status: int
    headers: Mapping[str, str]
    content_type: str
    charset: str
    body: bytes
    is_complete: bool = True


async def download(
    url: str,
    limits: DownloadLimits,
    *,
    query: Mapping[str, str] | None = None,
    addresses: Sequence[str] | None = None,
) -> DownloadedResponse:
    """Send one GET and return the response; connect to `addresses` instead of looking up the host.

    Raises:
        HTTPDownloadError: if there is no response in time, or it cannot be read.
    """
    import aiohttp
    from yarl import URL

    target = URL(url, encoded=True)
    async with aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(
            resolver=_make_pinned_resolver(addresses) if addresses else None,
            use_dns_cache=False,
            force_close=True,
        ),
        cookie_jar=aiohttp.DummyCookieJar(),
        timeout=aiohttp.ClientTimeout(total=limits.seconds),
        headers={"User-Agent": USER_AGENT, "Accept-Encoding": "gzip"},
        auto_decompress=False,
        trust_env=False,
    ) as session:
        try:
            async with session.get(
                target.extend_query(query or {}), allow_redirects=False
            ) as response:
                return await _read_response(response, limits.max_bytes)
        except asyncio.TimeoutError:
            raise HTTPDownloadError(
                f"{target.host} did not answer within {limits.seconds:g} seconds; try again later"
            ) from None
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise _make_error(target.host or url, error) from None


def _make_error(host: str, error: Exception) -> HTTPDownloadError:
    import aiohttp

    if isinstance(error, HTTPDownloadError):
        return error
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return HTTPDownloadError(f"{host} has no valid certificate: {error.certificate_error}")
    if isinstance(error, aiohttp.ClientConnectorError):
        number = error.os_error.errno
        return HTTPDownloadError(
            f"could not reach {host} ({os.strerror(number) if number else error})"
        )
    reason = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
    return HTTPDownloadError(f"{host} closed the connection or does not speak HTTP ({reason})")


def _make_pinned_resolver(addresses: Sequence[str]) -> AbstractResolver:
    """Return a resolver that gives these addresses for any name."""
    from aiohttp.abc import AbstractResolver, ResolveResult

    class PinnedResolver(AbstractResolver):
        async def resolve(
            self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
        ) -> list[ResolveResult]:
            return [
                ResolveResult(
                    hostname=host,
                    host=address,
                    port=port,
                    family=socket.AF_INET6 if ":" in address else socket.AF_INET,
                    proto=socket.IPPROTO_TCP,
                    flags=socket.AI_NUMERICHOST,
                )
                for address in addresses
            ]

        async def close(self) -> None:
            pass

    return PinnedResolver()


async def _read_response(response: aiohttp.ClientResponse, max_bytes: int) -> DownloadedResponse:
    coding = response.headers.get("Content-Encoding", "identity").strip().lower()
    if coding not in ("identity", "gzip", "x-gzip", ""):
        raise HTTPDownloadError(
            f"{response.url.host} answers in {coding[:40]!r}, and only gzip is supported"
        )
    body = _BodyReader(max_bytes, is_compressed="gzip" in coding)
    async for chunk in response.content.iter_any():
        if not body.feed(chunk):
            break
    return DownloadedResponse(
        response.status,
        response.headers,
        response.content_type if "Content-Type" in response.headers else "",
        response.charset or "",
        body.finish(),
        not body.is_truncated,
    )


class _BodyReader:
    """Collects and decompresses a body, up to `max_bytes`."""

    def __init__(self, max_bytes: int, *, is_compressed: bool) -> None:
        self.is_truncated = False
        self._max_bytes = max_bytes
        self._read = 0
        self._body = bytearray()
        self._inflater = zlib.decompressobj(31) if is_compressed else None

    def feed(self, chunk: bytes) -> bool:
        """Add a chunk; return False once the limit is reached."""
        for piece in self._decompress(chunk) if self._inflater else self._pass_through(chunk):
            self._body += piece
            size = len(self._body)
            if size > _MIN_RATIO_BYTES and size > self._read * MAX_RATIO:
                raise HTTPDownloadError(f"the body grows over {MAX_RATIO} times when decompressed")
            if max(size, self._read) > self._max_bytes:
                self.is_truncated = True
                return False
        return True

    def finish(self) -> bytes:
        """Return the body. Raise HTTPDownloadError if a compressed body is incomplete."""
        inflater = self._inflater
        if inflater is not None and self._read and not self.is_truncated and not inflater.eof:
            raise HTTPDownloadError("the compressed body is incomplete")
        return bytes(self._body[: self._max_bytes])

    def _pass_through(self, data: bytes) -> Iterator[bytes]:
        self._read += len(data)
        yield data

    def _decompress(self, data: bytes) -> Iterator[bytes]:
        """Decompress a chunk in pieces; a body may be several gzip files in a row."""
        piece = b""
        while data or len(piece) == _CHUNK_BYTES:
            assert self._inflater is not None  # noqa: S101 - checked by the caller
            if self._inflater.eof:
                data = data.lstrip(b"\0")
                if not data:
                    return
                self._inflater = zlib.decompressobj(31)
            try:
                piece = self._inflater.decompress(data, _CHUNK_BYTES)
            except zlib.error as error:
                raise HTTPDownloadError(f"the compressed body is damaged: {error}") from None
            rest = self._inflater.unconsumed_tail or self._inflater.unused_data
            self._read += len(data) - len(rest)
            data = rest
            yield piece
