"""The language models that can be planned by name, without their files.

The shapes are those of the publishers' config.json. `embedded_models` lists the files that the
embedded runtime downloads. Any other model is planned from its folder.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from agentcall_server.architecture import ExpertLayout, ModelArchitecture, read_architecture
from agentcall_server.errors import UnknownModelName
from agentcall_server.model_files import read_model_config
from agentcall_server.quantized_models import load_quantized_models
from agentcall_server.rope import RopeSettings

_INTERN_VIT_6B = 5_652_925_824
"""InternVL2-26B's vision model and projector: InternViT-6B-448px-V1-5 and two matrices."""
_SMALL_QWEN_VOCABULARY = 151936

# families, without what differs between their sizes
_INTERNLM = ModelArchitecture(
    name="internlm/internlm2_5-{}-chat",
    kind="internlm2",
    layers=0,
    hidden=0,
    heads=0,
    kv_heads=0,
    head_dim=0,
    width=0,
    vocabulary=92544,
    trained_length=32768,
    rope=RopeSettings("dynamic", 1e6, 2.0),
    has_custom_code=True,
    class_names=("InternLM2ForCausalLM",),
)
_QWEN2_5 = replace(
    _INTERNLM,
    name="Qwen/Qwen2.5-{}-Instruct",
    kind="qwen2",
    vocabulary=152064,
    rope=RopeSettings(base=1e6),
    qkv_bias=True,
    has_custom_code=False,
    class_names=("Qwen2ForCausalLM",),
)
_QWEN3 = replace(
    _INTERNLM,
    name="Qwen/Qwen3-{}",
    kind="qwen3",
    head_dim=128,
    vocabulary=151936,
    trained_length=40960,
    rope=RopeSettings(base=1e6),
    qk_norm=True,
    has_custom_code=False,
    class_names=("Qwen3ForCausalLM",),
)
_QWEN3_MOE = replace(_QWEN3, kind="qwen3_moe", class_names=("Qwen3MoeForCausalLM",))
_LLAMA_3 = replace(
    _INTERNLM,
    name="meta-llama/{}-Instruct",
    kind="llama",
    vocabulary=128256,
    trained_length=8192,
    rope=RopeSettings(base=5e5),
    has_custom_code=False,
    class_names=("LlamaForCausalLM",),
)
_LLAMA_3_1 = replace(
    _LLAMA_3, trained_length=131072, rope=RopeSettings("llama3", 5e5, 8.0, original_length=8192)
)
_LLAMA_3_2 = replace(_LLAMA_3_1, rope=RopeSettings("llama3", 5e5, 32.0, original_length=8192))


def _make_model(
    family: ModelArchitecture,
    size: str,
    shape: tuple[int, int, int, int, int],
    *,
    tied: bool = False,
) -> ModelArchitecture:
    """Return a model of a family; `shape` is layers, hidden size, heads, kv heads and width."""
    layers, hidden, heads, kv_heads, width = shape
    return replace(
        family,
        name=family.name.format(size),
        layers=layers,
        hidden=hidden,
        heads=heads,
        kv_heads=kv_heads,
        head_dim=family.head_dim or hidden // heads,
        width=width,
        has_tied_embeddings=tied,
    )


def _make_small_qwen2_5(size: str, shape: tuple[int, int, int, int, int]) -> ModelArchitecture:
    return replace(_make_model(_QWEN2_5, size, shape, tied=True), vocabulary=_SMALL_QWEN_VOCABULARY)


_INTERNLM_20B = replace(
    _make_model(_INTERNLM, "20b", (48, 6144, 48, 8, 16384)), rope=RopeSettings("dynamic", 5e7, 2.5)
)
_INTERNVL_26B = replace(
    _INTERNLM_20B,
    name="OpenGVLab/InternVL2-26B",
    vocabulary=92553,
    rope=RopeSettings("dynamic", 1e6, 3.0),
    vision_parameters=_INTERN_VIT_6B,
    class_names=("InternVLChatModel",),
)
_QWEN3_30B = _make_model(_QWEN3_MOE, "30B-A3B", (48, 2048, 32, 4, 6144))
_QWEN3_235B = _make_model(_QWEN3_MOE, "235B-A22B", (94, 4096, 64, 4, 12288))

ARCHITECTURES: tuple[ModelArchitecture, ...] = (
    _make_model(_INTERNLM, "1_8b", (24, 2048, 16, 8, 8192)),
    _make_model(_INTERNLM, "7b", (32, 4096, 32, 8, 14336)),
    _INTERNLM_20B,
    _INTERNVL_26B,
    _make_small_qwen2_5("0.5B", (24, 896, 14, 2, 4864)),
    _make_small_qwen2_5("1.5B", (28, 1536, 12, 2, 8960)),
    _make_small_qwen2_5("3B", (36, 2048, 16, 2, 11008)),
    _make_model(_QWEN2_5, "7B", (28, 3584, 28, 4, 18944)),
    _make_model(_QWEN2_5, "14B", (48, 5120, 40, 8, 13824)),
    _make_model(_QWEN2_5, "32B", (64, 5120, 40, 8, 27648)),
    _make_model(_QWEN2_5, "72B", (80, 8192, 64, 8, 29568)),
    _make_model(_QWEN3, "0.6B", (28, 1024, 16, 8, 3072), tied=True),
    _make_model(_QWEN3, "1.7B", (28, 2048, 16, 8, 6144), tied=True),
    _make_model(_QWEN3, "4B", (36, 2560, 32, 8, 9728), tied=True),
    _make_model(_QWEN3, "8B", (36, 4096, 32, 8, 12288)),
    _make_model(_QWEN3, "14B", (40, 5120, 40, 8, 17408)),
    _make_model(_QWEN3, "32B", (64, 5120, 64, 8, 25600)),
    replace(_QWEN3_30B, experts=ExpertLayout(128, 768, 8)),
    replace(_QWEN3_235B, experts=ExpertLayout(128, 1536, 8)),
    _make_model(_LLAMA_3, "Meta-Llama-3-8B", (32, 4096, 32, 8, 14336)),
    _make_model(_LLAMA_3, "Meta-Llama-3-70B", (80, 8192, 64, 8, 28672)),
    _make_model(_LLAMA_3_1, "Llama-3.1-8B", (32, 4096, 32, 8, 14336)),
    _make_model(_LLAMA_3_1, "Llama-3.1-70B", (80, 8192, 64, 8, 28672)),
    _make_model(_LLAMA_3_2, "Llama-3.2-1B", (16, 2048, 32, 8, 8192), tied=True),
    _make_model(_LLAMA_3_2, "Llama-3.2-3B", (28, 3072, 24, 8, 8192), tied=True),
    _make_model(_LLAMA_3_1, "Llama-3.3-70B", (80, 8192, 64, 8, 28672)),
)


def find_architecture(name_or_folder: str) -> ModelArchitecture:
    """Return the shape of a model in a folder, of a quantized model, or of a model in the list.

    A name may be given with or without its owner. Raises UnknownModelName, UnknownArchitecture.
    """
    name = name_or_folder.strip()
    folder = Path(name).expanduser()
    folder = folder if folder.is_dir() else load_quantized_models().get(name, folder)
    if folder.is_dir():
        return read_architecture(read_model_config(folder), str(folder))
    for model in ARCHITECTURES:
        full = model.name.lower()
        short = full.partition("/")[2]
        if name.lower() in (full, short, short.removesuffix("-instruct").removesuffix("-chat")):
            return model
    known = ", ".join(model.name.partition("/")[2] for model in ARCHITECTURES)
    raise UnknownModelName(
        f"no model {name!r}: there is no such folder, and the known names are {known}; for another "
        f"model give the folder of its config.json"
    )
