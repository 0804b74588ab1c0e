"""Hostile clients at the real commands: what they get, and that a good one is always answered."""

from __future__ import annotations

import pytest

from benchmarks.hostile.__main__ import Report, measure_attack
from benchmarks.hostile.servers import SERVERS

REFUSED = {"400", "403", "404", "413", "415", "422", "503", "ended", "still open", "cut short"}


def check(report: Report, *, opens: bool = False) -> None:
    """The good client got its answers, and the others nothing.

    opens: whether the attackers may see the first page, which anybody on this machine may.
    """
    assert report.attacked.last
    assert not report.failures
    assert len(report.gained) == 13
    for attack, gained in report.gained.items():
        seen = {"200"} if opens and attack == "a cookie of odd bytes" else set[str]()
        assert set(gained) <= REFUSED | seen, attack
    assert "Traceback" not in report.log
    assert len(report.log) < 100_000


@pytest.mark.processes
def test_a_good_client_of_the_endpoint_is_answered_while_others_stall_and_attack() -> None:
    check(measure_attack(SERVERS["serve"], 8))


@pytest.mark.mcp
def test_a_good_client_of_the_mcp_server_is_answered_while_others_stall_and_attack() -> None:
    check(measure_attack(SERVERS["mcp"], 8))
