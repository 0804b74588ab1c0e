"""Checks what may be fetched: the public internet, and what the user allows beside it.

Rules:
1. A URL is checked by its port and host, and then by each address of the host.
   `FetchGuard.resolve_addresses` looks a name up once, and the connection goes to the addresses
   that it returns, so a name that changes its address in between (DNS rebinding) has no effect.
2. A name is refused if one of its addresses is.
3. Names of private networks are refused whatever their address: names without a dot, localhost,
   .local, .internal and the like, names that contain a refused address, and names of wildcard DNS
   services that are known to resolve to one.
4. An allowed host can be reached on any port, or on the given port only. The metadata address of a
   cloud, which has its credentials, can be reached only if that address itself is allowed.
"""

import asyncio
import re
import socket
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Address, ip_address, ip_network
from typing import TypeAlias

from agentcall_tools.fetch.public_address import IPAddress, IPNetwork, is_metadata, is_public
from agentcall_tools.fetch.url import FetchError, FetchURL

AddressLookup: TypeAlias = Callable[[str], Awaitable[Sequence[str]]]
"""Returns the addresses of a name; raises OSError if it has none."""

ALLOWED_PORTS = frozenset({80, 443, 8080, 8443})
_PRIVATE_NAMES = frozenset(
    str.split(
        "localhost local internal intranet private corp home lan localdomain home.arpa test "
        "invalid onion alt localtest.me lvh.me vcap.me lacolhost.com yoogle.com "
        "bugbounty.dod.network mail.ebc.apple.com spoofed.burpcollaborator.net "
        "1u.ms rbndr.us rebind.network"
    )
)
_SPELLED_ADDRESS = re.compile(
    r"(?:^|(?<=[.-]))(?=([0-9]{1,3})[.-]([0-9]{1,3})[.-]([0-9]{1,3})[.-]([0-9]{1,3})[.-])"
)
_SPELLED_HEX = re.compile(r"(?:^|[.-])([0-9a-f]{8})\.(?:nip|sslip)\.io$")


async def look_up_addresses(name: str) -> Sequence[str]:
    """Return the addresses of a name from the system's resolver."""
    loop = asyncio.get_running_loop()
    infos = await loop.getaddrinfo(name, None, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(info[4][0]) for info in infos))


@dataclass(frozen=True, slots=True)
class AllowedHost:
    """An allowed host name, `*.` domain, address or network, on one port or all."""

    name: str = ""
    network: IPNetwork | None = None
    port: int | None = None

    def matches(self, link: FetchURL) -> bool:
        """Return whether a URL's host is allowed by this entry."""
        if self.port not in (None, link.port):
            return False
        address = link.address
        if address is not None:
            return self.matches_address(address, link.port)
        if self.name.startswith("*."):
            return link.host.endswith(self.name[1:])
        return bool(self.name) and link.host == self.name

    def matches_address(self, address: IPAddress, port: int) -> bool:
        """Return whether an address is allowed; a metadata address only by an entry of its own."""
        if self.network is None or self.port not in (None, port):
            return False
        is_single = self.network.num_addresses == 1
        return address in self.network and (is_single or not is_metadata(address))


def parse_allowed_host(text: str) -> AllowedHost:
    """Parse an entry such as "wiki.example", "*.example:8443", "10.1.0.0/16" or "[::1]:80"."""
    match = re.fullmatch(r"(\[[^\]]+\](?:/\d+)?|[^:]+|[^\[\]]*:[^\[\]]*:[^\[\]]*)(?::(\d+))?", text)
    if not match:
        raise ValueError(f"{text!r} is not a host, address or network, with or without a port")
    host, port = match.group(1).strip().lower(), match.group(2)
    number = int(port) if port else None
    try:
        return AllowedHost(
            network=ip_network(re.sub(r"[\[\]]", "", host), strict=False), port=number
        )
    except ValueError:
        if "/" in host or not re.fullmatch(r"(?:\*\.)?[\w.-]+", host):
            raise ValueError(f"{text!r} is not a host, address or network") from None
        return AllowedHost(name=host.removesuffix("."), port=number)


@dataclass(frozen=True, slots=True)
class FetchGuard:
    """Decides what may be fetched.

    allow: hosts and networks that may be fetched although they are not public.
    only: if given, no other hosts may be fetched; these must still be public or allowed.
    """

    allow: tuple[AllowedHost, ...] = ()
    only: tuple[AllowedHost, ...] = ()
    lookup: AddressLookup = field(default=look_up_addresses)

    def check(self, link: FetchURL) -> None:
        """Raise FetchError if the host or port of a URL is refused, before any lookup."""
        if self.only and not any(entry.matches(link) for entry in self.only):
            raise FetchError(
                f"{link.host_and_port} is not among the hosts that may be fetched here"
            )
        if self._is_allowed(link):
            return
        if link.port not in ALLOWED_PORTS:
            raise FetchError(f"port {link.port} is not one that pages are fetched from")
        if link.address is not None:
            self._check_address(link, link.address)
        elif _is_private(link.host):
            raise FetchError(
                f"{link.host} is a name of private networks; only public ones are fetched"
            )

    async def resolve_addresses(self, link: FetchURL) -> Sequence[str]:
        """Return the checked addresses to connect to. Raise FetchError if one is refused."""
        self.check(link)
        if link.address is not None:
            return [str(link.address)]
        try:
            addresses = await self.lookup(link.host)
        except OSError:
            addresses = ()
        if not addresses:
            raise FetchError(f"there is no host {link.host}; check the spelling")
        self.check_addresses(link, addresses)
        return addresses

    def check_addresses(self, link: FetchURL, addresses: Sequence[str]) -> None:
        """Raise FetchError if one of the addresses of a URL's host is refused."""
        for text in addresses:
            self._check_address(link, ip_address(text.partition("%")[0]))

    def _is_allowed(self, link: FetchURL) -> bool:
        return any(entry.matches(link) for entry in self.allow)

    def _check_address(self, link: FetchURL, address: IPAddress) -> None:
        if any(entry.matches_address(address, link.port) for entry in self.allow):
            return
        is_allowed_name = self._is_allowed(link) and link.address is None
        if not is_public(address) and (not is_allowed_name or is_metadata(address)):
            target = "" if link.address is not None else f" (it leads to {address})"
            raise FetchError(
                f"{link.host} is not in the public internet{target}; only public hosts are fetched"
            )


def _is_private(name: str) -> bool:
    """Return whether a name belongs to private networks, or contains a refused address."""
    if "." not in name:
        return True
    labels = name.split(".")
    if any(".".join(labels[start:]) in _PRIVATE_NAMES for start in range(len(labels))):
        return True
    addresses = [_parse_ipv4(".".join(parts)) for parts in _SPELLED_ADDRESS.findall(name)]
    addresses += [IPv4Address(int(digits, 16)) for digits in _SPELLED_HEX.findall(name)]
    return any(address is not None and not is_public(address) for address in addresses)


def _parse_ipv4(text: str) -> IPv4Address | None:
    """Return the address, or None if it is more likely a version, such as 0.1.2.3."""
    try:
        address = IPv4Address(text)
    except ValueError:
        return None
    return None if text.startswith("0.") and int(address) else address
