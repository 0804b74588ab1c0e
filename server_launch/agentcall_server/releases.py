"""Versions of LMDeploy, and what a command line may hold on each.

The dates are those of the flags in all releases from 0.5.3 to 0.18.0.
"""

from __future__ import annotations

import re
from collections.abc import Container
from importlib.metadata import PackageNotFoundError, version
from typing import NamedTuple

from agentcall_server.errors import BadValue


class LMDeployRelease(NamedTuple):
    """A version that can be compared."""

    major: int
    minor: int
    patch: int = 0

    def __str__(self) -> str:
        return f"{self.major}.{self.minor}.{self.patch}"


NEWEST_RELEASE = LMDeployRelease(0, 18)
"""The newest release that the figures were read in."""
OLDEST_RELEASE = LMDeployRelease(0, 5, 3)
_FLAG_RELEASES = {
    "--max-prefill-token-num": LMDeployRelease(0, 6),
    "--tool-call-parser": LMDeployRelease(0, 7, 2),
    "--hf-overrides": LMDeployRelease(0, 9, 2),
    "--logprobs-mode": LMDeployRelease(0, 10),
    "--trust-remote-code": LMDeployRelease(0, 13),
}


def parse_release(text: str) -> LMDeployRelease:
    """The release that a version names. Raises BadValue.

    >>> read_release("v0.10.2.post1")
    Release(major=0, minor=10, patch=2)
    """
    found = re.match(r"v?(\d+)\.(\d+)(?:\.(\d+))?", text.strip())
    if found is None:
        raise BadValue(f"{text!r} is no version of LMDeploy; write 0.18.0")
    release = LMDeployRelease(int(found[1]), int(found[2]), int(found[3] or 0))
    if release < OLDEST_RELEASE:
        raise BadValue(
            f"LMDeploy {release} is older than {OLDEST_RELEASE}, the oldest that is known here"
        )
    return release


def find_installed_release() -> LMDeployRelease | None:
    """The LMDeploy beside this Python, or None."""
    try:
        return parse_release(version("lmdeploy"))
    except (PackageNotFoundError, BadValue):
        return None


def has_flag(release: LMDeployRelease, flag: str) -> bool:
    """Whether `lmdeploy serve api_server` of this release takes the flag."""
    return release >= _FLAG_RELEASES.get(flag, OLDEST_RELEASE)


def infer_min_release(flags: Container[str]) -> LMDeployRelease:
    """The release that flags are of, or an older one that takes the same of those dated here."""
    return max(
        (since for flag, since in _FLAG_RELEASES.items() if flag in flags), default=OLDEST_RELEASE
    )
