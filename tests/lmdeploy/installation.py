"""Virtual environments with LMDeploy's real packages, made once and kept in a cache folder.

LMDeploy declares CUDA packages that its HTTP layer never imports, so it is installed without its
dependencies, beside the ones that the HTTP layer needs. pip's warnings about that are harmless.
"""

import fcntl
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

Say = Callable[[str], None]
Minor = tuple[int, int]


class NoInterpreterError(Exception):
    """No Python on this machine has wheels of this LMDeploy: a reason to skip, not to fail."""


class InstallationError(Exception):
    """pip could not make the environment; the message holds the end of its output."""


@dataclass(frozen=True, slots=True)
class Installation:
    """One LMDeploy version: the Pythons that have wheels, and what pip installs."""

    version: str
    pythons: tuple[Minor, ...]
    requirements: tuple[str, ...]
    without_dependencies: tuple[str, ...]

    @property
    def recipe(self) -> str:
        return "\n".join((*self.requirements, "--no-deps", *self.without_dependencies, ""))


SHARED = (
    *("torch==2.13.0", "einops", "fastapi", "fire", "mmengine-lite", "packaging", "pillow"),
    *("protobuf", "psutil", "pydantic>=2", "requests", "safetensors", "sentencepiece"),
    *("shortuuid", "tiktoken", "uvicorn"),
)
INSTALLATIONS = {
    installation.version: installation
    for installation in (
        Installation(
            "0.18.0",
            ((3, 10), (3, 11), (3, 12), (3, 13), (3, 14)),
            (
                *(*SHARED, "transformers==5.23.0", "openai>=2.45", "numpy", "aiohttp"),
                *("apache-tvm-ffi>=0.1.11", "cloudpickle", "openai_harmony", "pybase64"),
                *("partial_json_parser", "prometheus_client", "pyzmq"),
            ),
            ("lmdeploy==0.18.0", "xgrammar==0.2.8"),
        ),
        Installation(
            "0.5.3",
            ((3, 10), (3, 11), (3, 12)),
            (
                *(*SHARED, "transformers==4.44.2", "openai==1.40.3", "httpx<0.28"),
                *("accelerate==0.33.0", "numpy<2", "pynvml"),
            ),
            ("lmdeploy==0.5.3",),
        ),
    )
}


def cache_folder(environment: Mapping[str, str]) -> Path:
    """Where environments are kept, as agentcall's cache is found."""
    if own := environment.get("AGENTCALL_CACHE"):
        return Path(own)
    return Path(environment.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "agentcall"


def python_with(version: str, say: Say) -> Path:
    """The interpreter of an environment with this LMDeploy, which is made when there is none.

    Raises NoInterpreterError, InstallationError."""
    installation = INSTALLATIONS[version]
    folder = cache_folder(os.environ) / "venvs" / f"lmdeploy-{version}"
    folder.parent.mkdir(parents=True, exist_ok=True)
    with _locked(folder.with_name(f"{folder.name}.lock")):
        if not _is_complete(folder, installation):
            _make(folder, installation, say)
    return folder / "bin" / "python"


@contextmanager
def _locked(path: Path) -> Generator[None, None, None]:
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _is_complete(folder: Path, installation: Installation) -> bool:
    marker = folder / ".complete"
    return marker.exists() and marker.read_text("utf-8") == installation.recipe


def _make(folder: Path, installation: Installation, say: Say) -> None:
    # an environment cannot be moved, so it is built in place and a marker is written last
    base = _base_python(installation)
    say(f"LMDeploy {installation.version}: making {folder} (a few minutes, once)")
    shutil.rmtree(folder, ignore_errors=True)
    # the running pip installs into it: Debian's Python alone cannot put a pip there
    _run([str(base), "-m", "venv", "--without-pip", str(folder)], say)
    pip = [sys.executable, "-m", "pip", "--python", str(folder / "bin" / "python"), "install"]
    pip += ["--disable-pip-version-check", "--progress-bar", "off"]
    _run([*pip, *installation.requirements], say)
    _run([*pip, "--no-deps", *installation.without_dependencies], say)
    (folder / ".complete").write_text(installation.recipe, "utf-8")


def _base_python(installation: Installation) -> str:
    """Python 3.11 if there is one, else the running Python, if either has wheels."""
    candidates = ("python3.11", sys.executable)
    found = {name: minor for name in candidates if (minor := _minor_version(name))}
    for name, minor in found.items():
        if minor in installation.pythons:
            return name
    wanted = ", ".join(f"{major}.{minor}" for major, minor in installation.pythons)
    seen = ", ".join(f"{name} is {major}.{minor}" for name, (major, minor) in found.items())
    raise NoInterpreterError(
        f"LMDeploy {installation.version} has wheels for Python {wanted}, but {seen}: "
        "put a python3.11 on the PATH"
    )


def _minor_version(python: str) -> Minor | None:
    # asked by running it: a pyenv shim exists for versions that cannot be run
    question = "import sys, venv; print(*sys.version_info[:2])"
    try:
        answer = subprocess.run([python, "-c", question], capture_output=True, text=True)
    except FileNotFoundError:
        return None
    if answer.returncode:
        return None
    major, minor = answer.stdout.split()
    return int(major), int(minor)


def _run(command: list[str], say: Say) -> None:
    lines: list[str] = []
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        for line in process.stdout or ():
            lines.append(line.rstrip())
            if line.lstrip().startswith(("Downloading", "Installing", "Successfully")):
                say(f"  {line.strip()[:100]}")
    if process.returncode:
        tail = "\n".join(lines[-20:])
        raise InstallationError(f"{' '.join(command)} ended with {process.returncode}:\n{tail}")
