"""Quantizing by the real `lmdeploy lite` of 0.18.0 and 0.5.3, on the CPU, without a network.

A small Llama with random weights is quantized for real where LMDeploy can do that without a GPU;
the other command lines run up to the point where it needs the model or a package.
"""

import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from environments import NoInterpreterError
from installation import python_with
from launch import STANDIN

from agentcall_server.cli_flags import read_command_flags
from agentcall_server.errors import BadValue, LMDeployUnavailable, QuantizeFailed
from agentcall_server.language_models import find_architecture
from agentcall_server.progress import NoProgress
from agentcall_server.quantize import QuantizedModel, QuantizeJob, build_quantize_command, quantize
from agentcall_server.weights import compute_disk_bytes

VERSIONS = ("0.18.0", "0.5.3")
REFUSALS = ("unrecognized arguments", "invalid choice", "expected one argument", "usage:")
TEXT = "\n".join(f"Line {n} says how many sessions of {n} tokens fit." for n in range(300))


def program(version: str) -> Path:
    try:
        return python_with(version, print).with_name("lmdeploy")
    except NoInterpreterError as reason:
        pytest.skip(str(reason))


@pytest.fixture(autouse=True)
def offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same on a machine with a GPU, a network or models in a cache."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))
    for name in ("PYTHONPATH", "PYTHONHOME"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="module", params=VERSIONS)
def version(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def model(version: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a tokenizer and weights; its path holds no dot."""
    python = program(version).with_name("python")
    folder = tmp_path_factory.mktemp("lite") / "tiny-llama"
    for script in ("make_model.py", "make_weights.py"):
        subprocess.run([str(python), str(STANDIN / script), str(folder)], check=True)
    return folder


@pytest.fixture
def text(tmp_path: Path) -> Path:
    file = tmp_path / "calibration.txt"
    file.write_text(TEXT, "utf-8")
    return file


def made(job: QuantizeJob, version: str) -> QuantizedModel:
    architecture = find_architecture(job.model)
    return quantize(job, architecture, report=NoProgress(), lmdeploy=str(program(version)))


def small_job(model: Path, method: str, output: Path, text: Path) -> QuantizeJob:
    return QuantizeJob(
        str(model), method, output, data=text, samples=4, length=64, device="cpu", dtype=None
    )


def test_awq_by_a_local_text_gives_the_computed_size(
    version: str, model: Path, text: Path, tmp_path: Path
) -> None:
    job = small_job(model, "awq", tmp_path / "tiny-awq", text)
    done = made(job, version)
    expected = compute_disk_bytes(find_architecture(str(model)), "awq")
    assert 0 <= done.size_after - expected < 20_000  # the headers of the file
    assert done.size_after < done.size_before
    assert find_architecture(str(done.folder)).stored_scheme == "awq"


def test_awq_searches_its_scales_on_both(
    version: str, model: Path, text: Path, tmp_path: Path
) -> None:
    job = small_job(model, "awq", tmp_path / "tiny-awq", text)
    made(replace(job, search_scale=True, samples=1), version)


def test_smooth_quant_by_a_local_text_gives_the_computed_size(
    version: str, model: Path, text: Path, tmp_path: Path
) -> None:
    job = small_job(model, "smooth_quant", tmp_path / "tiny-w8a8", text)
    if version == "0.5.3":  # its last step is a CUDA kernel
        with pytest.raises(QuantizeFailed, match="per_channel_quant"):
            made(job, version)
        return
    done = made(job, version)
    expected = compute_disk_bytes(find_architecture(str(model)), "smooth_quant")
    assert 0 <= done.size_after - expected < 20_000


def test_the_plan_knows_the_checkpoint_that_was_made_of_16_bits(model: Path) -> None:
    architecture = find_architecture(str(model))
    size = sum(file.stat().st_size for file in model.glob("*.safetensors"))
    assert 0 <= size - compute_disk_bytes(architecture, "16") < 20_000


JOBS = {
    "plain": QuantizeJob("no/such-model", "awq", Path("out")),
    "all": QuantizeJob(
        "no/such-model",
        "awq",
        Path("out"),
        data="c4",
        samples=8,
        length=512,
        batch_size=2,
        group_size=64,
        search_scale=True,
        trusts_custom_code=True,
        revision="main",
        device="cpu",
    ),
    "smooth": QuantizeJob(
        "no/such-model", "smooth_quant", Path("out"), batch_size=2, trusts_custom_code=True
    ),
    "gptq": QuantizeJob("no/such-model", "gptq", Path("out"), trusts_custom_code=True),
}


@pytest.mark.parametrize("name", JOBS)
def test_a_command_line_is_accepted_by_the_real_parser(
    version: str, name: str, tmp_path: Path
) -> None:
    job = JOBS[name]
    lmdeploy = program(version)
    if job.method == "gptq" and version == "0.5.3":
        with pytest.raises(LMDeployUnavailable, match=r"auto_gptq needs 0\.6\.0"):
            read_command_flags(lmdeploy, job.subcommand)
        return
    command = build_quantize_command(
        job, read_command_flags(lmdeploy, job.subcommand), lmdeploy, tmp_path / "work"
    )
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    # past the parser, it stops at a model that is not there, or at a package that is not
    assert done.returncode == 1, done.stderr
    assert not any(words in done.stderr for words in REFUSALS), done.stderr
    assert "Traceback" in done.stderr


def test_the_commands_of_the_article_are_refused_by_the_newest() -> None:
    lmdeploy = program("0.18.0")
    words = [str(lmdeploy), "lite", "auto_awq", "m"]
    for wrong in (["--calib-dataset", "ptb"], ["--search-scale", "False"]):
        done = subprocess.run([*words, *wrong], capture_output=True, text=True, check=False)
        assert done.returncode == 2
    manual = read_command_flags(lmdeploy, ("lite", "auto_awq"))
    with pytest.raises(BadValue, match=r"'ptb'.*wikitext2"):
        build_quantize_command(
            QuantizeJob("m", "awq", Path("o"), data="ptb"), manual, lmdeploy, Path("w")
        )
