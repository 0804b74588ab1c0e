"""The shape of a model, from its config.json and from the list of known models."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from rows import each_row

from agentcall_server.architecture import ExpertLayout, read_architecture
from agentcall_server.errors import UnknownArchitecture, UnknownModelName
from agentcall_server.language_models import ARCHITECTURES, find_architecture
from agentcall_server.model_files import ModelConfig, read_model_config
from agentcall_server.quantized_models import save_quantized_model
from agentcall_server.rope import RopeSettings

# Parameters of the publishers' checkpoints (total_size of the index over two bytes each, as the
# hub shows them), which the shapes have to give to the parameter.
PUBLISHED = {
    "internlm2_5-1_8b-chat": 1_889_110_016,
    "internlm2_5-7b-chat": 7_737_708_544,
    "internlm2_5-20b-chat": 19_861_149_696,
    "InternVL2-26B": 25_514_186_112,
    "Qwen2.5-0.5B-Instruct": 494_032_768,
    "Qwen2.5-1.5B-Instruct": 1_543_714_304,
    "Qwen2.5-3B-Instruct": 3_085_938_688,
    "Qwen2.5-7B-Instruct": 7_615_616_512,
    "Qwen2.5-14B-Instruct": 14_770_033_664,
    "Qwen2.5-32B-Instruct": 32_763_876_352,
    "Qwen2.5-72B-Instruct": 72_706_203_648,
    "Qwen3-0.6B": 596_049_920,
    "Qwen3-1.7B": 1_720_574_976,
    "Qwen3-4B": 4_022_468_096,
    "Qwen3-8B": 8_190_735_360,
    "Qwen3-14B": 14_768_307_200,
    "Qwen3-32B": 32_762_123_264,
    "Qwen3-30B-A3B": 30_532_122_624,
    "Qwen3-235B-A22B": 235_093_634_560,
    "Meta-Llama-3-8B-Instruct": 8_030_261_248,
    "Meta-Llama-3-70B-Instruct": 70_553_706_496,
    "Llama-3.1-8B-Instruct": 8_030_261_248,
    "Llama-3.1-70B-Instruct": 70_553_706_496,
    "Llama-3.2-1B-Instruct": 1_235_814_400,
    "Llama-3.2-3B-Instruct": 3_212_749_824,
    "Llama-3.3-70B-Instruct": 70_553_706_496,
}
INTERNLM_7B: dict[str, object] = {
    "architectures": ["InternLM2ForCausalLM"],
    "auto_map": {"AutoConfig": "configuration_internlm2.InternLM2Config"},
    "bias": False,
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "max_position_embeddings": 32768,
    "model_type": "internlm2",
    "num_attention_heads": 32,
    "num_hidden_layers": 32,
    "num_key_value_heads": 8,
    "rope_scaling": {"factor": 2.0, "type": "dynamic"},
    "rope_theta": 1000000,
    "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
    "vocab_size": 92544,
}
INTERN_VIT_6B: dict[str, object] = {
    "hidden_size": 3200,
    "image_size": 448,
    "intermediate_size": 12800,
    "norm_type": "rms_norm",
    "num_hidden_layers": 45,
    "patch_size": 14,
    "qk_normalization": True,
    "qkv_bias": False,
}


def folder_of(path: Path, config: dict[str, object]) -> Path:
    path.mkdir(parents=True, exist_ok=True)
    (path / "config.json").write_text(json.dumps(config), encoding="utf-8")
    return path


@each_row("name", PUBLISHED)
def test_the_parameters_are_those_of_the_published_checkpoint(name: str) -> None:
    assert find_architecture(name).total_parameters == PUBLISHED[name]


def test_every_model_of_the_catalogue_is_checked() -> None:
    assert {model.name.partition("/")[2] for model in ARCHITECTURES} == set(PUBLISHED)


@pytest.mark.parametrize(
    "name", ["internlm/internlm2_5-7b-chat", "InternLM2_5-7B-Chat", "internlm2_5-7b"]
)
def test_a_name_comes_with_its_owner_or_without(name: str) -> None:
    assert find_architecture(name).name == "internlm/internlm2_5-7b-chat"


def test_a_folder_gives_what_the_catalogue_has(tmp_path: Path) -> None:
    found = find_architecture(str(folder_of(tmp_path, INTERNLM_7B)))
    known = find_architecture("internlm2_5-7b-chat")
    assert (found.total_parameters, found.rope, found.trained_length) == (
        known.total_parameters,
        known.rope,
        known.trained_length,
    )
    assert (found.class_names, found.has_custom_code) == (known.class_names, True)


def test_a_vision_model_keeps_its_language_model_inside(tmp_path: Path) -> None:
    language = INTERNLM_7B | {
        "hidden_size": 6144,
        "intermediate_size": 16384,
        "num_attention_heads": 48,
        "num_hidden_layers": 48,
        "vocab_size": 92553,
    }
    config: dict[str, object] = {
        "architectures": ["InternVLChatModel"],
        "model_type": "internvl_chat",
        "downsample_ratio": 0.5,
        "llm_config": language,
        "vision_config": INTERN_VIT_6B,
    }
    found = find_architecture(str(folder_of(tmp_path, config)))
    assert found.total_parameters == PUBLISHED["InternVL2-26B"]


def test_transformers_5_writes_rope_in_one_place() -> None:
    config = {k: v for k, v in INTERNLM_7B.items() if not k.startswith("rope")}
    config["rope_parameters"] = {"rope_theta": 1e6, "rope_type": "dynamic", "factor": 2.0}
    found = read_architecture(ModelConfig(config, "x"), "x")
    assert found.rope == RopeSettings("dynamic", 1e6, 2.0)


def test_heads_may_be_wider_than_their_share() -> None:
    assert read_architecture(ModelConfig(INTERNLM_7B | {"head_dim": 256}, "x"), "x").head_dim == 256


def test_experts_are_counted() -> None:
    config = INTERNLM_7B | {
        "model_type": "qwen3_moe",
        "num_experts": 128,
        "num_experts_per_tok": 8,
        "moe_intermediate_size": 768,
    }
    assert read_architecture(ModelConfig(config, "x"), "x").experts == ExpertLayout(128, 768, 8)


def test_a_quantized_checkpoint_says_so(tmp_path: Path) -> None:
    quantization = {"quant_method": "awq", "bits": 4, "group_size": 64}
    found = read_architecture(
        ModelConfig(INTERNLM_7B | {"quantization_config": quantization}, "x"), "x"
    )
    assert (found.stored_scheme, found.group_size) == ("awq", 64)


@pytest.mark.parametrize("key", ["hidden_size", "num_hidden_layers", "vocab_size"])
def test_what_is_missing_is_named(key: str) -> None:
    config = {k: v for k, v in INTERNLM_7B.items() if k != key}
    with pytest.raises(UnknownArchitecture, match=f"{key} is None"):
        read_architecture(ModelConfig(config, "x"), "x")


@each_row("value", [0, -1, "many", True, 1.5, [1]])
def test_a_number_that_no_model_has_is_refused(value: object) -> None:
    with pytest.raises(UnknownArchitecture, match="num_hidden_layers"):
        read_architecture(ModelConfig(INTERNLM_7B | {"num_hidden_layers": value}, "x"), "x")


@pytest.mark.parametrize(
    ("key", "value", "word"),
    [
        ("kv_lora_rank", 512, "multi-head latent attention"),
        ("linear_num_value_heads", 32, "linear attention"),
    ],
)
def test_a_cache_of_another_kind_is_refused(key: str, value: object, word: str) -> None:
    with pytest.raises(UnknownArchitecture, match=word):
        read_architecture(ModelConfig(INTERNLM_7B | {key: value}, "x"), "x")


def test_a_vision_model_that_is_not_known_is_refused() -> None:
    config = INTERNLM_7B | {"model_type": "qwen2_vl", "vision_config": {"depth": 32}}
    with pytest.raises(UnknownArchitecture, match="qwen2_vl"):
        read_architecture(ModelConfig(config, "x"), "x")


def test_a_folder_without_a_config_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnknownArchitecture, match=r"no readable config\.json"):
        find_architecture(str(tmp_path))


@pytest.mark.parametrize("text", ["{", "[]"])
def test_a_config_that_is_no_object_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(UnknownArchitecture, match=r"config\.json"):
        read_model_config(tmp_path)


def test_an_unknown_name_lists_the_catalogue() -> None:
    with pytest.raises(UnknownModelName) as caught:
        find_architecture("gpt-4")
    assert "'gpt-4'" in str(caught.value)
    assert all(name in str(caught.value) for name in PUBLISHED)


def test_a_model_on_the_shelf_is_found_by_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AGENTCALL_CACHE", str(tmp_path / "cache"))
    folder = folder_of(tmp_path / "made", INTERNLM_7B)
    save_quantized_model("mine-awq", folder)
    assert find_architecture("mine-awq").name == str(folder)
