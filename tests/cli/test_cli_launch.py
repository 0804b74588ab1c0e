"""`agentcall server start`, `status`, `logs`, `stop`, and `run --launch`: what is printed."""

from __future__ import annotations

import json
import os
import signal
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from command_line import agentcall
from fake_lmdeploy import act, written
from supervised import server_of, state_in, until
from typer.testing import CliRunner

from agentcall.cli import app, model_server
from agentcall.cli.errors import get_exit_code
from agentcall.models import resolve
from agentcall.testing import FakeServer, forever, say
from agentcall_server.ports import reserve_port
from agentcall_server.server_registry import open_entry

pytestmark = pytest.mark.processes
NAME = "internlm2_5-7b-chat"


@dataclass(frozen=True)
class Result:
    """What a command gave."""

    returncode: int
    stdout: str
    stderr: str


Command = Callable[..., Result]


@pytest.fixture(autouse=True)
def state(tmp_path: Path) -> Iterator[Path]:
    with state_in(tmp_path / "state") as folder:
        yield folder


@pytest.fixture
def program(tmp_path: Path) -> Path:
    return written(tmp_path / "bin", serve=True)


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Command:
    """`agentcall server WORDS` on this state, in this process: starting one costs a second."""
    monkeypatch.chdir(tmp_path)

    def command(*words: str) -> Result:
        done = CliRunner().invoke(app, ["server", *words])
        if done.exception is None or isinstance(done.exception, SystemExit):
            return Result(done.exit_code, done.stdout, done.stderr)
        message = f"error: {done.exception}"
        return Result(get_exit_code(done.exception), done.stdout, done.stderr + message)

    return command


@pytest.fixture
def start(server: Command, program: Path) -> Command:
    """`agentcall server start` of a model on the program."""

    def command(*words: str) -> Result:
        fixed = ["--lmdeploy", str(program), "--chat-template", "none"]
        ports = [] if "--port" in words else ["--port", "0"]
        return server("start", NAME, *fixed, *ports, *words)

    return command


def status_of(server: Command, *words: str) -> Any:  # Any: JSON
    return json.loads(server("status", *words, "--json").stdout)


def test_from_nothing_to_a_server_and_back(server: Command, start: Command, program: Path) -> None:
    assert "no server was launched here" in server("status").stdout
    done = start("--context", "8k", "--", "--log-level", "INFO")
    assert done.returncode == 0, done.stderr
    assert f"{NAME} is ready at http://127.0.0.1:" in done.stdout
    assert f'agentcall run -m lmdeploy:{NAME} "' in done.stdout
    assert "loading" in done.stderr
    ran = json.loads(program.with_name("ran").read_text())["words"]
    assert ran[ran.index("--session-len") + 1] == "8192"
    assert ran[-2:] == ["--log-level", "INFO"]

    again = start("--context", "8k", "--", "--log-level", "INFO")
    assert (again.returncode, "was up already" in again.stdout) == (0, True)
    other = start("--context", "4k")
    assert other.returncode == 2
    assert f"agentcall server stop {NAME}" in other.stderr

    found = status_of(server, NAME)
    assert (found["phase"], found["restarts"], found["key_file"]) == ("ready", 0, None)
    assert found["model"] == f"lmdeploy:{NAME}"
    assert found["served"] == "internlm/internlm2_5-7b-chat"
    os.kill(found["pid"], 0)
    table = server("status").stdout
    assert "ready" in table
    assert str(found["port"]) in table

    assert "api_server" in server("logs", "-n", "5").stdout
    assert server("stop").stdout == f"{NAME} is stopped\n"
    assert status_of(server, NAME)["phase"] == "stopped"
    assert server("status", NAME).returncode == 1
    assert server("stop", NAME).returncode == 1

    # by its name alone it comes up as it was
    assert server("start", NAME).returncode == 0
    assert status_of(server)[0]["phase"] == "ready"
    ran = json.loads(program.with_name("ran").read_text().splitlines()[-1])["words"]
    assert "8192" in ran


def test_bound_wider_it_has_a_key_and_the_screen_says_where(
    server: Command, start: Command
) -> None:
    done = start("--host", "0.0.0.0")
    file = open_entry(NAME).key_file
    assert f"its API key is in {file}" in done.stdout
    assert "AGENTCALL_API_KEY" in done.stdout
    assert open_entry(NAME).read_key() not in done.stdout + done.stderr
    assert status_of(server, NAME)["key_file"] == str(file)


def test_a_death_is_told_with_what_to_do(server: Command, start: Command, program: Path) -> None:
    act(program, say=["torch.OutOfMemoryError: CUDA out of memory. Tried 2 GiB."], code=1)
    done = start()
    assert done.returncode == 1
    assert f"error: {NAME}: the GPU has too little memory (CUDA out of memory); " in done.stderr
    assert f"agentcall server plan {NAME} --gpu SIZE" in done.stderr
    assert "Traceback" not in done.stderr
    shown = " ".join(server("status").stdout.split())
    assert "failed" in shown
    assert "too little memory" in shown
    assert "CUDA out of memory" in server("logs").stdout


def test_without_waiting_it_says_that_it_loads(
    server: Command, start: Command, program: Path
) -> None:
    act(program, say=["Loading weights: 40%|####"], hang=True)
    done = start("--no-wait", "--json")
    assert done.returncode == 0
    assert json.loads(done.stdout)["phase"] == "starting"
    until(lambda: "40%" in server("status").stdout)


def test_a_taken_port_is_told_with_who_has_it(start: Command) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        done = start("--port", str(port))
    assert done.returncode == 2
    assert f"port {port} is used by " in done.stderr
    assert f"(pid {os.getpid()})" in done.stderr


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["start", NAME, "--lmdeploy", "/no/lmdeploy"], "cannot be executed"),
        (["start", NAME, "--context", "many"], "not a number with a unit"),
        (["start", NAME, "--kv", "int2"], "16, int8, int4"),
        (["start", NAME, "--", "--api-keys", "sk"], "visible to everybody"),
        (["start", NAME, "other"], "not a flag of LMDeploy"),
        (["stop", "--all", NAME], "not both"),
    ],
)
def test_nonsense_is_a_usage_error(server: Command, words: list[str], message: str) -> None:
    done = server(*words)
    assert done.returncode == 2
    assert message in done.stderr


@pytest.mark.parametrize("command", ["stop", "status", "logs", "smoke"])
def test_a_server_that_was_never_launched_is_told(server: Command, command: str) -> None:
    done = server(command, "none")
    assert done.returncode == 1
    assert "no server" in done.stderr


def test_with_several_one_has_to_be_named(server: Command, start: Command) -> None:
    start()
    start("--name", "second")
    done = server("stop")
    assert done.returncode == 2
    assert f"name one: {NAME}, second" in done.stderr
    assert server("stop", "--all").stdout == f"{NAME} is stopped\nsecond is stopped\n"


def test_a_server_that_was_killed_with_its_supervisor_is_told_as_lost(
    server: Command, start: Command
) -> None:
    start()
    one = open_entry(NAME)
    status, child = one.status, server_of(one)
    assert status is not None
    os.kill(status.supervisor.pid, signal.SIGKILL)
    until(lambda: not one.is_up and not child.is_alive)
    shown = " ".join(server("status").stdout.split())
    assert "lost" in shown
    assert f"agentcall server start {NAME}" in shown


# --- run --launch ---


def test_a_run_may_launch_its_model_which_stays(
    program: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with reserve_port("127.0.0.1") as held:
        usual = held.getsockname()
    for module in (model_server, resolve):
        monkeypatch.setattr(module, "LMDEPLOY", usual)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))
    words = ["run", "hi", "-m", f"lmdeploy:{NAME}"]
    alone = CliRunner().invoke(app, words)
    assert alone.exit_code == 3
    assert "--launch starts it" in alone.stderr
    with FakeServer([forever(say("hello"))], models=[f"internlm/{NAME}"]) as behind:
        monkeypatch.setenv("AGENTCALL_MODEL", behind.url)
        launched = CliRunner().invoke(app, [*words, "--launch"])
        again = CliRunner().invoke(app, words)
    assert launched.stdout == again.stdout == "hello\n"
    assert f"agentcall server stop {NAME}" in launched.stderr
    assert open_entry(NAME).is_ready


def test_launch_is_for_models_of_lmdeploy(tmp_path: Path) -> None:
    done = agentcall("run", "hi", "-m", "http://127.0.0.1:9/v1", "--launch", cwd=tmp_path)
    assert done.returncode == 2
    assert "-m lmdeploy:NAME" in done.stderr
