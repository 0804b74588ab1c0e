"""Sizes in bytes and counts of tokens, as people write them and as they are shown.

A bare number is refused: 24 GB is 22.35 GiB, and a card sold as "24 GB" has 24 GiB. What is shown
is always GiB or MiB, with its unit.
"""

from __future__ import annotations

import re

from agentcall_server.errors import BadValue

KIB, MIB, GIB, TIB = (1 << shift for shift in (10, 20, 30, 40))
_SIZES = {
    "mib": MIB,
    "gib": GIB,
    "tib": TIB,
    "mb": 10**6,
    "gb": 10**9,
    "tb": 10**12,
}
_COUNTS = {"": 1, "k": KIB, "m": MIB}
_NUMBER_WITH_UNIT = re.compile(r"(\d+(?:\.\d+)?)\s*([a-z]*)", re.IGNORECASE)


def parse_size(text: str) -> int:
    """Bytes of a size such as 24GiB, 24576MiB or 24GB (a billion bytes each). Raises BadValue.

    >>> parse_size("24GiB") == 24 * 2**30
    True
    """
    number, unit = _parse_number(text)
    if not unit:
        raise BadValue(
            f"{text!r} has no unit; write {text.strip()}GiB (what nvidia-smi shows as "
            f"{number * 1024:g}MiB) or {text.strip()}GB ({format_size(int(number * 10**9))})"
        )
    if unit not in _SIZES:
        raise BadValue(f"{text!r} is no size; write 24GiB, 24576MiB or 24GB")
    size = int(number * _SIZES[unit])
    if size <= 0:
        raise BadValue(f"{text!r} is no memory; write 24GiB, 24576MiB or 24GB")
    return size


def parse_count(text: str) -> int:
    """Tokens of a count such as 32768, 32k (1024 each) or 1m (1024 k). Raises BadValue.

    >>> parse_count("32k")
    32768
    """
    number, unit = _parse_number(text)
    if unit not in _COUNTS:
        raise BadValue(f"{text!r} is no count of tokens; write 32768, 32k or 1m")
    count = int(number * _COUNTS[unit])
    if count <= 0:
        raise BadValue(f"{text!r} is no count of tokens; write 32768, 32k or 1m")
    return count


def format_size(size: float) -> str:
    """A size in GiB, or in MiB below a tenth of one.

    >>> shown(15_475_417_088)
    '14.41 GiB'
    """
    if abs(size) < GIB / 10:
        return f"{size / MIB:.1f} MiB"
    return f"{size / GIB:.2f} GiB"


def _parse_number(text: str) -> tuple[float, str]:
    found = _NUMBER_WITH_UNIT.fullmatch(text.strip())
    if found is None:
        raise BadValue(f"{text!r} is no number with a unit; write 24GiB for memory, 32k for tokens")
    return float(found[1]), found[2].lower()
