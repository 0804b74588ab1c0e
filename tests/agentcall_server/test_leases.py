from __future__ import annotations

import json
import os
import socket
import stat
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from agentcall_server.leases import Lease, LeaseLost, LeaseServer, ServerState, load_state

WAIT = 20.0


class Shared:
    """A lease server in this process, which records what it was asked to read, and its end."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, keep_alive: float = 0.0) -> None:
        monkeypatch.setattr("agentcall_server.leases.START_SECONDS", WAIT)
        self.prompts: list[object] = []
        self.ended = threading.Event()
        self.server = LeaseServer(keep_alive, self._read, self.ended.set)
        self.state = ServerState(os.getpid(), self.server.port, self.server.key, "flags", "log")

    def _read(self, messages: object, report: Callable[[int, int], None]) -> None:
        if messages not in self.prompts:
            self.prompts.append(messages)
            report(3, 9)
            report(9, 9)

    def lease(self, keep_alive: float = 0.0) -> Lease:
        return Lease(self.state, keep_alive)

    def wait_for_holders(self, count: int) -> None:
        """Wait until the server, which has a thread for each holder, knows of so many."""
        for _ in range(2000):
            if self.server._count == count:
                return
            time.sleep(0.01)
        raise AssertionError(f"{self.server._count} programs hold the server, not {count}")


@pytest.fixture
def shared(monkeypatch: pytest.MonkeyPatch) -> Iterator[Shared]:
    shared = Shared(monkeypatch)
    yield shared
    shared.server.announce({})


def test_a_server_ends_when_its_last_lease_does(shared: Shared) -> None:
    shared.server.announce({"port": 1})
    one, other = shared.lease(), shared.lease()
    assert one.wait_until_ready() == other.wait_until_ready() == {"port": 1}
    one.close()
    assert not shared.ended.wait(0.7)
    assert other.is_held
    other.close()
    assert shared.ended.wait(WAIT)
    with pytest.raises(LeaseLost):
        shared.lease()


def test_the_last_holder_decides_how_long_the_server_waits(shared: Shared) -> None:
    shared.server.announce({"port": 1})
    first, kept = shared.lease(keep_alive=0.0), shared.lease(keep_alive=60.0)
    kept.wait_until_ready()  # the server knows of both
    first.close()
    shared.wait_for_holders(1)
    kept.close()
    assert not shared.ended.wait(0.7)
    shared.lease(keep_alive=0.0).close()
    assert shared.ended.wait(WAIT)


def test_a_retired_server_ends_however_long_it_was_to_be_kept(shared: Shared) -> None:
    shared.server.announce({"port": 1})
    user, other = shared.lease(keep_alive=60.0), shared.lease(keep_alive=60.0)
    other.retire()
    other.close()
    assert not shared.ended.wait(0.7)
    user.close()
    assert shared.ended.wait(WAIT)


def test_a_lease_waits_until_the_model_is_loaded(shared: Shared) -> None:
    lease = shared.lease()
    threading.Timer(0.3, shared.server.announce, [{"failed": "model", "why": "cut"}]).start()
    assert lease.wait_until_ready() == {"failed": "model", "why": "cut"}
    lease.close()


def test_a_prompt_is_read_once_with_its_progress(shared: Shared) -> None:
    shared.server.announce({"port": 1})
    lease = shared.lease()
    lease.wait_until_ready()
    messages = [{"role": "system", "content": "Be brief."}]
    assert list(lease.read_prompt(messages)) == [(3, 9), (9, 9)]
    assert list(lease.read_prompt(messages)) == []
    assert shared.prompts == [messages]
    lease.close()


def test_a_program_without_the_key_gets_no_lease(shared: Shared) -> None:
    shared.server.announce({"port": 1})
    stranger = ServerState(1, shared.server.port, "another key", "flags", "log")
    with pytest.raises(LeaseLost):
        Lease(stranger, 0.0)
    with socket.create_connection(("127.0.0.1", shared.server.port), WAIT) as connection:
        connection.sendall(b"not JSON\n")
        assert connection.recv(100) == b""


def test_another_program_on_the_port_gets_no_prompt() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        state = ServerState(1, listener.getsockname()[1], "key", "flags", "log")

        def answer() -> None:
            connection, _ = listener.accept()
            with connection:
                hello = json.loads(connection.makefile().readline())
                assert "key" not in hello.values()
                connection.sendall(json.dumps({"proof": hello["proof"]}).encode() + b"\n")

        thread = threading.Thread(target=answer)
        thread.start()
        with pytest.raises(LeaseLost, match="another program listens"):
            Lease(state, 0.0)
        thread.join(WAIT)


def test_only_this_user_can_read_the_state_file(tmp_path: Path) -> None:
    file = tmp_path / "servers" / "model.json"
    state = ServerState(12, 34567, "secret", "flags", "log")
    state.save(file)
    assert load_state(file) == state
    assert "secret" not in repr(state)
    if os.name == "posix":
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"pid": "x", "lease_port": 1}'])
def test_a_damaged_state_file_is_no_server(tmp_path: Path, text: str) -> None:
    (tmp_path / "model.json").write_text(text)
    assert load_state(tmp_path / "model.json") is None
