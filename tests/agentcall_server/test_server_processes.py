"""The identity of a process: its ID, start time and boot."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace

from agentcall_server.processes import ProcessIdentity, identify_process


def test_a_process_that_runs_is_known_again() -> None:
    me = identify_process(os.getpid())
    assert me is not None
    assert me.pid == os.getpid()
    assert me.is_alive
    assert me == identify_process(os.getpid())


def test_a_process_that_has_ended_is_nobody_even_while_its_parent_has_not_asked() -> None:
    child = subprocess.Popen([sys.executable, "-c", ""], stdout=subprocess.PIPE)
    known = identify_process(child.pid)
    assert child.stdout is not None
    child.stdout.read()  # it has closed its output
    child.stdout.close()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert identify_process(child.pid) is None
    assert known is not None
    assert not known.is_alive
    child.wait()


def test_an_id_that_was_given_out_again_is_another_process() -> None:
    me = identify_process(os.getpid())
    assert me is not None
    assert not replace(me, started="1").is_alive


def test_after_a_reboot_nobody_is_alive() -> None:
    me = identify_process(os.getpid())
    assert me is not None
    assert not replace(me, boot="another").is_alive


def test_an_id_that_nobody_has_is_nobody() -> None:
    assert identify_process(2**22 + 1) is None
    assert not ProcessIdentity(2**22 + 1, "1", "1").is_alive
