"""What is published: built, checked, and used from a virtual environment of its own."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from collections.abc import Sequence
from pathlib import Path

import pytest

from agentcall.testing import FakeServer, call, say

pytestmark = pytest.mark.deploy

ROOT = Path(__file__).parents[2]
VERSION = re.findall(r'^version = "(.*)"', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)[0]


def run(command: Sequence[str], **options: str) -> str:
    done = subprocess.run(
        command,
        env={**os.environ, **options},
        cwd=options.get("cwd", ROOT),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    run([sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder), str(ROOT)])
    return folder


@pytest.fixture(scope="module")
def python(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of an environment with the wheel; the dependencies are those of the tests."""
    folder = tmp_path_factory.mktemp("venv")
    venv.create(folder, with_pip=False)
    python = folder / "bin" / "python"
    [wheel] = built.glob("*.whl")
    run([sys.executable, "-m", "pip", "--python", str(python), "install", "--no-deps", str(wheel)])
    return python


def test_the_distributions_pass_the_check_of_the_index(built: Path) -> None:
    files = [str(file) for file in sorted(built.iterdir())]
    assert len(files) == 2
    run([sys.executable, "-m", "twine", "check", "--strict", *files])


def test_the_wheel_has_the_three_packages_and_nothing_else(built: Path) -> None:
    [wheel] = built.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        folders = {name.partition("/")[0] for name in archive.namelist()}
    assert folders == {
        "agentcall",
        "agentcall_server",
        "agentcall_tools",
        f"agentcall-{VERSION}.dist-info",
    }


def test_the_source_distribution_has_no_caches(built: Path) -> None:
    [archive] = built.glob("*.tar.gz")
    with tarfile.open(archive) as files:
        names = files.getnames()
    assert not [name for name in names if re.search(r"__pycache__|\.pyc$|/\.[a-z_]+/|\.db$", name)]
    assert f"agentcall-{VERSION}/SECURITY.md" in names


def test_the_version_is_that_of_the_project(python: Path) -> None:
    libraries = sysconfig.get_paths()["purelib"]
    program = str(python.with_name("agentcall"))
    printed = run([program, "--version"], PYTHONPATH=libraries)
    assert printed == f"agentcall {VERSION}\n"


def test_the_first_block_of_the_readme_runs_from_the_wheel(python: Path, tmp_path: Path) -> None:
    block = re.findall(r"^```python\n(.*?)^```", (ROOT / "README.md").read_text(), re.M | re.S)[0]
    file = tmp_path / "first.py"
    file.write_text(f"{block}\nimport agentcall\nprint(agentcall.__file__)\n")
    with FakeServer([call("weather", city="Oslo"), say("No coat: 21 C.")]) as server:
        printed = run(
            [str(python), str(file)],
            AGENTCALL_MODEL=server.url,
            PYTHONPATH=sysconfig.get_paths()["purelib"],
            cwd=str(tmp_path),
        )
    answer, place = printed.splitlines()[0], printed.splitlines()[-1]
    assert answer == "No coat: 21 C."
    assert place.startswith(str(python.parents[1]))
