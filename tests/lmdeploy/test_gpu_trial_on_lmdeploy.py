"""The trial on a GPU, played through without one: a stand-in for LMDeploy, and for nvidia-smi."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import reference_format as reference
from installation import python_with
from launch import STANDIN, free_ports
from stand import Reply, Stand

from agentcall_server.language_models import find_architecture
from agentcall_server.memory_plan import PlanRequest, plan_memory
from agentcall_server.units import GIB, MIB

ROOT = Path(__file__).parents[2]
BEFORE = 300


def test_the_trial_starts_asks_measures_and_compares(tmp_path: Path) -> None:
    python = python_with("0.18.0", print)
    model = tmp_path / "internlm2_5-7b-chat"
    subprocess.run([str(python), str(STANDIN / "make_model.py"), str(model)], check=True)
    wish = PlanRequest(
        find_architecture(str(model)),
        24 * GIB,
        used=BEFORE * MIB,
        cache=0.5,
        context=8192,
        backend="pytorch",
    )
    planned = plan_memory(wish)
    smi = nvidia_smi(tmp_path, planned.bytes_at_start // MIB)
    control, _ = free_ports()
    lmdeploy = tmp_path / "lmdeploy"
    lmdeploy.write_text(
        f'#!/bin/sh\nSTANDIN_CONTROL_PORT={control} exec {python} {STANDIN / "serve.py"} "$@"\n'
    )
    lmdeploy.chmod(0o755)
    words = [str(model), "--backend", "pytorch", "--lmdeploy", str(lmdeploy), "--release", "0.18.0"]
    words += ["--nvidia-smi", str(smi), "--out", str(tmp_path / "out.json")]
    words += ["--log", str(tmp_path / "lmdeploy.log")]
    trial = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.gpu", *words],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "CUDA_VISIBLE_DEVICES": "", "HF_HUB_OFFLINE": "1"},
    )
    try:
        play(Stand("trial", "0.18.0", "", f"http://127.0.0.1:{control}"), trial)
        assert trial.stdout is not None
        said = trial.stdout.read()  # its input stays open: the stand-in ends with that
        trial.wait()
    finally:
        trial.kill()
        trial.communicate()
    assert trial.returncode == 0, said
    assert "| held at start |" in said
    found = json.loads((tmp_path / "out.json").read_text())
    start, most = found["memory"]
    assert start["planned"] == planned.bytes_at_start
    assert abs(start["measured"] - planned.bytes_at_start) < MIB
    assert most["measured"] == start["measured"]
    assert [level["agents"]["called"] for level in found["bench"]["levels"]] == [2, 16, 64]


def nvidia_smi(folder: Path, ready: int) -> Path:
    """It shows what others hold the first time, and the planned memory from then on."""
    program = folder / "nvidia-smi"
    header = "index, name, memory.total [MiB], memory.used [MiB]"
    program.write_text(
        f"#!/bin/sh\necho '{header}'\n"
        f"if [ -e {folder}/asked ]; then used={BEFORE + ready}; else used={BEFORE}; fi\n"
        f"touch {folder}/asked\n"
        f'echo "0, NVIDIA GeForce RTX 3090, 24576 MiB, $used MiB"\n'
    )
    program.chmod(0o755)
    return program


def play(stand: Stand, trial: "subprocess.Popen[str]") -> None:
    """Tells the model what to say, once it is there to be told."""
    call = reference.call("price", {"item": "apple"})
    while trial.poll() is None:
        try:
            stand.script(
                [
                    Reply("one two three four", match="Write the numbers", repeat=True),
                    Reply("18.", match="environment", repeat=True),
                    Reply(call, repeat=True),
                ]
            )
        except OSError:
            time.sleep(0.2)
        else:
            return
