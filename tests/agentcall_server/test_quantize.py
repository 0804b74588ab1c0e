"""Quantizing: the command for each release, disk and memory, the run, and the verified result.

The program `lmdeploy` is a script here that writes what the real one writes; tests/lmdeploy runs
the real one.
"""

from __future__ import annotations

import json
import os
import shutil
import struct
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from agentcall_server.architecture import ModelArchitecture
from agentcall_server.calibration import compute_window_starts
from agentcall_server.cli_flags import CommandFlags, find_lmdeploy, parse_help, read_command_flags
from agentcall_server.errors import (
    BadValue,
    InsufficientResources,
    LMDeployUnavailable,
    QuantizeFailed,
)
from agentcall_server.language_models import find_architecture
from agentcall_server.progress import NoProgress
from agentcall_server.quantize import QuantizeJob, build_quantize_command, quantize, require_room
from agentcall_server.quantized_models import load_quantized_models, save_quantized_model
from agentcall_server.weights import compute_disk_bytes

NEW_HELP = """usage: lmdeploy lite auto_awq [-h] [--revision REVISION] [--work-dir WORK_DIR]
                              [--calib-dataset {wikitext2,c4,pileval}]
                              [--calib-samples CALIB_SAMPLES] [--calib-seqlen CALIB_SEQLEN]
                              [--batch-size BATCH_SIZE] [--search-scale]
                              [--dtype {auto,float16,bfloat16}] [--trust-remote-code]
                              [--device DEVICE] [--w-bits W_BITS] [--w-sym]
                              [--w-group-size W_GROUP_SIZE]
                              model

Perform weight quantization using AWQ algorithm.
"""
OLD_HELP = """usage: lmdeploy lite auto_awq [-h] [--revision REVISION] [--work-dir WORK_DIR]
                              [--calib-dataset CALIB_DATASET] [--calib-samples CALIB_SAMPLES]
                              [--calib-seqlen CALIB_SEQLEN] [--search-scale SEARCH_SCALE]
                              [--device {cuda,cpu}]
                              model

Perform weight quantization using AWQ algorithm.
"""
CONFIG: dict[str, object] = {
    "model_type": "llama",
    "hidden_size": 128,
    "intermediate_size": 256,
    "num_attention_heads": 2,
    "num_hidden_layers": 1,
    "vocab_size": 64,
    "max_position_embeddings": 64,
}
LMDEPLOY = Path("/opt/lmdeploy/bin/lmdeploy")


def job(**more: object) -> QuantizeJob:
    given: dict[str, object] = {"model": "m", "method": "awq", "output": Path("out"), **more}
    return QuantizeJob(**given)  # type: ignore[arg-type]


def command(manual_text: str, **more: object) -> list[str]:
    manual = parse_help("lite auto_awq", manual_text)
    return build_quantize_command(job(**more), manual, LMDEPLOY, Path("work"))


def safetensors(size: int) -> bytes:
    return struct.pack("<Q", 2) + b"{}" + b"\0" * size


# --- the command -------------------------------------------------------------------------------


def test_a_usage_line_tells_flags_values_and_choices() -> None:
    manual = parse_help("lite auto_awq", NEW_HELP)
    assert manual["--calib-dataset"].choices == ("wikitext2", "c4", "pileval")
    assert manual["--work-dir"].takes_value
    assert not manual["--search-scale"].takes_value
    assert "--no-such" not in manual
    with pytest.raises(KeyError):
        manual["--no-such"]


def test_the_plain_command() -> None:
    assert command(NEW_HELP) == [
        *(str(LMDEPLOY), "lite", "auto_awq", "m", "--work-dir", "work"),
        *("--calib-dataset", "wikitext2", "--calib-samples", "128", "--calib-seqlen", "2048"),
    ]


def test_a_switch_that_takes_a_value_gets_one() -> None:
    assert command(NEW_HELP, search_scale=True)[-1] == "--search-scale"
    assert command(OLD_HELP, search_scale=True)[-2:] == ["--search-scale", "True"]


def test_own_code_is_trusted_where_it_has_to_be_said() -> None:
    assert "--trust-remote-code" in command(NEW_HELP, trusts_custom_code=True)
    assert "--trust-remote-code" not in command(OLD_HELP, trusts_custom_code=True)


def test_a_data_set_that_the_release_lost_is_refused_with_those_it_has() -> None:
    with pytest.raises(BadValue, match=r"'ptb': .* wikitext2, c4, pileval"):
        command(NEW_HELP, data="ptb")
    assert "ptb" in command(OLD_HELP, data="ptb")


@pytest.mark.parametrize("more", [{"dtype": "float16"}, {"batch_size": 4}])
def test_an_option_that_the_release_lacks_is_refused(more: dict[str, object]) -> None:
    with pytest.raises(LMDeployUnavailable, match="has no --"):
        command(OLD_HELP, **more)


def test_a_value_that_the_release_lacks_is_refused() -> None:
    with pytest.raises(BadValue, match="cuda, cpu"):
        command(OLD_HELP, device="tpu")


def test_a_text_of_your_own_is_read_by_lmdeploys_python(tmp_path: Path) -> None:
    text = tmp_path / "text.txt"
    text.write_text("words")
    made = command(NEW_HELP, data=text)
    assert made[0] == "/opt/lmdeploy/bin/python"
    assert made[1].endswith("agentcall_server/calibration.py")
    assert made[2:5] == [str(text), "lite", "auto_awq"]


def test_a_text_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadValue, match="no such file"):
        command(NEW_HELP, data=tmp_path / "no.txt")


def test_a_method_that_is_not_known_is_refused() -> None:
    with pytest.raises(BadValue, match="awq, gptq, smooth_quant"):
        _ = job(method="bnb").subcommand


@pytest.mark.parametrize(
    ("length", "count", "starts"), [(100, 3, [0, 40, 80]), (100, 1, [0]), (20, 3, [0, 0, 0])]
)
def test_windows_are_spread_evenly(length: int, count: int, starts: list[int]) -> None:
    assert compute_window_starts(length, window=20, count=count) == starts


def test_a_text_that_is_too_short_is_refused() -> None:
    with pytest.raises(ValueError, match="19 tokens and a sample takes 20"):
        compute_window_starts(19, window=20, count=1)


# --- the program -------------------------------------------------------------------------------


def test_a_program_that_is_not_there_is_refused() -> None:
    with pytest.raises(LMDeployUnavailable, match="cannot be executed"):
        find_lmdeploy("/no/such/lmdeploy")


Program = Callable[[str], Path]


@pytest.fixture
def program(tmp_path: Path) -> Program:
    """Makes a `lmdeploy` that shows the help, and else runs the given Python."""

    def make(body: str) -> Path:
        file = tmp_path / "bin" / "lmdeploy"
        file.parent.mkdir(exist_ok=True)
        lines = [
            f"#!{sys.executable}",
            "import json, os, pathlib, sys, time",
            "if '--help' in sys.argv:",
            f"    sys.exit(print({NEW_HELP!r}))",
            "work = pathlib.Path(sys.argv[sys.argv.index('--work-dir') + 1])",
            body,
        ]
        file.write_text("\n".join(lines))
        file.chmod(0o755)
        return file

    return make


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "tiny"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(CONFIG))
    (folder / "tokenizer.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(safetensors(2 * shape(folder).total_parameters))
    return folder


def shape(folder: Path) -> ModelArchitecture:
    return find_architecture(str(folder))


def writes(size: int, method: str = "awq", more: str = "") -> str:
    """A program that leaves a model of so many bytes of weights."""
    config = json.dumps({**CONFIG, "quantization_config": {"quant_method": method}})
    return "\n".join(
        [
            "work.mkdir(parents=True)",
            f"(work / 'config.json').write_text({config!r})",
            "(work / 'tokenizer.json').write_text('{}')",
            f"(work / 'model.safetensors').write_bytes(b'0' * {size})",
            "(work / 'inputs_stats.pth').write_bytes(b'')",
            "print('model.layers.0, samples: 4')",
            more,
        ]
    )


def run(program: Path, model: Path, output: Path) -> None:
    made = QuantizeJob(str(model), "awq", output)
    quantize(made, shape(model), report=NoProgress(), lmdeploy=str(program))


def test_a_result_is_checked_and_named(program: Program, model: Path, tmp_path: Path) -> None:
    size = compute_disk_bytes(shape(model), "awq")
    made = QuantizeJob(str(model), "awq", tmp_path / "out")
    done = quantize(made, shape(model), report=NoProgress(), lmdeploy=str(program(writes(size))))
    assert done.folder == tmp_path / "out"
    assert (done.size_before, done.size_after) == (2 * shape(model).total_parameters + 10, size)
    assert sorted(file.name for file in done.folder.iterdir()) == [
        *("config.json", "model.safetensors", "tokenizer.json")
    ]
    assert not (tmp_path / "out.partial").exists()


def test_a_result_that_is_there_is_not_overwritten(
    program: Program, model: Path, tmp_path: Path
) -> None:
    (tmp_path / "out").mkdir()
    with pytest.raises(QuantizeFailed, match="exists already"):
        run(program("sys.exit(9)"), model, tmp_path / "out")


def test_what_an_earlier_run_left_is_thrown_away(
    program: Program, model: Path, tmp_path: Path
) -> None:
    (tmp_path / "out.partial").mkdir()
    (tmp_path / "out.partial" / "old.safetensors").write_bytes(b"0" * 1000)
    run(program(writes(compute_disk_bytes(shape(model), "awq"))), model, tmp_path / "out")
    assert not (tmp_path / "out" / "old.safetensors").exists()


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (writes(10), "were expected of"),
        (writes(15000, method="gptq"), "has gptq quantization, not awq"),
        (writes(15000, more="(work / 'model.safetensors').unlink()"), "the weights"),
        (writes(15000, more="(work / 'tokenizer.json').unlink()"), "the tokenizer missing"),
        (
            writes(
                15000,
                more="(work / 'model.safetensors.index.json').write_text("
                "json.dumps({'weight_map': {'a': 'model-2.safetensors'}}))",
            ),
            "model-2.safetensors missing",
        ),
        ("print('CUDA error: no kernel image'); sys.exit(1)", "no kernel image"),
        ("print('torch.OutOfMemoryError: CUDA out of memory'); sys.exit(1)", "--batch 1"),
        ("print(\"No module named 'datasets'\"); sys.exit(1)", "--data FILE"),
        ("sys.exit(0)", "config.json"),
    ],
)
def test_a_run_that_leaves_no_whole_model_gives_no_result(
    program: Program, model: Path, tmp_path: Path, body: str, words: str
) -> None:
    with pytest.raises(QuantizeFailed) as caught:
        run(program(body), model, tmp_path / "out")
    assert words in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_a_command_that_lmdeploy_lacks_is_told(tmp_path: Path) -> None:
    file = tmp_path / "lmdeploy"
    file.write_text(f"#!{sys.executable}\nimport sys\nsys.exit('invalid choice: auto_gptq')\n")
    file.chmod(0o755)
    with pytest.raises(LMDeployUnavailable, match="invalid choice: auto_gptq"):
        read_command_flags(file, ("lite", "auto_gptq"))


def test_help_that_is_no_help_gives_an_empty_manual() -> None:
    assert parse_help("x", "hello") == CommandFlags("x", ())


# --- room, and the shelf -----------------------------------------------------------------------


def test_a_disk_that_is_too_small_is_told_before_anything_runs(tmp_path: Path) -> None:
    free = shutil.disk_usage(tmp_path).free
    huge = find_architecture("Qwen3-235B-A22B")
    if compute_disk_bytes(huge, "awq") < free:
        pytest.skip("this disk holds even that")
    with pytest.raises(InsufficientResources, match=r"needs .* and has"):
        require_room(QuantizeJob("m", "awq", tmp_path / "a" / "out"), huge)


@pytest.mark.skipif(not Path("/proc/meminfo").exists(), reason="only Linux tells")
def test_memory_that_is_too_small_is_told(tmp_path: Path) -> None:
    model = find_architecture("Qwen2.5-72B")
    if compute_disk_bytes(model, "awq") > shutil.disk_usage(tmp_path).free:
        pytest.skip("the disk is too small already")
    if os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") > compute_disk_bytes(model, "16"):
        pytest.skip("this machine holds even that")
    with pytest.raises(InsufficientResources, match="main memory"):
        require_room(QuantizeJob("m", "awq", tmp_path / "out"), model)


def test_the_shelf_remembers(tmp_path: Path) -> None:
    assert load_quantized_models(tmp_path) == {}
    save_quantized_model("a", tmp_path / "a", tmp_path)
    save_quantized_model("b", tmp_path / "b", tmp_path)
    assert load_quantized_models(tmp_path) == {"a": tmp_path / "a", "b": tmp_path / "b"}


def test_a_shelf_that_is_broken_is_empty(tmp_path: Path) -> None:
    (tmp_path / "language_models.json").write_text("[")
    assert load_quantized_models(tmp_path) == {}
