"""`agentcall server plan` and `quantize`: what is printed, and the exit codes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from click.testing import Result
from rows import each_row
from typer.testing import CliRunner

from agentcall.cli.server import app
from agentcall.errors import UsageError

SEVEN = "internlm2_5-7b-chat"


def plan(*words: str) -> Result:
    return CliRunner().invoke(app, ["plan", *words])


def figures(*words: str) -> Any:  # Any: JSON
    return json.loads(plan(*words, "--json").stdout)


def test_what_fits_ends_with_0_and_the_command() -> None:
    done = plan(SEVEN, "--gpu", "24GiB", "--release", "0.18.0")
    assert done.exit_code == 0
    assert "14.41 GiB" in done.stdout
    assert "lmdeploy serve api_server internlm/internlm2_5-7b-chat" in done.stdout


def test_what_does_not_fit_ends_with_1_and_the_way_out() -> None:
    done = plan(SEVEN, "--gpu", "24GiB", "--cache", "0.4")
    assert done.exit_code == 1
    assert "does not fit: one session of 32,768 tokens" in " ".join(done.stdout.split())
    assert "it fits with --cache 0.45" in done.stdout


def test_weights_to_be_quantized_come_with_the_command_for_it() -> None:
    done = plan(SEVEN, "--gpu", "24GiB", "--quant", "w4a16")
    assert "agentcall server quantize internlm/internlm2_5-7b-chat --method awq" in done.stdout


def test_json_is_the_whole_plan() -> None:
    found = figures(SEVEN, "--gpu", "24GiB", "--kv", "int4", "--sessions", "4", "--context", "32k")
    assert (found["fits"], found["backend"], found["remedy"]) == (True, "turbomind", None)
    assert found["engines"]["turbomind"]["bytes_per_token"] == 34816
    assert found["engines"]["turbomind"]["sessions"] == 6
    assert set(found["engines"]) == {"turbomind", "pytorch"}
    assert "--quant-policy" in found["command"]


def test_the_engine_that_is_judged_can_be_chosen() -> None:
    found = figures(SEVEN, "--gpu", "24GiB", "--quant", "w8a8", "--backend", "pytorch")
    assert found["fits"]
    assert not found["engines"]["turbomind"]["fits"]


def test_every_size_on_the_screen_has_its_unit() -> None:
    shown = plan(SEVEN, "--gpu", "24GB", "--used", "500MiB").stdout
    assert "22.35 GiB" in shown
    assert " GB" not in shown


@each_row(
    ("words", "message"),
    [
        (["--gpu", "24"], "'24' has no unit"),
        (["--gpu", "24GiB", "--tp", "3"], "cannot be split across 3 GPUs"),
        (["--gpu", "24GiB", "--cache", "1.5"], "between 0 and 1"),
        (["--gpu", "24GiB", "--kv", "int2"], "16, int8, int4"),
        (["--gpu", "24GiB", "--quant", "w3"], "w4a16 (awq)"),
        (["--gpu", "24GiB", "--context", "0"], "not a number of tokens"),
        (["--gpu", "24GiB", "--backend", "vllm"], "turbomind or pytorch"),
        (["--gpu", "24GiB", "--release", "x"], "not a version of LMDeploy"),
        (["--gpu", "24GiB", "--batch", "0"], "at least 1"),
        (["--gpu", "24GiB", "--used", "24GiB"], "nothing is left"),
    ],
)
def test_nonsense_is_a_usage_error(words: list[str], message: str) -> None:
    done = plan(SEVEN, *words)
    assert isinstance(done.exception, UsageError)
    assert message in str(done.exception)


def test_an_unknown_model_is_named_before_the_gpu_is_asked() -> None:
    done = plan("no-such-model")
    assert "no model 'no-such-model'" in str(done.exception)


def test_quantizing_without_lmdeploy_is_a_usage_error(tmp_path: Path) -> None:
    words = ["quantize", SEVEN, "--lmdeploy", str(tmp_path / "none"), "--dry-run"]
    done = CliRunner().invoke(app, words)
    assert isinstance(done.exception, UsageError)
    assert "cannot be executed" in str(done.exception)
