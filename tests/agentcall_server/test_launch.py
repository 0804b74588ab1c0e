"""The options of a launch, and its command on each release of LMDeploy."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from rows import each_row

from agentcall_server.cli_flags import CommandFlags, find_python, parse_help
from agentcall_server.errors import BadValue, LMDeployUnavailable
from agentcall_server.launch import Launch, resolve_model_name, resolve_paths
from agentcall_server.launch_command import build_launch_command
from agentcall_server.model_families import find_family
from agentcall_server.quantized_models import save_quantized_model
from agentcall_server.releases import LMDeployRelease, infer_min_release

HELP = Path(__file__).parents[1] / "support" / "lmdeploy_help"
MANUALS = {
    release: parse_help("serve api_server", (HELP / f"{release}.txt").read_text())
    for release in ("0.18.0", "0.5.3")
}
NEW, OLD = MANUALS["0.18.0"], MANUALS["0.5.3"]
SEVEN = Launch("internlm2_5-7b-chat", port=23333)


def command(launch: Launch, manual: CommandFlags = NEW, template: str = "") -> list[str]:
    model = resolve_model_name(launch.model)
    return build_launch_command(launch, manual, find_family(model), model=model, template=template)


def value(words: list[str], flag: str) -> str | None:
    return words[words.index(flag) + 1] if flag in words else None


def test_internlm_on_the_newest_gets_parser_code_and_prefix_cache() -> None:
    assert command(SEVEN, template="/t.json") == [
        *("serve", "api_server", "internlm/internlm2_5-7b-chat"),
        *("--server-name", "127.0.0.1", "--server-port", "23333"),
        *("--allow-origins", "http://127.0.0.1", "--enable-prefix-caching"),
        *("--tool-call-parser", "internlm", "--chat-template", "/t.json", "--trust-remote-code"),
    ]


def test_the_oldest_gets_no_flag_that_it_lacks() -> None:
    assert command(SEVEN, OLD) == [
        *("serve", "api_server", "internlm/internlm2_5-7b-chat"),
        *("--server-name", "127.0.0.1", "--server-port", "23333"),
        *("--allow-origins", "http://127.0.0.1", "--enable-prefix-caching"),
    ]


def test_sizes_are_said_where_they_were_asked_for() -> None:
    asked = replace(SEVEN, cache=0.4, context=8192, kv_bits=8, tp=2, backend="turbomind")
    for manual in (NEW, OLD):
        words = command(asked, manual)
        assert value(words, "--cache-max-entry-count") == "0.4"
        assert value(words, "--session-len") == "8192"
        assert value(words, "--quant-policy") == "8"
        assert value(words, "--tp") == "2"
        assert value(words, "--backend") == "turbomind"


@each_row(
    ("model", "parser", "own_code"),
    [
        ("internlm/internlm2_5-20b-chat", "internlm", True),
        ("Qwen/Qwen2.5-7B-Instruct", "qwen", False),
        ("Qwen3-8B", "qwen", False),
        ("meta-llama/Llama-3.1-8B-Instruct", "llama3", False),
        ("internlm/internlm2_5-7b-chat-4bit", "internlm", True),
        ("somebody/Qwen2.5-1.5B-fine", "qwen", False),
        ("Qwen/Qwen2.5-VL-7B-Instruct", None, False),
        ("mistralai/Mistral-7B-Instruct-v0.3", None, False),
        ("internlm/internlm20b", None, True),
    ],
)
def test_a_family_is_known_by_its_name(model: str, parser: str | None, own_code: bool) -> None:
    words = command(replace(SEVEN, model=model))
    assert value(words, "--tool-call-parser") == parser
    assert ("--trust-remote-code" in words) is own_code


def test_a_folder_is_known_by_its_files(tmp_path: Path) -> None:
    config = {"model_type": "qwen3", "auto_map": {"AutoConfig": "x.Y"}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    words = command(replace(SEVEN, model=str(tmp_path)))
    assert words[2] == str(tmp_path)
    assert value(words, "--tool-call-parser") == "qwen"
    assert "--trust-remote-code" in words


def test_quantized_weights_are_named(tmp_path: Path) -> None:
    config = {
        "model_type": "llama",
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_attention_heads": 4,
        "num_hidden_layers": 2,
        "vocab_size": 100,
        "max_position_embeddings": 128,
        "quantization_config": {"quant_method": "awq", "bits": 4, "group_size": 64},
    }
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert value(command(replace(SEVEN, model=str(tmp_path))), "--model-format") == "awq"


def test_past_the_trained_length_of_dynamic_rope_no_prefix_is_shared() -> None:
    long = replace(SEVEN, context=65536)
    assert "--enable-prefix-caching" not in command(long)
    assert value(command(long, OLD), "--rope-scaling-factor") == "2"
    yarn = command(replace(SEVEN, model="Qwen2.5-7B-Instruct", context=65536))
    assert "--enable-prefix-caching" in yarn
    assert '"rope_type":"yarn"' in str(value(yarn, "--hf-overrides"))


def test_the_users_own_flags_come_last_and_win() -> None:
    own = ("--session-len", "4096", "--tool-call-parser=qwen", "--log-level", "INFO")
    words = command(replace(SEVEN, context=8192, flags=own))
    assert words.count("--session-len") == 1
    assert tuple(words[-5:]) == own
    assert "internlm" not in words


def test_a_flag_that_this_lmdeploy_lacks_is_refused_with_the_one_that_was_meant() -> None:
    with pytest.raises(LMDeployUnavailable, match="did you mean --session-len"):
        command(replace(SEVEN, flags=("--sesion-len", "1")))
    with pytest.raises(LMDeployUnavailable, match="has no --tool-call-parser"):
        command(replace(SEVEN, flags=("--tool-call-parser", "internlm")), OLD)
    assert "--session" in command(replace(SEVEN, flags=("--session", "1")))  # argparse takes it


def test_an_engine_that_is_none_is_refused_with_those_that_are() -> None:
    with pytest.raises(LMDeployUnavailable, match="pytorch, turbomind"):
        command(replace(SEVEN, backend="vllm"))


def test_the_release_is_told_by_its_flags() -> None:
    assert infer_min_release(NEW) >= LMDeployRelease(0, 13)
    assert infer_min_release(OLD) == LMDeployRelease(0, 5, 3)


@each_row(
    ("change", "words"),
    [
        ({"model": " "}, "no model to launch"),
        ({"name": "../x"}, "use letters"),
        ({"port": 70000}, "a port is between"),
        ({"cache": 1.5}, "between 0 and 1"),
        ({"kv_bits": 2}, "16, int8 or int4"),
        ({"tp": 0}, "at least 1"),
        ({"context": 0}, "at least 1"),
        ({"patience": 0.0}, "above 0"),
        ({"flags": ("--server-port", "1")}, "use --port"),
        ({"flags": ("--server-name=0.0.0.0",)}, "use --host"),
        ({"flags": ("--api-keys", "sk")}, "visible to everybody"),
        ({"flags": ("other-model",)}, "not a flag of LMDeploy"),
        ({"model": "embedded", "host": "0.0.0.0"}, "this machine only"),
        ({"model": "embedded", "flags": ("--tp", "2")}, "are for LMDeploy"),
    ],
)
def test_nonsense_is_refused_with_what_was_said(change: dict[str, object], words: str) -> None:
    with pytest.raises(BadValue, match=words):
        replace(SEVEN, **change)  # type: ignore[arg-type]


@each_row(
    ("host", "protected", "has_key"),
    [
        ("127.0.0.1", False, False),
        ("localhost", False, False),
        ("127.0.0.1", True, True),
        ("0.0.0.0", False, True),
        ("10.1.2.3", False, True),
        ("::", False, True),
    ],
)
def test_what_others_reach_has_a_key(host: str, protected: bool, has_key: bool) -> None:
    assert replace(SEVEN, host=host, protected=protected).has_key is has_key


@each_row(
    ("model", "name"),
    [
        ("internlm/internlm2_5-7b-chat", "internlm2_5-7b-chat"),
        ("/models/my model/", "my-model"),
        ("embedded", "embedded"),
        ("embedded:/models/tiny.gguf", "embedded-tiny"),
        ("模型", "server"),
    ],
)
def test_a_server_is_called_by_its_model(model: str, name: str) -> None:
    assert Launch(model).default_name == name


def test_a_model_is_found_on_disk_on_the_shelf_and_in_the_catalogue(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AGENTCALL_CACHE", str(tmp_path / "cache"))
    (tmp_path / "mine").mkdir()
    monkeypatch.chdir(tmp_path)
    save_quantized_model("mine-awq", tmp_path / "made")
    assert resolve_model_name("mine") == str(tmp_path / "mine")
    assert resolve_model_name("mine-awq") == str(tmp_path / "made")
    assert resolve_model_name("qwen3-8b") == "Qwen/Qwen3-8B"
    assert resolve_model_name("any/thing") == "any/thing"


def test_files_are_found_from_any_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "m").mkdir()
    (tmp_path / "t.jinja").write_text("")
    found = resolve_paths(Launch("m", template="t.jinja", lmdeploy="./bin/lmdeploy"))
    assert found.model == str(tmp_path / "m")
    assert found.template == str(tmp_path / "t.jinja")
    assert found.lmdeploy == str(tmp_path / "bin" / "lmdeploy")
    assert resolve_paths(SEVEN) == SEVEN


@pytest.mark.parametrize(
    ("head", "is_python"),
    [
        ("#!{python}\n", True),
        ("#!/usr/bin/env python3\n", True),
        ("#!/bin/sh\n'''exec' \"{python}\" \"$0\" \"$@\"\n' '''\n", True),
        ("#!/bin/sh\nexec lmdeploy\n", False),
        ("#!/no/such/python\n", False),
        ("\x7fELF", False),
        ("", False),
    ],
)
def test_the_python_of_a_program_is_in_its_first_lines(
    tmp_path: Path, head: str, is_python: bool
) -> None:
    program = tmp_path / "lmdeploy"
    program.write_text(head.format(python=sys.executable))
    assert (find_python(program) is not None) is is_python
    assert find_python(tmp_path / "none") is None
