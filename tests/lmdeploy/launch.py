"""Starts LMDeploy servers over the scripted engine, and ends them."""

import os
import signal
import socket
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path

from environments import Say
from installation import python_with
from stand import Stand, exchange

import agentcall_server

STANDIN = Path(__file__).parent / "standin"
TOOLS_TEMPLATE = Path(agentcall_server.__file__).with_name("templates") / "internlm2.jinja"
START_SECONDS = 180.0


class StartError(Exception):
    """A server ended or did not answer; the message holds the end of its log."""


@dataclass(frozen=True, slots=True)
class Launch:
    """One way to run LMDeploy."""

    name: str
    version: str
    flags: tuple[str, ...] = ()
    tools_aware: bool = False
    """Whether the chat template knows tools, calls and results; the published one does not."""
    sees: bool = False
    """Whether the model is an InternVL2."""


PARSER = ("--tool-call-parser", "internlm")
LAUNCHES = {
    launch.name: launch
    for launch in (
        Launch("stock", "0.18.0", PARSER),
        Launch("noparser", "0.18.0"),
        Launch("tools_template", "0.18.0", PARSER, tools_aware=True),
        Launch("old", "0.5.3"),
    )
}
SEEING = Launch("seeing", "0.18.0", PARSER, sees=True)
SCRIPTS = {"0.18.0": STANDIN / "serve.py", "0.5.3": STANDIN / "serve_053.py"}


@dataclass(frozen=True, slots=True)
class Server:
    """A started process, which may not answer yet."""

    stand: Stand
    process: subprocess.Popen[bytes]
    log: Path

    def ready(self) -> Stand:
        """Wait until it serves its model. Raises StartError."""
        deadline = time.monotonic() + START_SECONDS
        while not _serves(self.stand.url):
            if (code := self.process.poll()) is not None:
                raise StartError(self._failure(f"ended with {code} while starting"))
            if time.monotonic() > deadline:
                raise StartError(self._failure(f"did not answer for {START_SECONDS:.0f} s"))
            time.sleep(0.1)
        return self.stand

    def stop(self) -> None:
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        if self.process.stdin:
            self.process.stdin.close()

    def _failure(self, what: str) -> str:
        tail = "\n".join(self.log.read_text("utf-8", "replace").splitlines()[-40:])
        return f"LMDeploy {self.stand.version} ({self.stand.name}) {what}; its log:\n{tail}"


@dataclass(slots=True)
class Servers:
    """The servers of a test session: each is started once and runs until `stop`."""

    folder: Path
    """Models and logs; its path must hold no dot (LMDeploy's loader stumbles over one)."""
    say: Say
    _running: dict[str, Server] = field(default_factory=dict[str, Server])

    def start(self, launch: Launch) -> None:
        """Start it, without waiting. Raises NoInterpreterError, InstallationError."""
        if launch.name not in self._running:
            self._running[launch.name] = start(launch, self.folder / launch.name, self.say)

    def ready(self, launch: Launch) -> Stand:
        """The stand of this launch, once it answers. Raises StartError and as `start`."""
        self.start(launch)
        return self._running[launch.name].ready()

    def stop(self) -> None:
        for server in self._running.values():
            server.stop()
        self._running.clear()


def start(launch: Launch, folder: Path, say: Say) -> Server:
    """Start a server that keeps its model and log in this folder."""
    python = python_with(launch.version, say)
    arguments = _model_arguments(launch, folder, python)
    port, control = free_ports()
    command = [str(python), str(SCRIPTS[launch.version]), "serve", "api_server", *arguments]
    command += ["--backend", "pytorch", "--server-name", "127.0.0.1", "--server-port", str(port)]
    log = folder / "server.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*command, *launch.flags],
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=_environment(control),
            start_new_session=True,
        )
    url, control_url = f"http://127.0.0.1:{port}/v1", f"http://127.0.0.1:{control}"
    return Server(Stand(launch.name, launch.version, url, control_url), process, log)


def _model_arguments(launch: Launch, folder: Path, python: Path) -> list[str]:
    """The model folder and, as a launcher gives it, the patched template over the stock model."""
    # 0.5.3 picks its built-in template by `internlm2` and `chat` in the path
    if launch.sees:
        _make_model(python, folder / "InternVL2-8B", "--vision")
        return [str(folder / "InternVL2-8B")]
    model = folder / "internlm2_5-7b-chat"
    _make_model(python, model)
    if not launch.tools_aware:
        return [str(model)]
    patched = folder / "patched" / model.name
    _make_model(python, patched, "--template", str(TOOLS_TEMPLATE))
    choice = folder / "chat_template.json"
    choice.write_text(f'{{"model_name": "hf", "model_path": "{patched}"}}', "utf-8")
    return [str(model), "--chat-template", str(choice)]


def _make_model(python: Path, model: Path, *options: str) -> None:
    command = [str(python), str(STANDIN / "make_model.py"), str(model), *options]
    subprocess.run(command, check=True)


def _environment(control_port: int) -> dict[str, str]:
    own = {"STANDIN_CONTROL_PORT": str(control_port), "PYTHONUNBUFFERED": "1"}
    # the same on a machine with a GPU, and nothing is asked of the hub
    quiet = {"CUDA_VISIBLE_DEVICES": "", "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    kept = {k: v for k, v in os.environ.items() if k not in {"PYTHONPATH", "PYTHONHOME"}}
    return kept | own | quiet


def free_ports() -> tuple[int, int]:
    """Two ports of loopback that nobody listens at."""
    with socket.socket() as first, socket.socket() as second:
        for sock in (first, second):
            sock.bind(("127.0.0.1", 0))
        return first.getsockname()[1], second.getsockname()[1]


def _serves(url: str) -> bool:
    try:
        return exchange(f"{url}/models").status == 200
    except OSError:
        return False
