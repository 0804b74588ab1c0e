"""The memory of this machine's GPUs, if it can be read."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from agentcall_server.errors import GPUUnknown
from agentcall_server.gpu import find_gpus


def test_without_the_binding_it_is_told_what_to_do() -> None:
    if importlib.util.find_spec("pynvml") is not None:
        pytest.skip("nvidia-ml-py is installed here")
    with pytest.raises(GPUUnknown, match=r"pip install nvidia-ml-py.*--gpu 24GiB"):
        find_gpus()


@pytest.fixture
def fake_driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A stand-in for NVIDIA's binding, as no machine of the tests has its driver."""
    (tmp_path / "pynvml.py").write_text(
        "class NVMLError(Exception): pass\n"
        "class Memory: total = 24 * 2**30; used = 3 * 2**30\n"
        "def nvmlInit(): pass\n"
        "def nvmlShutdown(): pass\n"
        "def nvmlDeviceGetCount(): return 2\n"
        "def nvmlDeviceGetHandleByIndex(i): return i\n"
        "def nvmlDeviceGetMemoryInfo(h): return Memory\n"
        "def nvmlDeviceGetName(h): return b'NVIDIA A10'\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "pynvml", raising=False)
    yield
    sys.modules.pop("pynvml", None)


@pytest.mark.usefixtures("fake_driver")
def test_name_and_memory_come_from_the_driver() -> None:
    found = find_gpus()
    assert [(gpu.name, gpu.total >> 30, gpu.used >> 30) for gpu in found] == [
        ("NVIDIA A10", 24, 3)
    ] * 2


@pytest.mark.usefixtures("fake_driver")
def test_a_driver_that_does_not_answer_is_told() -> None:
    import pynvml  # type: ignore[import-not-found]  # the stand-in

    def refuse() -> None:
        raise pynvml.NVMLError("driver not loaded")

    pynvml.nvmlInit = refuse
    with pytest.raises(GPUUnknown, match=r"driver not loaded.*--gpu 24GiB"):
        find_gpus()
