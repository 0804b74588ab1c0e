"""`agentcall server` and `LMDeployServer` with LMDeploy's real command line and application."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import reference_format as reference
from command_line import agentcall
from environments import NoInterpreterError
from installation import python_with
from launch import STANDIN, free_ports
from programs import real, scripted
from stand import Reply, Stand
from supervised import server_of, state_in, until

from agentcall.agent import Agent
from agentcall.cli import model_server
from agentcall.cli.model_server import ensure_server
from agentcall.diagnostics.doctor import examine
from agentcall.models import resolve
from agentcall.models.http import HTTPEndpoint
from agentcall.models.local_servers import find_api_key
from agentcall.tools.tool import tool
from agentcall_server import Launch, LMDeployServer
from agentcall_server.diagnosis import FailureCause
from agentcall_server.errors import LMDeployUnavailable, StartFailed
from agentcall_server.launcher import launch_server, wait_until_ready
from agentcall_server.progress import NoProgress
from agentcall_server.server_registry import open_entry

VERSIONS = ("0.18.0", "0.5.3")
NAME = "internlm2_5-7b-chat"
HELP = Path(__file__).parents[1] / "support" / "lmdeploy_help"
ADD, MUL = reference.call("add", {"a": 3, "b": 5}), reference.call("mul", {"a": 8, "b": 2})
LOOP = [Reply("I'll add." + ADD), Reply(MUL), Reply("It is 16.")]


@tool
def add(a: int, b: int) -> int:
    """Add two integers."""
    return a + b


@tool
def mul(a: int, b: int) -> int:
    """Multiply two integers."""
    return a * b


@dataclass(frozen=True)
class Rig:
    """A model, a program that serves it, and the script of what it says."""

    version: str
    model: Path
    program: Path
    control: str

    def script(self, replies: list[Reply]) -> None:
        Stand("", self.version, "", self.control).script(replies)

    def prompts(self) -> list[str]:
        stand = Stand("", self.version, "", self.control)
        return [record.prompt for record in stand.records() if not record.is_probe]

    def launch(self, **more: object) -> Launch:
        fields: dict[str, object] = {"lmdeploy": str(self.program), "backend": "pytorch", **more}
        return Launch(str(self.model), **fields)  # type: ignore[arg-type]


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    for name in ("PYTHONPATH", "PYTHONHOME", "AGENTCALL_MODEL", "AGENTCALL_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    with state_in(tmp_path / "state") as folder:
        yield folder


@pytest.fixture(params=VERSIONS)
def version(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def rig(version: str, tmp_path: Path) -> Rig:
    try:
        python = python_with(version, print)
    except NoInterpreterError as reason:
        pytest.skip(str(reason))
    model = tmp_path / "models" / NAME
    subprocess.run([str(python), str(STANDIN / "make_model.py"), str(model)], check=True)
    control, _ = free_ports()
    program = scripted(version, tmp_path, control)
    return Rig(version, model, program, f"http://127.0.0.1:{control}")


@pytest.fixture
def nobody(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No LMDeploy at its usual port."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        for module in (resolve, model_server):
            monkeypatch.setattr(module, "LMDEPLOY", free.getsockname())
        yield


def answer(model: str) -> str:
    return Agent(model, tools=[add, mul]).run_sync("Compute (3+5)*2").output


# --- from nothing to a server and back ---


def test_from_a_command_to_an_answer_through_a_crash_to_the_end(
    rig: Rig, state: Path, tmp_path: Path, nobody: None
) -> None:
    here = {"AGENTCALL_STATE": str(state)}
    words = [str(rig.model), "--lmdeploy", str(rig.program), "--backend", "pytorch"]
    done = agentcall(
        "server", "start", *words, "--port", "0", "--api-key", cwd=tmp_path, env=here, seconds=300
    )
    assert done.returncode == 0, done.stderr
    assert f"{NAME} is ready at http://127.0.0.1:" in done.stdout
    assert "loading" in done.stderr

    rig.script(LOOP)
    assert answer(f"lmdeploy:{NAME}") == "It is 16."
    question = ["run", "Compute (3+5)*2", "-t", str(_tools(tmp_path)), "-m", f"lmdeploy:{NAME}"]
    rig.script(LOOP)
    told = agentcall(*question, cwd=tmp_path, env=here)
    assert told.stdout.strip() == "It is 16."

    one = open_entry(NAME)
    first = server_of(one)
    os.kill(first.pid, signal.SIGKILL)
    until(lambda: one.is_ready and server_of(one) != first, seconds=300)
    rig.script(LOOP)
    assert answer(f"lmdeploy:{NAME}") == "It is 16."

    found = json.loads(agentcall("server", "status", NAME, "--json", cwd=tmp_path, env=here).stdout)
    assert (found["phase"], found["restarts"]) == ("ready", 1)
    assert "SIGKILL" in found["diagnosis"]
    log = agentcall("server", "logs", "-n", "500", cwd=tmp_path, env=here).stdout
    assert log.count("Uvicorn running on") == 2
    assert "POST /v1/chat/completions" in log

    server = server_of(one)
    assert agentcall("server", "stop", cwd=tmp_path, env=here).stdout == f"{NAME} is stopped\n"
    assert not server.is_alive
    for file in one.folder.rglob("*"):
        assert not file.is_file() or file == one.key_file or one.read_key() not in file.read_text()

    # and up again, as it was, by the model's name alone
    ensure_server(f"lmdeploy:{NAME}")
    rig.script(LOOP)
    assert answer(f"lmdeploy:{NAME}") == "It is 16."


def _tools(folder: Path) -> Path:
    file = folder / "sums.py"
    file.write_text(
        "def add(a: int, b: int) -> int:\n    'Adds.'\n    return a + b\n\n"
        "def mul(a: int, b: int) -> int:\n    'Multiplies.'\n    return a * b\n"
    )
    return file


def test_a_block_with_a_server_bound_wider_asks_with_its_key(rig: Rig) -> None:
    with LMDeployServer(rig.launch(host="0.0.0.0"), report=NoProgress()) as server:
        assert server.api_key
        rig.script(LOOP)
        assert answer(server.model) == "It is 16."
        rig.script(LOOP)
        assert answer(server.url) == "It is 16."
    assert not server.is_running


def test_a_server_ends_with_a_program_that_is_killed(rig: Rig, tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "import sys, time\n"
        "from agentcall_server import Launch, LMDeployServer\n"
        "model, program = sys.argv[1:]\n"
        "launch = Launch(model, name='x', lmdeploy=program, backend='pytorch')\n"
        "with LMDeployServer(launch):\n"
        "    print('ready', flush=True)\n"
        "    time.sleep(600)\n"
    )
    command = [sys.executable, str(script), str(rig.model), str(rig.program)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == b"ready\n"
        server = server_of(open_entry("x"))
        parent.kill()
    until(lambda: not server.is_alive)


def test_a_server_ends_with_its_supervisor_even_if_that_is_killed(rig: Rig) -> None:
    found = launch_server(rig.launch(), NoProgress())
    status = wait_until_ready(found, NoProgress())
    server = server_of(found.entry)
    os.kill(status.supervisor.pid, signal.SIGKILL)
    until(lambda: not server.is_alive)


# --- what the model is told ---


@pytest.mark.parametrize("version", ["0.18.0"], indirect=True)
@pytest.mark.parametrize(("template", "tools"), [("auto", "reach"), ("none", "dropped")])
async def test_the_stock_template_is_replaced_by_one_that_knows_tools_unless_declined(
    rig: Rig, template: str, tools: str
) -> None:
    with LMDeployServer(rig.launch(template=template), report=NoProgress()) as server:
        report = await examine(HTTPEndpoint(server.url, find_api_key(server.url)))
        rig.script(LOOP)
        result = await Agent(server.model, tools=[add, mul], instructions="Sum.").run("(3+5)*2")
    assert report.tools == tools
    assert report.dialect == ("native" if tools == "reach" else "internlm")
    assert result.output == "It is 16."


@pytest.mark.parametrize("version", ["0.18.0"], indirect=True)
def test_a_model_of_the_hubs_cache_gets_the_template_as_well(rig: Rig, tmp_path: Path) -> None:
    cached = tmp_path / "hub" / "hub" / "models--internlm--internlm2_5-7b-chat"
    (cached / "refs").mkdir(parents=True)
    (cached / "refs" / "main").write_text("0" * 40)
    shutil.copytree(rig.model, cached / "snapshots" / ("0" * 40))
    launch = Launch(NAME, lmdeploy=str(rig.program), backend="pytorch")
    with LMDeployServer(launch, report=NoProgress()) as server:
        rig.script(LOOP)
        assert answer(server.model) == "It is 16."
        assert "<|im_start|>system name=<|plugin|>" in rig.prompts()[0]


def test_the_smoke_test_passes_on_a_model_that_does_it_right(
    rig: Rig, state: Path, tmp_path: Path
) -> None:
    weather = reference.call("get_weather", {"city": "上海"})
    with LMDeployServer(rig.launch(), report=NoProgress()) as server:
        rig.script(
            [
                *(Reply(ADD, match=r"3 \+ 5\?"), Reply("It is 8.", match=r"3 \+ 5\?")),
                *[Reply(text, match=r"\(3\+5\)\*2") for text in (ADD, MUL, "It is 16.") * 2],
                *(Reply(weather, match="多少度"), Reply("23.5 度。", match="多少度")),
                Reply("Hello, Ann!", match="hello"),
            ]
        )
        name = server.model.removeprefix("lmdeploy:")
        here = {"AGENTCALL_STATE": str(state)}
        done = agentcall("server", "smoke", name, cwd=tmp_path, env=here)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "5 of 5 questions were answered correctly" in done.stdout


# --- deaths ---


def death_of(launch: Launch) -> StartFailed:
    found = launch_server(launch, NoProgress())
    with pytest.raises(StartFailed) as failed:
        wait_until_ready(found, NoProgress())
    assert str(found.entry.log) in str(failed.value)
    return failed.value


def test_without_cuda_the_driver_is_the_cause(rig: Rig) -> None:
    failed = death_of(rig.launch(lmdeploy=str(real(rig.version))))
    assert failed.diagnosis.cause == "driver"
    assert "nvidia-smi" in failed.diagnosis.advice


@pytest.mark.parametrize(
    ("model", "causes"), [("/no/such/model", ("model",)), ("internlm/none", ("model", "network"))]
)
def test_a_model_that_is_not_there_is_named_as_that(
    rig: Rig, model: str, causes: tuple[FailureCause, ...]
) -> None:
    failed = death_of(Launch(model, lmdeploy=str(rig.program), backend="pytorch"))
    assert failed.diagnosis.cause in causes


def test_a_port_that_is_taken_while_it_loads_is_the_cause(rig: Rig) -> None:
    found = launch_server(rig.launch(), NoProgress())
    wanted = found.entry.wanted
    assert wanted is not None
    with socket.create_server((wanted.host, wanted.port)), pytest.raises(StartFailed) as failed:
        wait_until_ready(found, NoProgress())
    assert failed.value.diagnosis.cause == "port"
    assert "--port 0" in failed.value.diagnosis.advice


def test_a_value_that_lmdeploy_refuses_is_repeated(rig: Rig) -> None:
    failed = death_of(rig.launch(flags=("--log-level", "LOUD")))
    assert failed.diagnosis.cause == "flag"
    assert "LOUD" in failed.diagnosis.what


def test_a_parser_that_is_not_there_is_told_before_or_after(rig: Rig) -> None:
    launch = rig.launch(flags=("--tool-call-parser", "qwen9"))
    if rig.version == "0.5.3":
        with pytest.raises(LMDeployUnavailable, match="has no --tool-call-parser"):
            launch_server(launch, NoProgress())
        return
    failed = death_of(launch)
    assert failed.diagnosis.cause == "parser"
    assert "qwen9" in failed.diagnosis.what
    assert "internlm" in failed.diagnosis.what


def test_the_recorded_help_is_what_the_program_says(version: str) -> None:
    try:
        program = real(version)
    except NoInterpreterError as reason:
        pytest.skip(str(reason))
    done = subprocess.run(
        [str(program), "serve", "api_server", "--help"], capture_output=True, text=True, check=True
    )
    said = " ".join(done.stdout.partition("\n\n")[0].split())
    assert said == " ".join((HELP / f"{version}.txt").read_text().split())
