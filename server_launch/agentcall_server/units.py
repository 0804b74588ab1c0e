"""Sizes in bytes, numbers of tokens and durations: parsed from options and formatted for output.

A number without a unit is rejected: 24 GB is 22.35 GiB, and a card sold as "24 GB" has 24 GiB.
Output is always in GiB or MiB, with its unit.
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
_DURATIONS = {"": 1, "s": 1, "m": 60, "h": 3600}
_COUNTS = {"": 1, "k": KIB, "m": MIB}
_NUMBER_WITH_UNIT = re.compile(r"(\d+(?:\.\d+)?)\s*([a-z]*)", re.IGNORECASE)


def parse_size(text: str) -> int:
    """Return the bytes of a size such as 24GiB, 24576MiB or 24GB (10^9 bytes). Raises BadValue.

    >>> parse_size("24GiB") == 24 * 2**30
    True
    """
    number, unit = _parse_number(text)
    if not unit:
        raise BadValue(
            f"{text!r} has no unit; write {text.strip()}GiB (what nvidia-smi shows as "
            f"{number * 1024:g}MiB) or {text.strip()}GB ({format_size(int(number * 10**9))})"
        )
    size = int(number * _SIZES.get(unit, 0))
    if size <= 0:
        raise BadValue(f"{text!r} is not a size; write 24GiB, 24576MiB or 24GB")
    return size


def parse_count(text: str) -> int:
    """Return the tokens of 32768, 32k (1024 each) or 1m (1024 k). Raises BadValue.

    >>> parse_count("32k")
    32768
    """
    number, unit = _parse_number(text)
    count = int(number * _COUNTS.get(unit, 0))
    if count <= 0:
        raise BadValue(f"{text!r} is not a number of tokens; write 32768, 32k or 1m")
    return count


def parse_duration(text: str) -> float:
    """Return the seconds of 5m, 300s, 1h or 300. Raises BadValue.

    >>> parse_duration("5m")
    300.0
    """
    match = _NUMBER_WITH_UNIT.fullmatch(text.strip())
    unit = match[2].lower() if match else ""
    if match is None or unit not in _DURATIONS:
        raise BadValue(f"{text!r} is not a duration; write 5m, 300s, 1h, or 0")
    return float(match[1]) * _DURATIONS[unit]


def format_size(size: float) -> str:
    """Return a size in GiB, or in MiB below 0.1 GiB.

    >>> format_size(15_475_417_088)
    '14.41 GiB'
    """
    if abs(size) < GIB / 10:
        return f"{size / MIB:.1f} MiB"
    return f"{size / GIB:.2f} GiB"


def _parse_number(text: str) -> tuple[float, str]:
    match = _NUMBER_WITH_UNIT.fullmatch(text.strip())
    if match is None:
        raise BadValue(
            f"{text!r} is not a number with a unit; write 24GiB for memory, 32k for tokens"
        )
    return float(match[1]), match[2].lower()
