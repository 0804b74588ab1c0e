"""The language models that can be planned by name, without their files.

Shapes are those of the publishers' config.json. Kept apart from `catalogue`, which holds the files
that the embedded runtime downloads. A model of your own is planned from its folder.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from agentcall_server.architecture import ExpertLayout, ModelArchitecture, read_architecture
from agentcall_server.errors import UnknownModelName
from agentcall_server.model_config import read_model_config
from agentcall_server.quantized_models import load_quantized_models
from agentcall_server.rope import RopeSettings

_INTERN_VIT_6B = 5_652_925_824
"""InternVL2-26B's vision model and projector: InternViT-6B-448px-V1-5 and two matrices."""


def _make_internlm(
    name: str, layers: int, hidden: int, heads: int, width: int
) -> ModelArchitecture:
    return ModelArchitecture(
        name=f"internlm/{name}",
        kind="internlm2",
        layers=layers,
        hidden=hidden,
        heads=heads,
        kv_heads=8,
        head_dim=128,
        width=width,
        vocabulary=92544,
        trained_length=32768,
        rope=RopeSettings("dynamic", 1e6, 2.0),
        has_custom_code=True,
        class_names=("InternLM2ForCausalLM",),
    )


@dataclass(frozen=True, slots=True)
class _ModelSize:
    """What differs between the sizes of a family."""

    name: str
    layers: int
    hidden: int
    heads: int
    kv_heads: int
    width: int
    has_tied_embeddings: bool = False


def _make_qwen2_5(size: _ModelSize, vocabulary: int = 152064) -> ModelArchitecture:
    return ModelArchitecture(
        name=f"Qwen/Qwen2.5-{size.name}-Instruct",
        kind="qwen2",
        layers=size.layers,
        hidden=size.hidden,
        heads=size.heads,
        kv_heads=size.kv_heads,
        head_dim=size.hidden // size.heads,
        width=size.width,
        vocabulary=vocabulary,
        trained_length=32768,
        rope=RopeSettings(base=1e6),
        has_tied_embeddings=size.has_tied_embeddings,
        qkv_bias=True,
        class_names=("Qwen2ForCausalLM",),
    )


def _make_qwen3(size: _ModelSize, experts: ExpertLayout | None = None) -> ModelArchitecture:
    return ModelArchitecture(
        name=f"Qwen/Qwen3-{size.name}",
        kind="qwen3_moe" if experts else "qwen3",
        layers=size.layers,
        hidden=size.hidden,
        heads=size.heads,
        kv_heads=size.kv_heads,
        head_dim=128,
        width=size.width,
        vocabulary=151936,
        trained_length=40960,
        rope=RopeSettings(base=1e6),
        has_tied_embeddings=size.has_tied_embeddings,
        qk_norm=True,
        experts=experts,
        class_names=("Qwen3MoeForCausalLM" if experts else "Qwen3ForCausalLM",),
    )


def _make_llama(
    size: _ModelSize, trained_length: int = 131072, factor: float = 8.0
) -> ModelArchitecture:
    scaled = (
        RopeSettings("llama3", 5e5, factor, 8192)
        if trained_length > 8192
        else RopeSettings(base=5e5)
    )
    return ModelArchitecture(
        name=f"meta-llama/{size.name}",
        kind="llama",
        layers=size.layers,
        hidden=size.hidden,
        heads=size.heads,
        kv_heads=size.kv_heads,
        head_dim=size.hidden // size.heads,
        width=size.width,
        vocabulary=128256,
        trained_length=trained_length,
        rope=scaled,
        has_tied_embeddings=size.has_tied_embeddings,
        class_names=("LlamaForCausalLM",),
    )


_INTERNLM_20B = replace(
    _make_internlm("internlm2_5-20b-chat", 48, 6144, 48, 16384),
    rope=RopeSettings("dynamic", 5e7, 2.5),
)
_INTERNVL_26B = replace(
    _INTERNLM_20B,
    name="OpenGVLab/InternVL2-26B",
    vocabulary=92553,
    rope=RopeSettings("dynamic", 1e6, 3.0),
    vision_parameters=_INTERN_VIT_6B,
    class_names=("InternVLChatModel",),
)
_SMALL_VOCABULARY = 151936

ARCHITECTURES: tuple[ModelArchitecture, ...] = (
    _make_internlm("internlm2_5-1_8b-chat", 24, 2048, 16, 8192),
    _make_internlm("internlm2_5-7b-chat", 32, 4096, 32, 14336),
    _INTERNLM_20B,
    _INTERNVL_26B,
    _make_qwen2_5(
        _ModelSize("0.5B", 24, 896, 14, 2, 4864, has_tied_embeddings=True), _SMALL_VOCABULARY
    ),
    _make_qwen2_5(
        _ModelSize("1.5B", 28, 1536, 12, 2, 8960, has_tied_embeddings=True), _SMALL_VOCABULARY
    ),
    _make_qwen2_5(
        _ModelSize("3B", 36, 2048, 16, 2, 11008, has_tied_embeddings=True), _SMALL_VOCABULARY
    ),
    _make_qwen2_5(_ModelSize("7B", 28, 3584, 28, 4, 18944)),
    _make_qwen2_5(_ModelSize("14B", 48, 5120, 40, 8, 13824)),
    _make_qwen2_5(_ModelSize("32B", 64, 5120, 40, 8, 27648)),
    _make_qwen2_5(_ModelSize("72B", 80, 8192, 64, 8, 29568)),
    _make_qwen3(_ModelSize("0.6B", 28, 1024, 16, 8, 3072, has_tied_embeddings=True)),
    _make_qwen3(_ModelSize("1.7B", 28, 2048, 16, 8, 6144, has_tied_embeddings=True)),
    _make_qwen3(_ModelSize("4B", 36, 2560, 32, 8, 9728, has_tied_embeddings=True)),
    _make_qwen3(_ModelSize("8B", 36, 4096, 32, 8, 12288)),
    _make_qwen3(_ModelSize("14B", 40, 5120, 40, 8, 17408)),
    _make_qwen3(_ModelSize("32B", 64, 5120, 64, 8, 25600)),
    _make_qwen3(_ModelSize("30B-A3B", 48, 2048, 32, 4, 6144), ExpertLayout(128, 768, 8)),
    _make_qwen3(_ModelSize("235B-A22B", 94, 4096, 64, 4, 12288), ExpertLayout(128, 1536, 8)),
    _make_llama(_ModelSize("Meta-Llama-3-8B-Instruct", 32, 4096, 32, 8, 14336), 8192),
    _make_llama(_ModelSize("Meta-Llama-3-70B-Instruct", 80, 8192, 64, 8, 28672), 8192),
    _make_llama(_ModelSize("Llama-3.1-8B-Instruct", 32, 4096, 32, 8, 14336)),
    _make_llama(_ModelSize("Llama-3.1-70B-Instruct", 80, 8192, 64, 8, 28672)),
    _make_llama(
        _ModelSize("Llama-3.2-1B-Instruct", 16, 2048, 32, 8, 8192, has_tied_embeddings=True),
        factor=32.0,
    ),
    _make_llama(
        _ModelSize("Llama-3.2-3B-Instruct", 28, 3072, 24, 8, 8192, has_tied_embeddings=True),
        factor=32.0,
    ),
    _make_llama(_ModelSize("Llama-3.3-70B-Instruct", 80, 8192, 64, 8, 28672)),
)


def find_architecture(name_or_folder: str) -> ModelArchitecture:
    """The shape of a model: of a folder with a config.json, of one on the shelf, or by name.

    A name may come with its owner or without. Raises UnknownModel, UnknownShape.
    """
    wanted = name_or_folder.strip()
    folder = Path(wanted).expanduser()
    folder = folder if folder.is_dir() else load_quantized_models().get(wanted, folder)
    if folder.is_dir():
        return read_architecture(read_model_config(folder), str(folder))
    for model in ARCHITECTURES:
        if wanted.lower() in _list_names(model):
            return model
    listed = ", ".join(_shorten_name(model) for model in ARCHITECTURES)
    raise UnknownModelName(
        f"no model {wanted!r}: there is no such folder, and the shapes that are known by name are "
        f"{listed}; for another model give the folder of its config.json"
    )


def _shorten_name(model: ModelArchitecture) -> str:
    return model.name.partition("/")[2]


def _list_names(model: ModelArchitecture) -> tuple[str, ...]:
    short = _shorten_name(model).lower()
    return model.name.lower(), short, short.removesuffix("-instruct").removesuffix("-chat")
