"""The peers, each in a virtual environment of its own, made once and kept in a cache folder."""

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
    """pip could not make an environment; the message holds the end of its output."""


@dataclass(frozen=True, slots=True)
class Peer:
    """A framework beside agentcall: what pip installs, and the script that drives it."""

    name: str
    adapter: str
    requirements: tuple[str, ...]

    @property
    def requirements_text(self) -> str:
        """What the environment was made from; another one is made when it differs."""
        return "\n".join((*self.requirements, ""))


PEERS = (
    Peer("openai-agents", "with_openai_agents.py", ("openai-agents==0.24.0",)),
    Peer("pydantic-ai", "with_pydantic_ai.py", ("pydantic-ai-slim[openai]==2.68.0",)),
    Peer("smolagents", "with_smolagents.py", ("smolagents[openai]==1.26.0",)),
    Peer("langchain", "with_langchain.py", ("langchain==1.4.7", "langchain-openai==1.7.3")),
    Peer("agno", "with_agno.py", ("agno==3.1.10", "openai==3.54.0")),
)


def find_python(peer: Peer) -> Path:
    """The interpreter of the peer's environment, which is made when there is none.

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
    """Where environments are kept, as agentcall's cache is found."""
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
    # an environment cannot be moved, so it is built in place and a marker is written last
    print(f"{peer.name}: making {folder} (a minute or two, once)", flush=True)
    shutil.rmtree(folder, ignore_errors=True)
    # the running pip installs into it: Debian's Python alone cannot put a pip there
    _run_command([_base_python(), "-m", "venv", "--without-pip", str(folder)])
    pip = [sys.executable, "-m", "pip", "--python", str(folder / "bin" / "python"), "install"]
    _run_command([*pip, "--quiet", "--disable-pip-version-check", *peer.requirements])
    (folder / ".complete").write_text(peer.requirements_text, "utf-8")


def _base_python() -> str:
    """Python 3.11 if there is one, so that the figures can be compared, else the running one."""
    for name in ("python3.11", sys.executable):
        found = shutil.which(name)
        if found and _can_run([found, "-c", "import venv"]):
            return found
    return sys.executable


def _can_run(command: list[str]) -> bool:
    # asked by running it: a pyenv shim exists for versions that cannot be run
    return subprocess.run(command, capture_output=True).returncode == 0


def _run_command(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        tail = (done.stdout + done.stderr)[-2000:]
        raise InstallationError(f"{' '.join(command)} ended with {done.returncode}:\n{tail}")
