"""The command lines in deploy/ are taken by the real argparse of LMDeploy 0.18.0."""

import json
import os
import re
import shlex
import subprocess
from pathlib import Path
from typing import Any

import yaml
from installation import python_with
from launch import STANDIN

DEPLOY = Path(__file__).parents[2] / "deploy"


def parsed(*lines: list[str]) -> list[dict[str, Any]]:
    """What LMDeploy reads in the words after `lmdeploy`."""
    done = subprocess.run(
        [str(python_with("0.18.0", print)), str(STANDIN / "parse.py")],
        input=json.dumps(lines),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]


def test_the_containers_command_lines_are_right() -> None:
    compose = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]["lmdeploy"]
    manifests = list(yaml.safe_load_all((DEPLOY / "kubernetes.yaml").read_text()))
    (pod,) = [m["spec"]["template"]["spec"] for m in manifests if m["kind"] == "Deployment"]
    (container,) = pod["containers"]
    lines = [compose["command"], container["command"] + container["args"]]
    assert [line[0] for line in lines] == ["lmdeploy", "lmdeploy"]
    for found in parsed(*(line[1:] for line in lines)):
        assert found["model_path"] == "internlm/internlm2_5-7b-chat"
        assert (found["server_name"], found["server_port"]) == ("0.0.0.0", 23333)
        assert found["tool_call_parser"] == "internlm"
        assert found["trust_remote_code"]
        assert found["enable_prefix_caching"]
        assert len(found["api_keys"]) == 1
    assert compose["ports"] == ["127.0.0.1:23333:23333"]
    assert compose["image"] == container["image"]


def test_the_units_command_line_is_right() -> None:
    unit = (DEPLOY / "lmdeploy.service").read_text().replace("\\\n", " ")
    (line,) = re.findall(r"^ExecStart=/opt/lmdeploy/bin/lmdeploy (.*)$", unit, re.MULTILINE)
    (found,) = parsed(shlex.split(line))
    assert found["server_name"] == "127.0.0.1"
    assert found["api_keys"] == ["${API_KEY}"]


def test_the_multi_node_command_lines_are_right(tmp_path: Path) -> None:
    for program in ("lmdeploy", "ray"):
        path = tmp_path / program
        path.write_text(f'#!/bin/sh\necho {program} "$@" >> {tmp_path}/said\n')
        path.chmod(0o755)
    environment = {
        "PATH": f"{tmp_path}:{os.environ['PATH']}",
        "HEAD": "10.0.0.1",
        "AGENTCALL_API_KEY": "k",
    }
    for words in (["turbomind", "1"], ["pytorch", "head"], ["pytorch", "worker"]):
        command = ["sh", str(DEPLOY / "multi_node.sh"), *words]
        subprocess.run(command, env=environment, check=True)
    first, ray_head, head, ray_worker = (tmp_path / "said").read_text().splitlines()
    turbomind, pytorch = parsed(shlex.split(first)[1:], shlex.split(head)[1:])
    assert (turbomind["nnodes"], turbomind["node_rank"], turbomind["tp"]) == (2, 1, 16)
    assert turbomind["dist_init_addr"] == "10.0.0.1:29500"
    assert turbomind["communicator"] == "nccl"
    assert (pytorch["backend"], pytorch["tp"]) == ("pytorch", 16)
    assert pytorch["distributed_executor_backend"] == "ray"
    assert ray_head == "ray start --head --port 29500 --num-gpus 8"
    assert ray_worker == "ray start --address 10.0.0.1:29500 --num-gpus 8 --block"
