from __future__ import annotations

import re
from pathlib import Path

import pytest

from agentcall_server.embedded_models import (
    DEFAULT_MODEL,
    MODELS,
    HubFile,
    LocalFile,
    WheelParts,
    lookup,
)
from agentcall_server.errors import UnknownModelName


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AGENTCALL_EMBEDDED", raising=False)


def test_without_a_name_the_default_is_meant() -> None:
    assert lookup().name == lookup("").name == DEFAULT_MODEL == "qwen2.5-coder-1.5b"


def test_the_environment_may_name_a_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGENTCALL_EMBEDDED", "qwen3-0.6b")
    assert lookup().name == "qwen3-0.6b"
    assert lookup("qwen3-4b").name == "qwen3-4b"


def test_the_environment_may_hold_a_path(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / "mine.gguf"
    file.write_bytes(b"GGUF")
    monkeypatch.setenv("AGENTCALL_EMBEDDED", str(file))
    assert lookup().local_path == file


def test_letter_case_does_not_matter() -> None:
    assert lookup("Qwen3-4B").name == "qwen3-4b"


def test_an_unknown_name_is_refused_with_all_names_there_are() -> None:
    with pytest.raises(UnknownModelName) as caught:
        lookup("gpt-4")
    for text in ["'gpt-4'", *(model.name for model in MODELS), ".gguf"]:
        assert text in str(caught.value)


def test_a_file_is_served_under_its_own_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "my.model.gguf").write_bytes(b"GGUF")
    monkeypatch.chdir(tmp_path)
    model = lookup("my.model.gguf")
    assert model.name == "my.model"
    assert model.sources == (LocalFile(tmp_path / "my.model.gguf"),)
    assert model.size == 4


def test_a_path_may_begin_with_the_home_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "m.gguf").write_bytes(b"GGUF")
    assert lookup("~/m.gguf").local_path == tmp_path / "m.gguf"


def test_a_path_where_nothing_is_says_so(tmp_path: Path) -> None:
    with pytest.raises(UnknownModelName, match=re.escape(str(tmp_path / "none.gguf"))):
        lookup(tmp_path / "none.gguf")


def test_names_and_files_are_unique() -> None:
    assert len({model.name for model in MODELS}) == len(MODELS)
    assert len({model.file for model in MODELS}) == len(MODELS)


def test_what_comes_from_packages_is_pinned() -> None:
    for model in MODELS:
        if any(isinstance(source, WheelParts) for source in model.sources):
            assert model.sha256 is not None
            assert model.size is not None


def test_pinned_hashes_have_the_form_of_a_sha256() -> None:
    pinned = [model.sha256 for model in MODELS if model.sha256 is not None]
    assert len(set(pinned)) == len(pinned) >= 5
    assert all(re.fullmatch(r"[0-9a-f]{64}", sha) for sha in pinned)


def test_the_parts_are_in_order_and_complete() -> None:
    source = lookup(DEFAULT_MODEL).sources[-1]
    assert isinstance(source, WheelParts)
    numbers = [re.findall(r"part(\d+)==", text)[0] for text in source.requirements]
    assert numbers == [str(i) for i in range(1, 23)]


def test_internlm_comes_from_its_own_releases() -> None:
    for model in MODELS:
        if model.name.startswith("internlm"):
            (source,) = model.sources
            assert isinstance(source, HubFile)
            assert source.repo.startswith("internlm/")
