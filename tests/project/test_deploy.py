"""The files in deploy/ pass the linters of their formats (make test-deploy)."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

DEPLOY = Path(__file__).parents[2] / "deploy"
BIN = Path(sys.executable).parent
UNITS = sorted(path.name for path in DEPLOY.glob("*.service"))

pytestmark = pytest.mark.deploy


def passes(*words: str | Path, **options: Any) -> None:
    done = subprocess.run(
        list(map(str, words)), capture_output=True, text=True, check=False, **options
    )
    assert done.returncode == 0, done.stdout + done.stderr


def fails(*words: str | Path) -> str:
    done = subprocess.run(list(map(str, words)), capture_output=True, text=True, check=False)
    assert done.returncode != 0, done.stdout
    return done.stdout + done.stderr


def test_every_yaml_file_is_clean() -> None:
    passes(BIN / "yamllint", "-s", "-c", DEPLOY.parent / ".yamllint.yaml", DEPLOY)


def test_the_compose_file_fits_the_compose_specification() -> None:
    passes(
        BIN / "check-jsonschema",
        *("--builtin-schema", "vendor.compose-spec", DEPLOY / "compose.yaml"),
    )


def test_the_manifests_fit_the_kubernetes_api() -> None:
    passes(BIN / "kubernetes-validate", "--strict", DEPLOY / "kubernetes.yaml")


def test_the_linters_report_mistakes(tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.yaml"
    compose = (DEPLOY / "compose.yaml").read_text()
    wrong.write_text(compose.replace("restart: ", "restrat: "))
    schema = ("--builtin-schema", "vendor.compose-spec")
    assert "restrat" in fails(BIN / "check-jsonschema", *schema, wrong)
    kubernetes = (DEPLOY / "kubernetes.yaml").read_text()
    wrong.write_text(kubernetes.replace("readinessProbe", "readynessProbe"))
    assert "readynessProbe" in fails(BIN / "kubernetes-validate", "--strict", wrong)


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd-analyze is not installed")
@pytest.mark.parametrize("name", UNITS)
def test_systemd_accepts_the_units(name: str, tmp_path: Path) -> None:
    # systemd-analyze checks that the programs exist
    for program in ("lmdeploy", "agentcall", "python"):
        (tmp_path / program).symlink_to("/bin/true")
    unit = tmp_path / name
    unit.write_text((DEPLOY / name).read_text().replace("/opt/lmdeploy/bin", str(tmp_path)))
    passes("systemd-analyze", "verify", "--man=no", unit)


def test_the_scripts_are_clean() -> None:
    passes(BIN / "shellcheck", *DEPLOY.glob("*.sh"))


def test_the_multi_node_script_prints_its_usage() -> None:
    environment = {"PATH": os.environ["PATH"], "HEAD": "10.0.0.1", "AGENTCALL_API_KEY": "k"}
    done = subprocess.run(
        ["sh", str(DEPLOY / "multi_node.sh")],
        capture_output=True,
        text=True,
        env=environment,
        check=False,
    )
    assert done.returncode == 2
    assert "multi_node.sh turbomind RANK" in done.stderr
    del environment["HEAD"]
    passes("sh", "-c", f"! sh {DEPLOY / 'multi_node.sh'}", env=environment)
