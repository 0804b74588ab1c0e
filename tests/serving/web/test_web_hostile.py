"""Hostile clients at `agentcall web`, and a good one."""

from __future__ import annotations

from test_hostile_clients import check

from benchmarks.hostile.__main__ import measure_attack
from benchmarks.hostile.servers import SERVERS


def test_a_good_client_of_the_page_is_answered_while_others_stall_and_attack() -> None:
    check(measure_attack(SERVERS["web"], 8), opens=True)
