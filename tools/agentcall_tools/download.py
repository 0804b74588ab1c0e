"""One HTTP GET with bounds on time, size and decompression, over aiohttp.

Rules:
1. The whole exchange ends after `seconds`, however slowly it drips.
2. At most `most_bytes` of a body are read, before and after decompression; a longer one is cut.
3. Only gzip is asked for and undone, piece by piece, so that no bomb ever unfolds in memory; a body
   that grows more than `RATIO` times is refused.
4. No proxies, netrc, cookies or redirects: what is asked for is asked of that address and nobody
   else, whatever the environment says.
"""

from __future__ import annotations

import asyncio
import os
import socket
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # a tool that is never called need not wait for it
    import aiohttp
    from aiohttp.abc import AbstractResolver

RATIO = 200
AGENT = "agentcall (a tool of a language model)"
_PIECE = 65_536
_SMALL = 100_000


class DownloadError(ValueError):
    """Nothing was downloaded; the text says why."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """How many seconds an answer may take in all, and how many bytes of its body are read."""

    seconds: float = 20.0
    most_bytes: int = 2_000_000


@dataclass(frozen=True, slots=True)
class Answer:
    """What a server answered; `is_whole` says whether the body was read to its end."""

    status: int
    headers: Mapping[str, str]
    content_type: str
    charset: str
    body: bytes
    is_whole: bool = True


async def download(
    url: str,
    bounds: Bounds,
    *,
    query: Mapping[str, str] | None = None,
    addresses: Sequence[str] | None = None,
) -> Answer:
    """The answer to one GET; where `addresses` are given, of a server there and nowhere else.

    Raises DownloadError: no connection, no answer in time, an answer that is not HTTP, or a body
    that cannot be decompressed.
    """
    import aiohttp
    from yarl import URL

    target = URL(url, encoded=True)
    async with aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(
            resolver=_pinned(addresses) if addresses else None,
            use_dns_cache=False,
            force_close=True,
        ),
        cookie_jar=aiohttp.DummyCookieJar(),
        timeout=aiohttp.ClientTimeout(total=bounds.seconds),
        headers={"User-Agent": AGENT, "Accept-Encoding": "gzip"},
        auto_decompress=False,
        trust_env=False,
    ) as session:
        try:
            async with session.get(
                target.extend_query(query or {}), allow_redirects=False
            ) as response:
                return await _answer(response, bounds.most_bytes)
        except asyncio.TimeoutError:
            raise DownloadError(
                f"{target.host} did not answer within {bounds.seconds:g} seconds; try again later"
            ) from None
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise _refusal(target.host or url, error) from None


def _refusal(host: str, error: Exception) -> DownloadError:
    import aiohttp

    if isinstance(error, DownloadError):
        return error
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return DownloadError(f"{host} has no valid certificate: {error.certificate_error}")
    if isinstance(error, aiohttp.ClientConnectorError):
        number = error.os_error.errno
        return DownloadError(f"could not reach {host} ({os.strerror(number) if number else error})")
    reason = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
    return DownloadError(f"{host} broke the connection or speaks no HTTP ({reason})")


def _pinned(addresses: Sequence[str]) -> AbstractResolver:
    """A resolver that knows these addresses alone, whatever the name."""
    from aiohttp.abc import AbstractResolver, ResolveResult

    class Pinned(AbstractResolver):
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

    return Pinned()


async def _answer(response: aiohttp.ClientResponse, most: int) -> Answer:
    coding = response.headers.get("Content-Encoding", "identity").strip().lower()
    if coding not in ("identity", "gzip", "x-gzip", ""):
        raise DownloadError(
            f"{response.url.host} answers in {coding[:40]!r}, and only gzip is read"
        )
    body = _Body(most, zipped="gzip" in coding)
    async for chunk in response.content.iter_any():
        if not body.take(chunk):
            break
    return Answer(
        response.status,
        response.headers,
        response.content_type if "Content-Type" in response.headers else "",
        response.charset or "",
        body.whole(),
        not body.is_cut,
    )


class _Body:
    """A body as it comes, decompressed, up to so many bytes."""

    def __init__(self, most: int, *, zipped: bool) -> None:
        self.is_cut = False
        self._most = most
        self._read = 0
        self._kept = bytearray()
        self._inflater = zlib.decompressobj(31) if zipped else None

    def take(self, chunk: bytes) -> bool:
        """Adds what came; False once no more is wanted."""
        for piece in self._inflated(chunk) if self._inflater else self._plain(chunk):
            self._kept += piece
            size = len(self._kept)
            if size > _SMALL and size > self._read * RATIO:
                raise DownloadError(f"the body grows over {RATIO} times when decompressed")
            if max(size, self._read) > self._most:
                self.is_cut = True
                return False
        return True

    def whole(self) -> bytes:
        """What was kept. Raises DownloadError if the compressed body breaks off."""
        inflater = self._inflater
        if inflater is not None and self._read and not self.is_cut and not inflater.eof:
            raise DownloadError("the compressed body breaks off before its end")
        return bytes(self._kept[: self._most])

    def _plain(self, data: bytes) -> Iterator[bytes]:
        self._read += len(data)
        yield data

    def _inflated(self, data: bytes) -> Iterator[bytes]:
        """The pieces that a compressed chunk holds; several gzip files may follow each other."""
        piece = b""
        while data or len(piece) == _PIECE:
            assert self._inflater is not None  # noqa: S101 - the caller has looked
            if self._inflater.eof:
                data = data.lstrip(b"\0")
                if not data:
                    return
                self._inflater = zlib.decompressobj(31)
            try:
                piece = self._inflater.decompress(data, _PIECE)
            except zlib.error as error:
                raise DownloadError(f"the compressed body is damaged: {error}") from None
            left = self._inflater.unconsumed_tail or self._inflater.unused_data
            self._read += len(data) - len(left)
            data = left
            yield piece
