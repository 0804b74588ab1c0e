"""Releases of LMDeploy and the flags of each, read in all releases from 0.5.3 to 0.18.0."""

from __future__ import annotations

import re
from collections.abc import Container
from importlib.metadata import PackageNotFoundError, version
from typing import NamedTuple

from agentcall_server.errors import BadValue


class LMDeployRelease(NamedTuple):
    """A comparable version."""

    major: int
    minor: int
    patch: int = 0

    def __str__(self) -> str:
        return f"{self.major}.{self.minor}.{self.patch}"


NEWEST_RELEASE = LMDeployRelease(0, 18)
"""The newest release whose source was read."""
OLDEST_RELEASE = LMDeployRelease(0, 5, 3)
_FLAG_RELEASES = {
    "--max-prefill-token-num": LMDeployRelease(0, 6),
    "--tool-call-parser": LMDeployRelease(0, 7, 2),
    "--hf-overrides": LMDeployRelease(0, 9, 2),
    "--logprobs-mode": LMDeployRelease(0, 10),
    "--trust-remote-code": LMDeployRelease(0, 13),
}


def parse_release(text: str) -> LMDeployRelease:
    """Return the release of a version. Raises BadValue.

    >>> parse_release("v0.10.2.post1")
    LMDeployRelease(major=0, minor=10, patch=2)
    """
    match = re.match(r"v?(\d+)\.(\d+)(?:\.(\d+))?", text.strip())
    if match is None:
        raise BadValue(f"{text!r} is not a version of LMDeploy; write 0.18.0")
    release = LMDeployRelease(int(match[1]), int(match[2]), int(match[3] or 0))
    if release < OLDEST_RELEASE:
        raise BadValue(
            f"LMDeploy {release} is older than {OLDEST_RELEASE}, the oldest supported release"
        )
    return release


def find_installed_release() -> LMDeployRelease | None:
    """Return the release that is installed in this Python, or None."""
    try:
        return parse_release(version("lmdeploy"))
    except (PackageNotFoundError, BadValue):
        return None


def has_flag(release: LMDeployRelease, flag: str) -> bool:
    """Return whether `lmdeploy serve api_server` of this release has the flag."""
    return release >= _FLAG_RELEASES.get(flag, OLDEST_RELEASE)


def infer_min_release(flags: Container[str]) -> LMDeployRelease:
    """Return the oldest release with those of the flags whose first release is known."""
    return max(
        (since for flag, since in _FLAG_RELEASES.items() if flag in flags), default=OLDEST_RELEASE
    )
