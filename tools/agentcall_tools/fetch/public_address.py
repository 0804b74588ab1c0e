"""Whether an IP address is public.

Rules, from the IANA registries of special-purpose addresses (RFC 6890 and its updates):
1. IPv4 is public outside `_SPECIAL_4`. The list is our own, as Python's differs by version.
2. IPv6 is public only inside 2000::/3, and there outside `_SPECIAL_6`: 6to4, Teredo and the
   documentation blocks are not public.
3. An IPv6 address that contains an IPv4 address is public if that one is: mapped (::ffff:0:0/96),
   NAT64 (64:ff9b::/96, which DNS returns for public hosts in networks without IPv4) and ISATAP.
4. The metadata addresses of clouds, which have credentials, are refused in every form, including
   any NAT64 prefix (RFC 6052 has the positions of the IPv4 address).
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
    """Return whether the address is public."""
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
    """Return whether the address is, or contains, the metadata address of a cloud."""
    if isinstance(address, IPv4Address):
        return address in _METADATA_ADDRESSES
    bare = IPv6Address(address.packed)  # without a zone, which `==` compares, too
    if bare in _METADATA_ADDRESSES or (
        bare.teredo is not None and bare.teredo[1] in _METADATA_ADDRESSES
    ):
        return True
    packed = bare.packed
    embedded = (IPv4Address(bytes(packed[i] for i in indices)) for indices in _EMBEDDED_POSITIONS)
    return any(inner in _METADATA_ADDRESSES for inner in embedded)


def find_inner_address(address: IPv6Address) -> IPv4Address | None:
    """Return the IPv4 address in a mapped, NAT64 or ISATAP address, or None."""
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    if address in _NAT64 or address.packed[8:12] in _ISATAP:
        return IPv4Address(address.packed[12:])
    return None
