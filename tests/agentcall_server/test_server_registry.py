"""The folders of launched servers."""

from __future__ import annotations

import os
import stat
from dataclasses import replace
from pathlib import Path

import pytest

from agentcall_server.diagnosis import Diagnosis
from agentcall_server.errors import ServerNotRunning
from agentcall_server.launch import Launch
from agentcall_server.processes import ProcessIdentity, identify_process
from agentcall_server.server_registry import (
    ServerEntry,
    Status,
    Wanted,
    find_by_port,
    find_entry,
    find_last_launch,
    get_state_folder,
    list_entries,
    open_entry,
)

WANTED = Wanted(
    kind="lmdeploy",
    model="internlm/internlm2_5-7b-chat",
    command=("lmdeploy",),
    folder="/",
    host="0.0.0.0",
    port=45123,
    scheme="http",
    has_key=True,
    leashed=False,
    patience=60.0,
)
GONE = ProcessIdentity(2**22 + 1, "1", "1")


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("AGENTCALL_STATE", str(tmp_path / "state"))
    return tmp_path / "state"


def me() -> ProcessIdentity:
    found = identify_process(os.getpid())
    assert found is not None
    return found


def kept(name: str, status: Status | None = None, wanted: Wanted = WANTED) -> ServerEntry:
    one = open_entry(name)
    one.save(Launch(wanted.model))
    one.save(wanted)
    if status is not None:
        one.save(status)
    return one


def ready() -> Status:
    return Status("ready", me(), 1.0, server=me(), model="/models/internlm2_5-7b-chat")


def test_the_state_is_where_the_user_wants_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AGENTCALL_STATE")
    monkeypatch.setenv("XDG_STATE_HOME", "/x")
    assert get_state_folder() == Path("/x/agentcall")
    monkeypatch.delenv("XDG_STATE_HOME")
    assert get_state_folder() == Path.home() / ".local" / "state" / "agentcall"


def test_facts_come_back_as_they_were_kept() -> None:
    status = replace(ready(), diagnosis=Diagnosis("port", "taken", "stop it"), restarts=3)
    one = kept("a", status)
    assert (one.launch, one.wanted, one.status) == (Launch(WANTED.model), WANTED, status)
    assert [each.name for each in list_entries()] == ["a"]


def test_a_server_whose_supervisor_lives_is_up() -> None:
    one = kept("a", ready())
    assert one.is_up
    assert one.is_ready
    assert one.orphan is None


@pytest.mark.parametrize("change", [{"started": "1"}, {"boot": "another"}])
def test_after_a_reboot_or_with_an_id_of_somebody_else_it_is_not(change: dict[str, str]) -> None:
    one = kept("a", replace(ready(), supervisor=replace(me(), **change), server=GONE))
    assert not one.is_up
    assert not one.is_ready
    assert one.orphan is None


def test_a_server_that_outlived_its_supervisor_is_a_stray() -> None:
    assert kept("a", replace(ready(), supervisor=GONE)).orphan == me()


@pytest.mark.parametrize("text", ["", "{", "[]", '{"phase": "odd"}', '{"phase": "ready"}'])
def test_a_status_that_cannot_be_read_is_none(text: str) -> None:
    one = kept("a")
    (one.folder / "status.json").write_text(text)
    assert one.status is None
    assert not one.is_up


def test_a_key_is_for_this_user_alone_and_stays_the_same() -> None:
    one = kept("a")
    assert one.read_key() == ""
    one.ensure_key()
    key = one.read_key()
    assert len(key) > 30
    assert stat.S_IMODE(one.key_file.stat().st_mode) == 0o600
    assert stat.S_IMODE(one.folder.stat().st_mode) == 0o700
    one.key_file.chmod(0o644)
    one.ensure_key()
    assert one.read_key() == key
    assert stat.S_IMODE(one.key_file.stat().st_mode) == 0o600
    assert key not in repr(one.endpoint)
    assert one.endpoint.key == key


def test_a_key_of_your_own_is_taken() -> None:
    one = kept("a")
    one.key_file.write_text("my-own-key\n")
    one.ensure_key()
    assert one.read_key() == "my-own-key"


@pytest.mark.parametrize(
    "name", ["a", "internlm2_5-7b-chat", "InternLM2_5-7B-Chat", "internlm/internlm2_5-7b-chat"]
)
def test_a_server_is_found_by_its_name_or_its_models(name: str) -> None:
    kept("a", ready())
    found = find_entry(name)
    assert found is not None
    assert found.name == "a"
    assert find_entry("b") is None


def test_one_that_is_up_comes_before_one_that_only_has_the_name() -> None:
    kept("internlm2_5-7b-chat", replace(ready(), supervisor=GONE, phase="stopped"))
    kept("b", ready())
    found = find_entry("internlm2_5-7b-chat")
    assert found is not None
    assert found.name == "b"


def test_the_server_on_a_port_is_the_one_that_is_up() -> None:
    kept("a", replace(ready(), supervisor=GONE))
    assert find_by_port(45123) is None
    kept("b", ready())
    found = find_by_port(45123)
    assert found is not None
    assert found.name == "b"


def test_a_launch_is_recalled_by_the_servers_name() -> None:
    kept("a")
    assert find_last_launch("a") == Launch(WANTED.model)
    assert find_last_launch("b") is None


def test_a_door_of_a_server_that_never_was_is_an_error() -> None:
    with pytest.raises(ServerNotRunning, match="no server 'a'"):
        _ = open_entry("a").endpoint


def test_an_address_is_written_as_seen_from_here() -> None:
    assert WANTED.root == "http://127.0.0.1:45123"
    assert replace(WANTED, host="::", scheme="https").root == "https://[::1]:45123"
