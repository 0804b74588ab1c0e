"""What may be fetched: the public internet, and what the user allows beside it.

Rules:
1. A link is judged by its port and its host, and each address of the host once more when it is
   known, right before it is connected to: `FetchGuard.addresses` looks a name up once, and what it
   gives is what is connected to. A name that changes its address in between changes nothing.
2. If one address of a name is refused, the name is.
3. Names that are kept for private networks are refused whatever their address: those without a
   dot, localhost, .local, .internal and their like, and names that spell a refused address out
   or are known to lead to one, as wildcard DNS services have them.
4. What the user allows is reached on any port, or on the port given. Where a cloud keeps its
   credentials is reached only if that address itself is allowed.
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
"""Gives the addresses of a name; raises OSError where it has none."""

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
    """The addresses that the system's resolver gives for a name."""
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(name, None, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(info[4][0]) for info in found))


@dataclass(frozen=True, slots=True)
class AllowedHost:
    """One thing a user allows: a host name, `*.` and a domain, an address or a network; a port."""

    name: str = ""
    network: IPNetwork | None = None
    port: int | None = None

    def matches(self, link: FetchURL) -> bool:
        """Whether a link's host is of this place."""
        if self.port not in (None, link.port):
            return False
        address = link.address
        if address is not None:
            return self.matches_address(address, link.port)
        if self.name.startswith("*."):
            return link.host.endswith(self.name[1:])
        return bool(self.name) and link.host == self.name

    def matches_address(self, address: IPAddress, port: int) -> bool:
        """Whether an address is of this place; credentials of a cloud only by their own address."""
        if self.network is None or self.port not in (None, port):
            return False
        alone = self.network.num_addresses == 1
        return address in self.network and (alone or not is_metadata(address))


def parse_allowed_host(text: str) -> AllowedHost:
    """A place as a user writes it: "wiki.example", "*.example:8443", "10.1.0.0/16", "[::1]:80"."""
    found = re.fullmatch(r"(\[[^\]]+\](?:/\d+)?|[^:]+|[^\[\]]*:[^\[\]]*:[^\[\]]*)(?::(\d+))?", text)
    if not found:
        raise ValueError(f"{text!r} is no host, address or network, with a port or without")
    host, port = found.group(1).strip().lower(), found.group(2)
    number = int(port) if port else None
    try:
        return AllowedHost(
            network=ip_network(re.sub(r"[\[\]]", "", host), strict=False), port=number
        )
    except ValueError:
        if "/" in host or not re.fullmatch(r"(?:\*\.)?[\w.-]+", host):
            raise ValueError(f"{text!r} is no host, address or network") from None
        return AllowedHost(name=host.removesuffix("."), port=number)


@dataclass(frozen=True, slots=True)
class FetchGuard:
    """Decides what may be fetched.

    allow: hosts and networks that are reached although they are not public.
    only: where given, no other hosts are reached; they still have to be public or allowed.
    """

    allow: tuple[AllowedHost, ...] = ()
    only: tuple[AllowedHost, ...] = ()
    lookup: AddressLookup = field(default=look_up_addresses)

    def check(self, link: FetchURL) -> None:
        """Raises FetchError for a link whose host or port is refused, before any lookup."""
        if self.only and not any(place.matches(link) for place in self.only):
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
        """The addresses to connect to, each of them checked. Raises FetchError."""
        self.check(link)
        if link.address is not None:
            return [str(link.address)]
        try:
            found = await self.lookup(link.host)
        except OSError:
            found = ()
        if not found:
            raise FetchError(f"there is no host {link.host}; check the spelling")
        self.check_addresses(link, found)
        return found

    def check_addresses(self, link: FetchURL, addresses: Sequence[str]) -> None:
        """Raises FetchError if one of the addresses of a link's name is refused."""
        for text in addresses:
            self._check_address(link, ip_address(text.partition("%")[0]))

    def _is_allowed(self, link: FetchURL) -> bool:
        return any(place.matches(link) for place in self.allow)

    def _check_address(self, link: FetchURL, address: IPAddress) -> None:
        if any(place.matches_address(address, link.port) for place in self.allow):
            return
        named = self._is_allowed(link) and link.address is None
        if not is_public(address) and (not named or is_metadata(address)):
            leads = "" if link.address is not None else f" (it leads to {address})"
            raise FetchError(
                f"{link.host} is not in the public internet{leads}; only public hosts are fetched"
            )


def _is_private(name: str) -> bool:
    """Whether a name is one of private networks, or spells a refused address out."""
    if "." not in name:
        return True
    labels = name.split(".")
    if any(".".join(labels[start:]) in _PRIVATE_NAMES for start in range(len(labels))):
        return True
    addresses = [_parse_ipv4(".".join(found)) for found in _SPELLED_ADDRESS.findall(name)]
    addresses += [IPv4Address(int(found, 16)) for found in _SPELLED_HEX.findall(name)]
    return any(address is not None and not is_public(address) for address in addresses)


def _parse_ipv4(text: str) -> IPv4Address | None:
    """The address, or None for what looks more like a version: 0.1.2.3."""
    try:
        address = IPv4Address(text)
    except ValueError:
        return None
    return None if text.startswith("0.") and int(address) else address
