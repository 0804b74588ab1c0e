"""The language models that can be planned by name, without their files.

Shapes are those of the publishers' config.json. Kept apart from `catalogue`, which holds the files
that the embedded runtime downloads. A model of your own is planned from its folder.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from agentcall_server.architecture import Architecture, Experts, read_architecture
from agentcall_server.configuration import read_configuration
from agentcall_server.errors import UnknownModel
from agentcall_server.rope import Rope
from agentcall_server.shelf import shelf

_INTERN_VIT_6B = 5_652_925_824
"""InternVL2-26B's vision model and projector: InternViT-6B-448px-V1-5 and two matrices."""


def _internlm(name: str, layers: int, hidden: int, heads: int, width: int) -> Architecture:
    return Architecture(
        name=f"internlm/{name}",
        kind="internlm2",
        layers=layers,
        hidden=hidden,
        heads=heads,
        kv_heads=8,
        head_dim=128,
        width=width,
        vocabulary=92544,
        trained=32768,
        rope=Rope("dynamic", 1e6, 2.0),
        own_code=True,
        classes=("InternLM2ForCausalLM",),
    )


@dataclass(frozen=True, slots=True)
class _Size:
    """What differs between the sizes of a family."""

    name: str
    layers: int
    hidden: int
    heads: int
    kv_heads: int
    width: int
    tied: bool = False


def _qwen2_5(size: _Size, vocabulary: int = 152064) -> Architecture:
    return Architecture(
        name=f"Qwen/Qwen2.5-{size.name}-Instruct",
        kind="qwen2",
        layers=size.layers,
        hidden=size.hidden,
        heads=size.heads,
        kv_heads=size.kv_heads,
        head_dim=size.hidden // size.heads,
        width=size.width,
        vocabulary=vocabulary,
        trained=32768,
        rope=Rope(base=1e6),
        tied=size.tied,
        qkv_bias=True,
        classes=("Qwen2ForCausalLM",),
    )


def _qwen3(size: _Size, experts: Experts | None = None) -> Architecture:
    return Architecture(
        name=f"Qwen/Qwen3-{size.name}",
        kind="qwen3_moe" if experts else "qwen3",
        layers=size.layers,
        hidden=size.hidden,
        heads=size.heads,
        kv_heads=size.kv_heads,
        head_dim=128,
        width=size.width,
        vocabulary=151936,
        trained=40960,
        rope=Rope(base=1e6),
        tied=size.tied,
        qk_norm=True,
        experts=experts,
        classes=("Qwen3MoeForCausalLM" if experts else "Qwen3ForCausalLM",),
    )


def _llama(size: _Size, trained: int = 131072, factor: float = 8.0) -> Architecture:
    scaled = Rope("llama3", 5e5, factor, 8192) if trained > 8192 else Rope(base=5e5)
    return Architecture(
        name=f"meta-llama/{size.name}",
        kind="llama",
        layers=size.layers,
        hidden=size.hidden,
        heads=size.heads,
        kv_heads=size.kv_heads,
        head_dim=size.hidden // size.heads,
        width=size.width,
        vocabulary=128256,
        trained=trained,
        rope=scaled,
        tied=size.tied,
        classes=("LlamaForCausalLM",),
    )


_INTERNLM_20B = replace(
    _internlm("internlm2_5-20b-chat", 48, 6144, 48, 16384), rope=Rope("dynamic", 5e7, 2.5)
)
_INTERNVL_26B = replace(
    _INTERNLM_20B,
    name="OpenGVLab/InternVL2-26B",
    vocabulary=92553,
    rope=Rope("dynamic", 1e6, 3.0),
    vision=_INTERN_VIT_6B,
    classes=("InternVLChatModel",),
)
_SMALL = 151936

MODELS: tuple[Architecture, ...] = (
    _internlm("internlm2_5-1_8b-chat", 24, 2048, 16, 8192),
    _internlm("internlm2_5-7b-chat", 32, 4096, 32, 14336),
    _INTERNLM_20B,
    _INTERNVL_26B,
    _qwen2_5(_Size("0.5B", 24, 896, 14, 2, 4864, tied=True), _SMALL),
    _qwen2_5(_Size("1.5B", 28, 1536, 12, 2, 8960, tied=True), _SMALL),
    _qwen2_5(_Size("3B", 36, 2048, 16, 2, 11008, tied=True), _SMALL),
    _qwen2_5(_Size("7B", 28, 3584, 28, 4, 18944)),
    _qwen2_5(_Size("14B", 48, 5120, 40, 8, 13824)),
    _qwen2_5(_Size("32B", 64, 5120, 40, 8, 27648)),
    _qwen2_5(_Size("72B", 80, 8192, 64, 8, 29568)),
    _qwen3(_Size("0.6B", 28, 1024, 16, 8, 3072, tied=True)),
    _qwen3(_Size("1.7B", 28, 2048, 16, 8, 6144, tied=True)),
    _qwen3(_Size("4B", 36, 2560, 32, 8, 9728, tied=True)),
    _qwen3(_Size("8B", 36, 4096, 32, 8, 12288)),
    _qwen3(_Size("14B", 40, 5120, 40, 8, 17408)),
    _qwen3(_Size("32B", 64, 5120, 64, 8, 25600)),
    _qwen3(_Size("30B-A3B", 48, 2048, 32, 4, 6144), Experts(128, 768, 8)),
    _qwen3(_Size("235B-A22B", 94, 4096, 64, 4, 12288), Experts(128, 1536, 8)),
    _llama(_Size("Meta-Llama-3-8B-Instruct", 32, 4096, 32, 8, 14336), 8192),
    _llama(_Size("Meta-Llama-3-70B-Instruct", 80, 8192, 64, 8, 28672), 8192),
    _llama(_Size("Llama-3.1-8B-Instruct", 32, 4096, 32, 8, 14336)),
    _llama(_Size("Llama-3.1-70B-Instruct", 80, 8192, 64, 8, 28672)),
    _llama(_Size("Llama-3.2-1B-Instruct", 16, 2048, 32, 8, 8192, tied=True), factor=32.0),
    _llama(_Size("Llama-3.2-3B-Instruct", 28, 3072, 24, 8, 8192, tied=True), factor=32.0),
    _llama(_Size("Llama-3.3-70B-Instruct", 80, 8192, 64, 8, 28672)),
)


def find_architecture(name_or_folder: str) -> Architecture:
    """The shape of a model: of a folder with a config.json, of one on the shelf, or by name.

    A name may come with its owner or without. Raises UnknownModel, UnknownShape.
    """
    wanted = name_or_folder.strip()
    folder = Path(wanted).expanduser()
    folder = folder if folder.is_dir() else shelf().get(wanted, folder)
    if folder.is_dir():
        return read_architecture(read_configuration(folder), str(folder))
    for model in MODELS:
        if wanted.lower() in _names(model):
            return model
    listed = ", ".join(_short(model) for model in MODELS)
    raise UnknownModel(
        f"no model {wanted!r}: there is no such folder, and the shapes that are known by name are "
        f"{listed}; for another model give the folder of its config.json"
    )


def _short(model: Architecture) -> str:
    return model.name.partition("/")[2]


def _names(model: Architecture) -> tuple[str, ...]:
    short = _short(model).lower()
    return model.name.lower(), short, short.removesuffix("-instruct").removesuffix("-chat")
