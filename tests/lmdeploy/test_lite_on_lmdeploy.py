"""Quantizing by the real `lmdeploy lite` of 0.18.0 and 0.5.3, on the CPU, without a network.

A small Llama with random weights is quantized for real where LMDeploy can do that without a GPU;
the other command lines run up to the point where it needs the model or a package.
"""

import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from installation import NoInterpreterError, python_with
from launch import STANDIN

from agentcall_server.language_models import find_architecture
from agentcall_server.lite_command import Job, lite_command
from agentcall_server.manual import ask_manual
from agentcall_server.progress import Quiet
from agentcall_server.quantize import Quantized, quantize
from agentcall_server.refusals import BadValue, NoLMDeploy, QuantizeFailed
from agentcall_server.weights import bytes_on_disk

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


def made(job: Job, version: str) -> Quantized:
    architecture = find_architecture(job.model)
    return quantize(job, architecture, report=Quiet(), lmdeploy=str(program(version)))


def small_job(model: Path, method: str, output: Path, text: Path) -> Job:
    return Job(
        str(model), method, output, data=text, samples=4, length=64, device="cpu", dtype=None
    )


def test_awq_by_a_local_text_gives_the_computed_size(
    version: str, model: Path, text: Path, tmp_path: Path
) -> None:
    job = small_job(model, "awq", tmp_path / "tiny-awq", text)
    done = made(job, version)
    expected = bytes_on_disk(find_architecture(str(model)), "awq")
    assert 0 <= done.after - expected < 20_000  # the headers of the file
    assert done.after < done.before
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
    expected = bytes_on_disk(find_architecture(str(model)), "smooth_quant")
    assert 0 <= done.after - expected < 20_000


def test_the_plan_knows_the_checkpoint_that_was_made_of_16_bits(model: Path) -> None:
    architecture = find_architecture(str(model))
    size = sum(file.stat().st_size for file in model.glob("*.safetensors"))
    assert 0 <= size - bytes_on_disk(architecture, "16") < 20_000


JOBS = {
    "plain": Job("no/such-model", "awq", Path("out")),
    "all": Job(
        "no/such-model",
        "awq",
        Path("out"),
        data="c4",
        samples=8,
        length=512,
        batch=2,
        group=64,
        search_scale=True,
        own_code=True,
        revision="main",
        device="cpu",
    ),
    "smooth": Job("no/such-model", "smooth_quant", Path("out"), batch=2, own_code=True),
    "gptq": Job("no/such-model", "gptq", Path("out"), own_code=True),
}


@pytest.mark.parametrize("name", JOBS)
def test_a_command_line_is_accepted_by_the_real_parser(
    version: str, name: str, tmp_path: Path
) -> None:
    job = JOBS[name]
    lmdeploy = program(version)
    if job.method == "gptq" and version == "0.5.3":
        with pytest.raises(NoLMDeploy, match=r"auto_gptq came with 0\.6\.0"):
            ask_manual(lmdeploy, job.words)
        return
    command = lite_command(job, ask_manual(lmdeploy, job.words), lmdeploy, tmp_path / "work")
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
    manual = ask_manual(lmdeploy, ("lite", "auto_awq"))
    with pytest.raises(BadValue, match=r"'ptb'.*wikitext2"):
        lite_command(Job("m", "awq", Path("o"), data="ptb"), manual, lmdeploy, Path("w"))
