"""Virtual environments with real packages, made once and kept in a cache folder.

Model servers declare packages for GPUs that their HTTP layers never import; those are installed
without their dependencies, beside the ones that the HTTP layer needs. pip's warnings about that are
harmless.
"""

import fcntl
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

Say = Callable[[str], None]
Minor = tuple[int, int]


class NoInterpreterError(Exception):
    """No Python on this machine has wheels of these packages: a reason to skip, not to fail."""


class InstallationError(Exception):
    """pip could not make the environment; the message holds the end of its output."""


class NotInstallableError(InstallationError):
    """The package index has no wheels for this platform: a reason to skip."""


@dataclass(frozen=True, slots=True)
class Environment:
    """What pip installs, and the Pythons that have wheels of it.

    removed: packages that the requirements bring and that do not work here.
    """

    name: str
    pythons: tuple[Minor, ...]
    requirements: tuple[str, ...]
    without_dependencies: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()

    @property
    def recipe(self) -> str:
        lines = [*self.requirements, "--no-deps", *self.without_dependencies]
        return "\n".join([*lines, *(f"not {package}" for package in self.removed), ""])


def cache_folder(environment: Mapping[str, str]) -> Path:
    """Where environments are kept, as agentcall's cache is found."""
    if own := environment.get("AGENTCALL_CACHE"):
        return Path(own)
    return Path(environment.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "agentcall"


def python_of(environment: Environment, say: Say) -> Path:
    """The interpreter of an environment, which is made when there is none.

    Raises NoInterpreterError, InstallationError."""
    folder = cache_folder(os.environ) / "venvs" / environment.name
    folder.parent.mkdir(parents=True, exist_ok=True)
    with _locked(folder.with_name(f"{folder.name}.lock")):
        if not _is_complete(folder, environment):
            _make(folder, environment, say)
    return folder / "bin" / "python"


def make_teller(config: pytest.Config) -> Say:
    """A way to the terminal past pytest's capture: making an environment takes minutes."""
    capture: Any = config.pluginmanager.get_plugin("capturemanager")  # its type is not public
    terminal = config.get_terminal_writer()

    def say(line: str) -> None:
        with capture.global_and_fixture_disabled() if capture else nullcontext():
            terminal.line(line)
            terminal.flush()

    return say


@contextmanager
def _locked(path: Path) -> Generator[None, None, None]:
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _is_complete(folder: Path, environment: Environment) -> bool:
    marker = folder / ".complete"
    return marker.exists() and marker.read_text("utf-8") == environment.recipe


def _make(folder: Path, environment: Environment, say: Say) -> None:
    # an environment cannot be moved, so it is built in place and a marker is written last
    base = _base_python(environment)
    say(f"{environment.name}: making {folder} (a few minutes, once)")
    shutil.rmtree(folder, ignore_errors=True)
    # the running pip installs into it: Debian's Python alone cannot put a pip there
    _run([str(base), "-m", "venv", "--without-pip", str(folder)], say)
    pip = [sys.executable, "-m", "pip", "--python", str(folder / "bin" / "python")]
    install = [*pip, "install", "--disable-pip-version-check", "--progress-bar", "off"]
    _run([*install, *environment.requirements], say)
    if environment.without_dependencies:
        _run([*install, "--no-deps", *environment.without_dependencies], say)
    if environment.removed:
        _run([*pip, "uninstall", "--yes", *environment.removed], say)
    (folder / ".complete").write_text(environment.recipe, "utf-8")


def _base_python(environment: Environment) -> str:
    """Python 3.11 if there is one, else the running Python, if either has wheels."""
    candidates = ("python3.11", sys.executable)
    found = {name: minor for name in candidates if (minor := _minor_version(name))}
    for name, minor in found.items():
        if minor in environment.pythons:
            return name
    wanted = ", ".join(f"{major}.{minor}" for major, minor in environment.pythons)
    seen = ", ".join(f"{name} is {major}.{minor}" for name, (major, minor) in found.items())
    raise NoInterpreterError(
        f"{environment.name} has wheels for Python {wanted}, but {seen}: "
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
        is_missing = "No matching distribution found" in tail
        error = NotInstallableError if is_missing else InstallationError
        raise error(f"{' '.join(command)} ended with {process.returncode}:\n{tail}")
