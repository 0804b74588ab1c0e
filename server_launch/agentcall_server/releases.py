"""Versions of LMDeploy, and what a command line may hold on each.

The dates are those of the flags in all releases from 0.5.3 to 0.18.0.
"""

from __future__ import annotations

import re
from collections.abc import Container
from importlib.metadata import PackageNotFoundError, version
from typing import NamedTuple

from agentcall_server.refusals import BadValue


class Release(NamedTuple):
    """A version that can be compared."""

    major: int
    minor: int
    patch: int = 0

    def __str__(self) -> str:
        return f"{self.major}.{self.minor}.{self.patch}"


NEWEST = Release(0, 18)
"""The newest release that the figures were read in."""
OLDEST = Release(0, 5, 3)
_SINCE = {
    "--max-prefill-token-num": Release(0, 6),
    "--tool-call-parser": Release(0, 7, 2),
    "--hf-overrides": Release(0, 9, 2),
    "--logprobs-mode": Release(0, 10),
    "--trust-remote-code": Release(0, 13),
}


def read_release(text: str) -> Release:
    """The release that a version names. Raises BadValue.

    >>> read_release("v0.10.2.post1")
    Release(major=0, minor=10, patch=2)
    """
    found = re.match(r"v?(\d+)\.(\d+)(?:\.(\d+))?", text.strip())
    if found is None:
        raise BadValue(f"{text!r} is no version of LMDeploy; write 0.18.0")
    release = Release(int(found[1]), int(found[2]), int(found[3] or 0))
    if release < OLDEST:
        raise BadValue(f"LMDeploy {release} is older than {OLDEST}, the oldest that is known here")
    return release


def installed_release() -> Release | None:
    """The LMDeploy beside this Python, or None."""
    try:
        return read_release(version("lmdeploy"))
    except (PackageNotFoundError, BadValue):
        return None


def has_flag(release: Release, flag: str) -> bool:
    """Whether `lmdeploy serve api_server` of this release takes the flag."""
    return release >= _SINCE.get(flag, OLDEST)


def least_release(flags: Container[str]) -> Release:
    """The release that flags are of, or an older one that takes the same of those dated here."""
    return max((since for flag, since in _SINCE.items() if flag in flags), default=OLDEST)
