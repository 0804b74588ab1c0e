"""A chat template that renders tools, with the model's own tokenizer."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from test_launch import NEW, OLD

from agentcall_server.chat_template import TemplateSource, prepare_chat_template
from agentcall_server.cli_flags import CommandFlags
from agentcall_server.errors import BadValue
from agentcall_server.model_families import ModelFamily

INTERNLM = ModelFamily("internlm2", has_custom_code=True, has_vision=False)
PUBLISHED = "{% for message in messages %}{{ message['content'] }}{% endfor %}"


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A model's folder, its weights included."""
    folder = tmp_path / "model"
    folder.mkdir()
    config = {"tokenizer_class": "X", "chat_template": PUBLISHED}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    for name in ("config.json", "tokenizer.json", "model.safetensors.index.json"):
        (folder / name).write_text("{}")
    for name in ("tokenizer.model", "tokenization_internlm2.py", "model-1.safetensors"):
        (folder / name).write_bytes(b"x")
    return folder


def source(
    model: Path | str, family: ModelFamily = INTERNLM, manual: CommandFlags = NEW
) -> TemplateSource:
    return TemplateSource(str(model), family, manual, Path(sys.executable))


def chosen(asked: str, of: TemplateSource, tmp_path: Path) -> tuple[str, list[str]]:
    said: list[str] = []
    return prepare_chat_template(asked, of, tmp_path / "made", said.append), said


def test_internlm_gets_a_folder_with_its_tokenizer_and_our_template(
    model: Path, tmp_path: Path
) -> None:
    file, said = chosen("auto", source(model), tmp_path)
    choice = json.loads(Path(file).read_text())
    assert choice["model_name"] == "hf"
    made = Path(choice["model_path"])
    assert sorted(path.name for path in made.iterdir()) == [
        *("chat_template.jinja", "config.json", "tokenization_internlm2.py"),
        *("tokenizer.json", "tokenizer.model", "tokenizer_config.json"),
    ]
    template = (made / "chat_template.jinja").read_text()
    config = json.loads((made / "tokenizer_config.json").read_text())
    assert config == {"tokenizer_class": "X", "chat_template": template}
    assert "tools" in template
    assert said == []
    assert PUBLISHED in (model / "tokenizer_config.json").read_text()


@pytest.mark.parametrize("asked", ["none", "stock"])
def test_it_can_be_declined(asked: str, model: Path, tmp_path: Path) -> None:
    assert chosen(asked, source(model), tmp_path) == ("", [])
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize(
    ("family", "manual"),
    [
        (ModelFamily("qwen2", has_custom_code=False, has_vision=False), NEW),
        (ModelFamily("internlm2", has_custom_code=True, has_vision=True), NEW),
        (INTERNLM, OLD),
    ],
)
def test_others_keep_their_own(
    family: ModelFamily, manual: CommandFlags, model: Path, tmp_path: Path
) -> None:
    assert chosen("auto", source(model, family, manual), tmp_path) == ("", [])


@pytest.mark.parametrize("place", ["tokenizer_config.json", "chat_template.jinja"])
def test_a_template_that_knows_tools_already_is_kept(
    place: str, model: Path, tmp_path: Path
) -> None:
    if place.endswith(".jinja"):
        (model / place).write_text("{{ tools }}")
    else:
        (model / place).write_text(json.dumps({"chat_template": "{{ tools }}"}))
    assert chosen("auto", source(model), tmp_path) == ("", [])


def test_a_template_of_your_own_is_wrapped(model: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.jinja").write_text("{{ mine }}")
    file, _ = chosen(str(tmp_path / "mine.jinja"), source(model), tmp_path)
    made = Path(json.loads(Path(file).read_text())["model_path"])
    assert (made / "chat_template.jinja").read_text() == "{{ mine }}"


def test_a_json_file_and_a_name_are_handed_on(model: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.json").write_text("{}")
    given = str(tmp_path / "mine.json")
    assert chosen(given, source(model), tmp_path)[0] == given
    assert chosen("internlm2", source(model), tmp_path)[0] == "internlm2"


def test_what_is_not_there_is_refused(model: Path, tmp_path: Path) -> None:
    for name in ("none.jinja", "none.json"):
        with pytest.raises(BadValue, match="no such file"):
            chosen(str(tmp_path / name), source(model), tmp_path)
    (tmp_path / "mine.jinja").write_text("")
    with pytest.raises(BadValue, match=r"since 0\.10 only"):
        chosen(str(tmp_path / "mine.jinja"), source(model, manual=OLD), tmp_path)


def test_without_its_tokenizer_the_models_own_is_used_and_the_reason_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))
    found, said = chosen("auto", source("internlm/internlm2_5-7b-chat"), tmp_path)
    assert found == ""
    assert len(said) == 1
    assert "which drops tools" in said[0]
    alone = TemplateSource("internlm/internlm2_5-7b-chat", INTERNLM, NEW, None)
    assert "give the folder of the model" in chosen("auto", alone, tmp_path)[1][0]


def test_a_model_of_the_hubs_cache_needs_no_network(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cached = tmp_path / "hub" / "hub" / "models--internlm--internlm2_5-7b-chat"
    commit = "0" * 40
    (cached / "snapshots").mkdir(parents=True)
    (cached / "refs").mkdir()
    (cached / "refs" / "main").write_text(commit)
    model.rename(cached / "snapshots" / commit)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))
    monkeypatch.delenv("HF_HUB_CACHE", raising=False)
    found, said = chosen("auto", source("internlm/internlm2_5-7b-chat"), tmp_path)
    assert said == []
    assert found.endswith("chat_template.json")
