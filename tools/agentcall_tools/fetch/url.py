"""A strict URL parser, which accepts only what all URL parsers understand alike.

Rules: `scheme://host[:port][/path][?query]` and nothing else. No user names, spaces, backslashes
or control characters. A host is a name, an IPv4 address of four decimal numbers, or an IPv6 address
in brackets. Other forms that some parsers take for an address (127.1, 0x7f000001, 017700000001,
2130706433, full-width digits, other dots) are refused, as parsers disagree on them. The request is
built from the parsed parts, never from the text.
"""

import re
from dataclasses import dataclass
from ipaddress import AddressValueError, IPv6Address, ip_address
from unicodedata import normalize
from urllib.parse import quote, urljoin

from agentcall_tools.fetch.public_address import IPAddress

MAX_LENGTH = 4_000
DEFAULT_PORTS = {"http": 80, "https": 443}

_URL_PATTERN = re.compile(
    r"([A-Za-z][A-Za-z0-9+.-]*)://([^/?#]*)([^?#]*)(\?[^#]*)?(#.*)?", re.DOTALL
)
_AUTHORITY_PATTERN = re.compile(r"(\[[^\[\]]*\]|[^:\[\]]*)(?::([1-9][0-9]{0,4}))?")
_LABEL = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?")
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")
_UNSAFE = re.compile(r"[\x00-\x20\x7f\\\u0080-\u00a0\u2000-\u200f\u2028-\u202f\u2060-\u206f\ufeff]")
_DOTS = re.compile(r"[\u3002\uff0e\uff61]")


class FetchError(ValueError):
    """The page was not fetched; the message says why, and what to do instead."""


@dataclass(frozen=True, slots=True)
class FetchURL:
    """A parsed URL: the host in ASCII without brackets, path and query percent-encoded."""

    scheme: str
    host: str
    port: int
    target: str

    @property
    def address(self) -> IPAddress | None:
        """The host as an address, or None if it is a name."""
        return _parse_address(self.host)

    @property
    def host_and_port(self) -> str:
        """The host and port in the form of a Host header."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == DEFAULT_PORTS[self.scheme] else f"{host}:{self.port}"

    def __str__(self) -> str:
        return f"{self.scheme}://{self.host_and_port}{self.target}"

    def join(self, reference: str) -> "FetchURL":
        """Return the URL of a reference on this page. Raise FetchError if it is refused."""
        return parse_url(urljoin(str(self), reference))


def parse_url(url: str) -> FetchURL:
    """Parse a URL. Raise FetchError if it is refused."""
    text = url.strip(" \t\r\n")
    if not text or len(text) > MAX_LENGTH:
        raise FetchError(f"a URL has 1 to {MAX_LENGTH} characters, got {len(text)}")
    unsafe = _UNSAFE.search(text)
    if unsafe:
        raise FetchError(f"{text[:80]!r} contains {unsafe.group()!r}: encode it in a URL")
    match = _URL_PATTERN.fullmatch(text)
    if not match:
        raise FetchError(f"{text[:80]!r} is not a URL: write it as https://host/path")
    scheme, authority, path, query = match.group(1).lower(), *match.group(2, 3, 4)
    if scheme not in DEFAULT_PORTS:
        raise FetchError(f"only http and https are fetched, not {scheme}")
    if "@" in text.split("/", 3)[2]:  # also after ? and #, where parsers disagree
        raise FetchError(f"{text[:80]!r} has an @ before its path: no user names in a URL")
    host, port = _parse_authority(authority, DEFAULT_PORTS[scheme])
    return FetchURL(scheme, host, port, _encode(path or "/") + _encode(query or ""))


def _encode(part: str) -> str:
    """Percent-encode characters that are not ASCII or not allowed in a request line."""
    return quote(part, safe="%/?:@!$&'()*+,;=[]", errors="replace")


def _parse_authority(text: str, port: int) -> tuple[str, int]:
    match = _AUTHORITY_PATTERN.fullmatch(text)
    if not match or not match.group(1):
        raise FetchError(
            f"{text[:80]!r} is not a host: write https://host/path or https://host:port/"
        )
    if match.group(2):
        port = int(match.group(2))
    if port > 65_535:
        raise FetchError(f"there is no port {port}")
    return _parse_host(match.group(1)), port


def _parse_host(text: str) -> str:
    if text.startswith("["):
        return _parse_ipv6(text[1:-1])
    name = _to_ascii(text).lower().removesuffix(".")
    if _parse_address(name):
        return name
    labels = name.split(".")
    if _NUMBER.fullmatch(labels[-1]):
        raise FetchError(f"{text[:80]!r} is not an IPv4 address of four numbers from 0 to 255")
    if len(name) > 253 or not all(_LABEL.fullmatch(label) for label in labels):
        raise FetchError(f"{text[:80]!r} is not a host name")
    return name


def _parse_address(host: str) -> IPAddress | None:
    try:
        return ip_address(host)
    except ValueError:
        return None


def _parse_ipv6(text: str) -> str:
    try:
        if "%" in text:
            raise AddressValueError
        return str(IPv6Address(text))
    except AddressValueError:
        raise FetchError(f"[{text[:80]}] is not an IPv6 address, or has a zone") from None


def _to_ascii(host: str) -> str:
    """Return an international name in DNS's form; refuse look-alike characters."""
    if host.isascii():
        return host
    if _DOTS.search(host) or normalize("NFKC", host) != host:
        raise FetchError(f"{host[:80]!r} is written in look-alike characters; write plain ones")
    import idna  # slow to import, and few names need it

    try:
        return idna.encode(host.lower(), std3_rules=True).decode()
    except (idna.IDNAError, UnicodeError) as error:
        raise FetchError(f"{host[:80]!r} is not a host name: {error}") from None
