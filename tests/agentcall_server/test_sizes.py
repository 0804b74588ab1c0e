"""Sizes, counts and releases: parsed and formatted."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rows import each_row

from agentcall_server.errors import BadValue
from agentcall_server.releases import NEWEST_RELEASE, LMDeployRelease, has_flag, parse_release
from agentcall_server.units import GIB, format_size, parse_count, parse_size


@each_row(
    ("text", "size"),
    [
        ("24GiB", 24 * GIB),
        ("24 gib", 24 * GIB),
        ("24564MiB", 24564 << 20),
        ("0.5TiB", GIB * 512),
        ("24GB", 24 * 10**9),
    ],
)
def test_a_size_has_a_unit(text: str, size: int) -> None:
    assert parse_size(text) == size


def test_a_size_without_a_unit_is_refused_with_both_readings() -> None:
    with pytest.raises(BadValue, match=r"write 24GiB .* or 24GB \(22\.35 GiB\)"):
        parse_size("24")


@each_row("text", ["", "GiB", "-1GiB", "0GiB", "24GiBs", "24 GiB free", "1e9GiB"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(BadValue, match="24GiB"):
        parse_size(text)


@pytest.mark.parametrize(("text", "count"), [("32k", 32768), ("1m", 1 << 20), ("1000", 1000)])
def test_tokens_are_counted_in_binary_thousands(text: str, count: int) -> None:
    assert parse_count(text) == count


@each_row("text", ["", "0", "-1", "32kb", "many"])
def test_what_is_no_count_is_refused(text: str) -> None:
    with pytest.raises(BadValue, match="32k"):
        parse_count(text)


@given(st.integers(0, 1 << 50))
def test_what_is_shown_can_be_read_again(size: int) -> None:
    text = format_size(size)
    assert text.endswith((" GiB", " MiB"))
    step = GIB if text.endswith("GiB") else 1 << 20
    if float(text.split()[0]) > 0:
        assert abs(parse_size(text) - size) <= step * 0.051


@pytest.mark.parametrize(
    ("text", "release"),
    [
        ("0.5.3", LMDeployRelease(0, 5, 3)),
        ("v0.18.0", NEWEST_RELEASE),
        ("0.19", LMDeployRelease(0, 19)),
    ],
)
def test_a_release_is_read(text: str, release: LMDeployRelease) -> None:
    assert parse_release(text) == release


@pytest.mark.parametrize("text", ["new", "", "0.4.2"])
def test_what_is_no_known_release_is_refused(text: str) -> None:
    with pytest.raises(BadValue):
        parse_release(text)


def test_flags_came_one_after_the_other() -> None:
    # the first releases that have them, read in all releases from 0.5.3 to 0.18.0
    assert has_flag(LMDeployRelease(0, 7, 2), "--tool-call-parser")
    assert not has_flag(LMDeployRelease(0, 7, 1), "--tool-call-parser")
    assert has_flag(LMDeployRelease(0, 13), "--trust-remote-code")
    assert not has_flag(LMDeployRelease(0, 12, 3), "--trust-remote-code")
