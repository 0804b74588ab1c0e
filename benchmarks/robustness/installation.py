"""Install the peers, each in its own virtual environment, created once in a cache folder."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ADAPTERS = Path(__file__).parent / "peers"


class InstallationError(Exception):
    """pip could not create an environment; the message has the end of its output."""


@dataclass(frozen=True, slots=True)
class Peer:
    """Another framework: the packages to install, and the script that runs it."""

    name: str
    adapter: str
    requirements: tuple[str, ...]

    @property
    def requirements_text(self) -> str:
        """The requirements of the environment; it is created again when they change."""
        return "\n".join((*self.requirements, ""))


PEERS = (
    Peer("openai-agents", "with_openai_agents.py", ("openai-agents==0.24.0",)),
    Peer("pydantic-ai", "with_pydantic_ai.py", ("pydantic-ai-slim[openai]==2.68.0",)),
    Peer("smolagents", "with_smolagents.py", ("smolagents[openai]==1.26.0",)),
    Peer("langchain", "with_langchain.py", ("langchain==1.4.7", "langchain-openai==1.7.3")),
    Peer("agno", "with_agno.py", ("agno==3.1.10", "openai==3.54.0")),
)


def find_python(peer: Peer) -> Path:
    """Return the interpreter of the peer's environment, which is created if necessary.

    Raises:
        InstallationError: pip failed.
    """
    folder = _cache_folder(os.environ) / "venvs" / f"peer-{peer.name}"
    folder.parent.mkdir(parents=True, exist_ok=True)
    with _lock(folder.with_name(f"{folder.name}.lock")):
        if not _is_complete(folder, peer):
            _create_environment(folder, peer)
    return folder / "bin" / "python"


def _cache_folder(environment: Mapping[str, str]) -> Path:
    """Return the folder for environments, in agentcall's cache."""
    if own := environment.get("AGENTCALL_CACHE"):
        return Path(own)
    return Path(environment.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "agentcall"


@contextmanager
def _lock(path: Path) -> Generator[None, None, None]:
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _is_complete(folder: Path, peer: Peer) -> bool:
    marker = folder / ".complete"
    return marker.exists() and marker.read_text("utf-8") == peer.requirements_text


def _create_environment(folder: Path, peer: Peer) -> None:
    # An environment cannot be moved, so it is created in place and a marker is written last.
    print(f"{peer.name}: creating {folder} (a minute or two, once)", flush=True)
    shutil.rmtree(folder, ignore_errors=True)
    # The running pip installs into it, because Debian's Python alone cannot install a pip there.
    _run_command([_base_python(), "-m", "venv", "--without-pip", str(folder)])
    pip = [sys.executable, "-m", "pip", "--python", str(folder / "bin" / "python"), "install"]
    _run_command([*pip, "--quiet", "--disable-pip-version-check", *peer.requirements])
    (folder / ".complete").write_text(peer.requirements_text, "utf-8")


def _base_python() -> str:
    """Return Python 3.11 if available, so that results are comparable, else the running one."""
    for name in ("python3.11", sys.executable):
        path = shutil.which(name)
        if path and _can_run([path, "-c", "import venv"]):
            return path
    return sys.executable


def _can_run(command: list[str]) -> bool:
    # A pyenv shim may exist for a version that is not installed, so run it.
    return subprocess.run(command, capture_output=True).returncode == 0


def _run_command(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        tail = (done.stdout + done.stderr)[-2000:]
        raise InstallationError(f"{' '.join(command)} ended with {done.returncode}:\n{tail}")
