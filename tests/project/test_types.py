"""What mypy and pyright infer for agents, by a file of expectations."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

pytestmark = pytest.mark.processes

ROOT = Path(__file__).parents[2]
EXPECTATIONS = Path(__file__).with_name("typed") / "expectations.py"


def check_with_mypy() -> set[int]:
    """Return the numbers of the lines that are errors."""
    pytest.importorskip("mypy", reason="mypy is not installed")
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--output=json", str(EXPECTATIONS)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    found = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    assert done.returncode == 1, done.stderr
    return {each["line"] for each in found if each["severity"] == "error"}


def check_with_pyright() -> set[int]:
    """Return the numbers of the lines that are errors."""
    pytest.importorskip("pyright", reason="pyright is not installed")
    done = subprocess.run(
        [sys.executable, "-m", "pyright", "--outputjson", str(EXPECTATIONS)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    found = json.loads(done.stdout)["generalDiagnostics"]
    return {each["range"]["start"]["line"] + 1 for each in found if each["severity"] == "error"}


@pytest.mark.parametrize("check", [check_with_mypy, check_with_pyright])
def test_the_types_are_inferred_and_missing_deps_are_errors(check: Callable[[], set[int]]) -> None:
    lines = EXPECTATIONS.read_text("utf-8").splitlines()
    expected = {number for number, line in enumerate(lines, 1) if "  # wrong: " in line}
    assert len(expected) > 10
    assert check() == expected
