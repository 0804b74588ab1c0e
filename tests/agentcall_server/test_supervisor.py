"""The supervisor: crashes, delays, giving up, and stopping."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fake_lmdeploy import act, written
from supervised import server_of, state_in, until

from agentcall_server.errors import BadValue, NameTaken, PortTaken, ServerNotRunning, StartFailed
from agentcall_server.launch import Launch
from agentcall_server.launch_command import build_server_command
from agentcall_server.launcher import LaunchedServer, launch_server, stop_server, wait_until_ready
from agentcall_server.lmdeploy_server import LMDeployServer
from agentcall_server.processes import identify_process
from agentcall_server.progress import NoProgress
from agentcall_server.server_registry import ServerEntry, Status, list_entries
from agentcall_server.supervisor import RestartPolicy, Supervisor

pytestmark = pytest.mark.processes

HASTY = RestartPolicy(
    first_wait=0.01, max_wait=0.02, max_failures=3, check_seconds=0.05, max_unhealthy=2
)


@pytest.fixture(autouse=True)
def state(tmp_path: Path) -> Iterator[Path]:
    with state_in(tmp_path / "state") as folder:
        yield folder


@pytest.fixture
def program(tmp_path: Path) -> Path:
    return written(tmp_path / "bin", serve=True)


def launch_of(program: Path, **more: Any) -> Launch:  # Any: fields of a launch
    return replace(Launch("internlm2_5-7b-chat", template="none", lmdeploy=str(program)), **more)


def launched(program: Path, **more: Any) -> LaunchedServer:  # Any: fields of a launch
    return launch_server(launch_of(program, **more), NoProgress())


def ready(program: Path, **more: Any) -> ServerEntry:  # Any: fields of a launch
    found = launched(program, **more)
    wait_until_ready(found, NoProgress())
    return found.entry


def status_of(one: ServerEntry) -> Status:
    status = one.status
    assert status is not None
    return status


def runs(program: Path) -> list[dict[str, Any]]:
    """Every time the program ran: its words, pid and folder."""
    return [json.loads(line) for line in program.with_name("ran").read_text().splitlines()]


def lives(pid: int) -> bool:
    return identify_process(pid) is not None


class Watched:
    """A supervisor in a thread of the test, with short delays."""

    def __init__(self, program: Path, folder: Path, **more: Any) -> None:  # Any: as above
        me = identify_process(os.getpid())
        assert me is not None
        folder.mkdir(parents=True)
        self.entry = ServerEntry(folder)
        launch = launch_of(program, port=1, **more)
        wanted = build_server_command(launch, self.entry, NoProgress())
        self.entry.save(launch)
        self.entry.save(wanted)
        self.supervisor = Supervisor(self.entry, wanted, me, HASTY)
        self.outcome: bool | None = None
        self.thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        self.outcome = self.supervisor.run()

    def end(self) -> Status:
        self.thread.start()
        self.thread.join(60)
        return status_of(self.entry)


# --- one life ---


def test_a_server_comes_up_is_asked_and_stops(program: Path) -> None:
    one = ready(program)
    status = status_of(one)
    assert one.endpoint.served_models == ("internlm/internlm2_5-7b-chat",)
    assert (status.phase, status.model) == ("ready", "internlm/internlm2_5-7b-chat")
    server = server_of(one)
    stop_server(one)
    assert not server.is_alive
    assert status_of(one).phase == "stopped"
    assert not one.is_up
    with pytest.raises(ServerNotRunning, match="is not running"):
        stop_server(one)


def test_it_is_told_its_port_and_runs_in_the_folder_of_whoever_launched_it(
    program: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    one = ready(program)
    (run,) = runs(program)
    wanted = one.wanted
    assert wanted is not None
    assert run["words"][run["words"].index("--server-port") + 1] == str(wanted.port)
    assert run["cwd"] == str(tmp_path)


def test_its_workers_end_with_it(program: Path) -> None:
    act(program, serve=True, child=True)
    one = ready(program)
    worker = int(program.with_name("child").read_text())
    assert lives(worker)
    stop_server(one)
    until(lambda: not lives(worker))


def test_a_second_start_of_the_same_is_the_first(program: Path) -> None:
    one = ready(program)
    again = launched(program)
    assert (again.is_new, again.entry) == (False, one)
    assert len(runs(program)) == 1
    with pytest.raises(NameTaken, match="with other options"):
        launched(program, context=4096)


def test_two_servers_of_one_model_need_two_names(program: Path) -> None:
    first, second = ready(program), ready(program, name="second")
    assert [one.name for one in list_entries()] == ["internlm2_5-7b-chat", "second"]
    assert first.endpoint.root != second.endpoint.root


def test_a_port_that_is_taken_is_told_before_anything_is_started(program: Path) -> None:
    one = ready(program)
    wanted = one.wanted
    assert wanted is not None
    with pytest.raises(PortTaken, match="used by the server internlm2_5-7b-chat"):
        launched(program, name="b", port=wanted.port)
    with pytest.raises(BadValue, match="cannot listen there"):
        launched(program, name="c", host="192.0.2.1")
    assert len(runs(program)) == 1


# --- deaths ---


def test_a_server_that_never_was_ready_is_not_started_again(program: Path) -> None:
    act(program, say=["torch.OutOfMemoryError: CUDA out of memory. Tried 2.00 GiB."], code=1)
    found = launched(program)
    with pytest.raises(StartFailed, match="the GPU has too little memory") as failed:
        wait_until_ready(found, NoProgress())
    assert failed.value.diagnosis.cause == "memory"
    assert "agentcall server plan" in str(failed.value)
    assert str(found.entry.log) in str(failed.value)
    assert status_of(found.entry).phase == "failed"
    assert len(runs(program)) == 1


def test_the_plan_answers_where_torch_tells_of_the_gpu(program: Path) -> None:
    said = "CUDA out of memory. GPU 0 has a total capacity of 24.00 GiB of which 1.00 GiB is free."
    said += " Including non-PyTorch memory, this process has 23.00 GiB memory in use."
    act(program, say=[said], code=1)
    with pytest.raises(StartFailed, match=r"it fits with: agentcall server start .*--cache 0\.45"):
        wait_until_ready(launched(program, cache=0.4), NoProgress())


def test_a_crash_is_followed_by_a_new_start(program: Path) -> None:
    one = ready(program)
    first = server_of(one)
    os.kill(first.pid, signal.SIGKILL)
    until(lambda: status_of(one).restarts == 1 and status_of(one).phase == "ready")
    assert server_of(one) != first
    assert one.endpoint.served_models
    diagnosis = status_of(one).diagnosis
    assert diagnosis is not None
    assert "SIGKILL" in diagnosis.what


def test_one_that_dies_again_and_again_is_given_up_with_the_last_cause(
    program: Path, state: Path
) -> None:
    watched = Watched(program, state / "servers" / "x")
    watched.thread.start()
    until(lambda: watched.entry.status and status_of(watched.entry).phase == "ready")
    act(program, say=["ModuleNotFoundError: No module named 'timm'"], code=1)
    os.kill(server_of(watched.entry).pid, signal.SIGKILL)
    watched.thread.join(60)
    status = status_of(watched.entry)
    assert watched.outcome is False
    assert (status.phase, status.restarts, len(runs(program))) == ("failed", 2, 3)
    assert status.diagnosis is not None
    assert status.diagnosis.cause == "package"


def test_one_that_is_not_ready_in_time_is_ended(program: Path, state: Path) -> None:
    act(program, say=["Loading weights 40%"], hang=True)
    status = Watched(program, state / "servers" / "x", patience=1.0).end()
    assert status.diagnosis is not None
    assert status.diagnosis.cause == "hung"
    assert "Loading weights 40%" in status.diagnosis.what
    assert not lives(runs(program)[0]["pid"])


def test_one_whose_engine_is_dead_is_started_anew(program: Path, state: Path) -> None:
    watched = Watched(program, state / "servers" / "x")
    watched.thread.start()
    until(lambda: watched.entry.status and status_of(watched.entry).phase == "ready")
    act(program, serve=True, health={"status": "unhealthy", "message": "the loop died"})
    until(lambda: status_of(watched.entry).restarts)
    act(program, serve=True)
    until(lambda: status_of(watched.entry).phase == "ready")
    diagnosis = status_of(watched.entry).diagnosis
    watched.supervisor.stop()
    watched.thread.join(60)
    assert watched.outcome is True
    assert diagnosis is not None
    assert diagnosis.cause == "unwell"
    assert "the loop died" in diagnosis.what


def test_it_can_be_stopped_while_it_loads(program: Path) -> None:
    act(program, hang=True)
    one = launched(program).entry
    until(lambda: program.with_name("ran").exists())
    stop_server(one)
    assert status_of(one).phase == "stopped"
    assert not lives(runs(program)[0]["pid"])


def test_whoever_waits_is_told_that_somebody_stopped_it(program: Path) -> None:
    act(program, hang=True)
    found = launched(program)
    stop_server(found.entry)
    with pytest.raises(ServerNotRunning, match="was stopped before it was ready"):
        wait_until_ready(found, NoProgress())


# --- supervisors that are killed ---


def test_a_server_ends_with_its_supervisor_however_that_ends(program: Path) -> None:
    one = ready(program)
    server = server_of(one)
    os.kill(status_of(one).supervisor.pid, signal.SIGKILL)
    until(lambda: not server.is_alive)
    assert not one.is_up
    assert launched(program).is_new


def test_a_supervisor_that_does_not_obey_is_ended_by_force(program: Path) -> None:
    one = ready(program)
    server, supervisor = server_of(one), status_of(one).supervisor
    os.kill(supervisor.pid, signal.SIGSTOP)
    stop_server(one, timeout=0.5)
    assert not supervisor.is_alive
    until(lambda: not server.is_alive)


def test_one_that_outlives_it_is_known_and_ended_by_the_next_start(
    program: Path, tmp_path: Path
) -> None:
    # a shell between us and the program: the leash is not on it
    shell = tmp_path / "lmdeploy.sh"
    shell.write_text(f'#!/bin/sh\n{program} "$@" </dev/null\n')
    shell.chmod(0o755)
    one = ready(shell)
    pid = runs(program)[0]["pid"]
    os.kill(status_of(one).supervisor.pid, signal.SIGKILL)
    until(lambda: not one.is_up)
    assert one.orphan is not None
    again = launched(shell)
    wait_until_ready(again, NoProgress())
    assert not lives(pid)
    assert again.entry.orphan is None


# --- keys ---


def test_a_key_is_neither_in_the_list_of_processes_nor_in_the_log(program: Path) -> None:
    one = ready(program, protected=True)
    key, server = one.read_key(), server_of(one)
    assert runs(program)[0]["words"][-2:] == ["--api-keys", key]
    shown = Path(f"/proc/{server.pid}/cmdline").read_bytes().decode()
    assert "api_server" in shown
    assert key not in shown
    files = [file for file in one.folder.rglob("*") if file.is_file() and file != one.key_file]
    assert files
    assert not any(key in file.read_text("utf-8", "replace") for file in files)


def test_a_key_that_the_program_prints_is_masked(program: Path) -> None:
    one = ready(program, protected=True)
    stop_server(one)
    act(program, serve=True, say=[f"args: {one.read_key()}"])
    again = ready(program, protected=True)
    assert "args: [API key]" in again.log.read_text()


# --- a context manager ---


def test_a_block_has_a_server_of_its_own(program: Path) -> None:
    with LMDeployServer(launch_of(program), report=NoProgress()) as server:
        assert server.is_running
        assert server.served_model == "internlm/internlm2_5-7b-chat"
        port = server.url.removesuffix("/v1").rpartition(":")[2]
        assert server.model == f"lmdeploy:internlm2_5-7b-chat-{port}"
        assert (server.api_key, server.restarts) == ("", 0)
        (one,) = list_entries()
        pid = server_of(one).pid
    assert not server.is_running
    assert not lives(pid)
    assert list_entries() == []
    with pytest.raises(ServerNotRunning, match="not started"):
        _ = server.url


def test_a_block_whose_server_fails_raises_and_leaves_the_log(program: Path) -> None:
    act(program, say=["RuntimeError: Found no NVIDIA driver on your system."], code=1)
    with pytest.raises(StartFailed, match="CUDA does not work") as failed:
        LMDeployServer(launch_of(program), report=NoProgress()).start()
    assert failed.value.diagnosis.cause == "driver"
    (one,) = list_entries()
    assert "no NVIDIA driver" in one.log.read_text()


def test_only_models_for_lmdeploy_are_taken() -> None:
    with pytest.raises(BadValue, match="EmbeddedServer"):
        LMDeployServer("embedded")


def test_a_server_ends_with_the_program_that_has_it_even_if_that_is_killed(
    program: Path, tmp_path: Path
) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "import sys, time\n"
        "from agentcall_server import Launch, LMDeployServer\n"
        "launch = Launch('internlm2_5-7b-chat', template='none', lmdeploy=sys.argv[1])\n"
        "LMDeployServer(launch).start()\n"
        "print('ready', flush=True)\n"
        "time.sleep(600)\n"
    )
    parent = subprocess.Popen(
        [sys.executable, str(script), str(program)], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert parent.stdout is not None
    assert parent.stderr is not None
    with parent.stdout, parent.stderr:
        assert parent.stdout.readline() == b"ready\n"
        (one,) = list_entries()
        server, supervisor = server_of(one), status_of(one).supervisor
        parent.kill()
        parent.wait()
    until(lambda: not server.is_alive and not supervisor.is_alive)
    assert list_entries() == []
