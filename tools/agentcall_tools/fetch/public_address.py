"""Which addresses lie in the public internet.

Rules, from the IANA registries of special-purpose addresses (RFC 6890 and what updated it):
1. IPv4 is public outside `_SPECIAL_4`. The list is our own, as Python's differs by version.
2. IPv6 is public inside 2000::/3 alone, and there outside `_SPECIAL_6`: 6to4, Teredo and the
   documentation blocks are not.
3. An IPv6 address that carries an IPv4 address is as public as that one: mapped (::ffff:0:0/96),
   NAT64 (64:ff9b::/96, which DNS gives for public hosts in networks without IPv4) and ISATAP.
4. Where a cloud keeps its machines' credentials is refused however it is written, also behind a
   NAT64 prefix that nobody has registered (RFC 6052 says where the IPv4 address then stands).
"""

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import TypeAlias

IPAddress: TypeAlias = IPv4Address | IPv6Address
IPNetwork: TypeAlias = IPv4Network | IPv6Network

_SPECIAL_4 = tuple(
    IPv4Network(text)
    for text in (
        "0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16",
        "172.16.0.0/12", "192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16",
        "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4",
    )
)  # fmt: skip
_GLOBAL_6 = IPv6Network("2000::/3")
_SPECIAL_6 = tuple(
    IPv6Network(text) for text in ("2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20")
)
_NAT64 = IPv6Network("64:ff9b::/96")
_ISATAP = (b"\x00\x00\x5e\xfe", b"\x02\x00\x5e\xfe")
_EMBEDDED_POSITIONS = (
    (12, 13, 14, 15), (9, 10, 11, 12), (7, 9, 10, 11), (6, 7, 9, 10), (5, 6, 7, 9),
             (4, 5, 6, 7), (2, 3, 4, 5))  # fmt: skip
_METADATA_ADDRESSES = frozenset(
    ip_address(text)
    for text in (
        "169.254.169.254",  # AWS, Google, Azure, Oracle, DigitalOcean, Hetzner, IBM, OpenStack
        "169.254.170.2", "169.254.170.23",  # AWS: tasks of ECS, pods of EKS
        "168.63.129.16",  # Azure, an address that is otherwise public
        "100.100.100.200",  # Alibaba
        "192.0.0.192",  # Oracle
        "169.254.42.42",  # Scaleway
        "169.254.0.23",  # Tencent
        "fd00:ec2::254", "fd00:ec2::23", "fd20:ce::254", "fd00:42::42",
    )
)  # fmt: skip


def is_public(address: IPAddress) -> bool:
    """Whether the address is one of the public internet."""
    if is_metadata(address):
        return False
    if isinstance(address, IPv4Address):
        return not any(address in network for network in _SPECIAL_4)
    inner = find_inner_address(address)
    if inner is not None and not is_public(inner):
        return False
    if address.ipv4_mapped is not None or address in _NAT64:
        return True
    return address in _GLOBAL_6 and not any(address in network for network in _SPECIAL_6)


def is_metadata(address: IPAddress) -> bool:
    """Whether a cloud hands out a machine's credentials there, or an IPv6 address leads there."""
    if isinstance(address, IPv4Address):
        return address in _METADATA_ADDRESSES
    bare = IPv6Address(address.packed)  # without a zone, which is part of equality
    if bare in _METADATA_ADDRESSES or (
        bare.teredo is not None and bare.teredo[1] in _METADATA_ADDRESSES
    ):
        return True
    packed = bare.packed
    places = (IPv4Address(bytes(packed[i] for i in place)) for place in _EMBEDDED_POSITIONS)
    return any(place in _METADATA_ADDRESSES for place in places)


def find_inner_address(address: IPv6Address) -> IPv4Address | None:
    """The IPv4 address that an IPv6 address stands for, where the form of it says so."""
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    if address in _NAT64 or address.packed[8:12] in _ISATAP:
        return IPv4Address(address.packed[12:])
    return None
