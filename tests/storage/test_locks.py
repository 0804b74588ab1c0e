"""Locks on files: one holder, gone with its process, and not passed on to a forked child."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from agentcall.storage.locks import FileLock, LeaseOwner, describe_lock_holder

HOLD = """
import sys
from pathlib import Path
from agentcall.storage.locks import FileLock, LeaseOwner
lock = FileLock.try_acquire(Path(sys.argv[1]))
print(LeaseOwner(Path(sys.argv[2])).create_lease(), flush=True)
sys.stdin.read()
"""


def test_a_lock_has_one_holder_and_leaves_no_file(tmp_path: Path) -> None:
    path = tmp_path / "x.lock"
    lock = FileLock.try_acquire(path)
    assert lock is not None
    assert FileLock.try_acquire(path) is None
    assert describe_lock_holder(path) == f"process {os.getpid()} (this one)"
    lock.release()
    lock.release()  # harmless
    assert not path.exists()
    with pytest.raises(FileNotFoundError):
        FileLock.try_acquire(path, create=False)


def test_a_lock_and_a_lease_go_with_a_process_that_is_killed(tmp_path: Path) -> None:
    path, base = tmp_path / "x.lock", tmp_path / "runs.db"
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path), str(base)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        lease = process.stdout.readline().strip()
        owner = LeaseOwner(base)
        assert FileLock.try_acquire(path) is None
        assert owner.is_lease_alive(lease) is True
        process.send_signal(signal.SIGKILL)
    assert owner.is_lease_alive(lease) is False
    assert owner.is_lease_alive(lease) is None  # its file has been removed
    lock = FileLock.try_acquire(path)
    assert lock is not None
    lock.release()
    owner.close()
    assert list(tmp_path.iterdir()) == []


def test_a_dead_owner_of_several_leases_stays_known_where_it_may_be_elsewhere(
    tmp_path: Path,
) -> None:
    base = tmp_path / "runs"
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path / "x.lock"), str(base)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        lease = process.stdout.readline().strip()
        process.send_signal(signal.SIGKILL)
    for owner in (LeaseOwner(base, keep_seconds=60), LeaseOwner(base, keep_seconds=60)):
        assert [owner.is_lease_alive(lease) for _ in range(2)] == [False, False]
        owner.close()
    (file,) = tmp_path.glob("runs-runner-*")
    os.utime(file, (0, 0))
    LeaseOwner(base, keep_seconds=60).close()
    assert list(tmp_path.glob("runs-runner-*")) == []


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_neither_holds_nor_releases_the_lock_of_its_parent(tmp_path: Path) -> None:
    path = tmp_path / "x.lock"
    lock = FileLock.try_acquire(path)
    assert lock is not None
    child = os.fork()
    if child == 0:
        lock.release()
        signal.pause()
        os._exit(0)
    try:
        assert FileLock.try_acquire(path) is None
        assert path.exists()
        lock.release()
        again = FileLock.try_acquire(path)
        assert again is not None
        again.release()
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
