"""A language model's shape, as far as memory depends on it, and its count of parameters.

The count is exact for decoders of Llama's kind (gated feed-forward, RMS norms), dense or with
experts, and for InternVL's vision model; tests compare it with the published checkpoints to the
parameter. What is not of that kind is refused, because a plan that is wrong is worse than none.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from agentcall_server.configuration import INNER, Configuration
from agentcall_server.refusals import UnknownShape
from agentcall_server.rope import Rope, read_rope
from agentcall_server.vision import vision_parameters

_WITH_QKV_BIAS = ("qwen2", "qwen2_moe", "qwen2_vl", "qwen2_5_vl")
_WITH_QK_NORM = ("qwen3", "qwen3_moe")
_NO_LLAMA = {
    "kv_lora_rank": "multi-head latent attention",
    "ssm_cfg": "a state space",
    "linear_num_value_heads": "linear attention",
    "num_kv_shared_layers": "layers that share their cache",
}


@dataclass(frozen=True, slots=True)
class Experts:
    """The experts of each layer: how many, the width of one, and how many a token passes.

    `shared` is the width of the one that every token passes besides, or 0.
    """

    count: int
    width: int
    active: int
    shared: int = 0


@dataclass(frozen=True, slots=True)
class Architecture:
    """The shape of one model; `trained` is in tokens, `vision` in parameters."""

    name: str
    kind: str
    layers: int
    hidden: int
    heads: int
    kv_heads: int
    head_dim: int
    width: int
    vocabulary: int
    trained: int
    rope: Rope
    tied: bool = False
    qkv_bias: bool = False
    out_bias: bool = False
    qk_norm: bool = False
    experts: Experts | None = None
    vision: int = 0
    stored_scheme: str = "16"
    group_size: int = 128
    own_code: bool = False
    classes: tuple[str, ...] = field(default=())

    @property
    def attention_linears(self) -> int:
        """Parameters of one layer's attention matrices."""
        return self.hidden * self.head_dim * 2 * (self.heads + self.kv_heads)

    @property
    def forward_linears(self) -> int:
        """Parameters of one layer's feed-forward matrices, all experts of it."""
        if self.experts is None:
            return 3 * self.hidden * self.width
        return 3 * self.hidden * (self.experts.count * self.experts.width + self.experts.shared)

    @property
    def linears(self) -> int:
        """Parameters that weight quantization reaches: the matrices of all layers."""
        return self.layers * (self.attention_linears + self.forward_linears)

    @property
    def embedding(self) -> int:
        """Parameters of the token embedding; the output head has as many."""
        return self.vocabulary * self.hidden

    @property
    def small(self) -> int:
        """Parameters of norms, biases and routers, which stay at 16 bits on every GPU."""
        layer = 2 * self.hidden
        if self.qkv_bias:
            layer += self.head_dim * (self.heads + 2 * self.kv_heads)
        if self.out_bias:
            layer += self.hidden
        if self.qk_norm:
            layer += 2 * self.head_dim
        if self.experts is not None:
            layer += self.hidden * (self.experts.count + (1 if self.experts.shared else 0))
        return self.layers * layer + self.hidden

    @property
    def parameters(self) -> int:
        """All parameters, those of the vision model too."""
        embeddings = self.embedding * (1 if self.tied else 2)
        return self.linears + embeddings + self.small + self.vision


def read_architecture(configuration: Configuration, name: str) -> Architecture:
    """The shape that a config.json describes. Raises UnknownShape."""
    language = configuration.section(*INNER) or configuration
    _require_decoder(language)
    kind = language.word("model_type") or "llama"
    heads = language.positive("num_attention_heads")
    hidden = language.positive("hidden_size")
    quantization = configuration.section("quantization_config") or language.section(
        "quantization_config"
    )
    bias = language.flag("bias") or language.flag("attention_bias")
    return Architecture(
        name=name,
        kind=kind,
        layers=language.positive("num_hidden_layers"),
        hidden=hidden,
        heads=heads,
        kv_heads=language.positive("num_key_value_heads", heads),
        head_dim=language.positive("head_dim", hidden // heads),
        width=language.positive("intermediate_size"),
        vocabulary=language.positive("vocab_size"),
        trained=language.positive("max_position_embeddings"),
        rope=read_rope(language),
        tied=_tied(configuration, language),
        qkv_bias=kind in _WITH_QKV_BIAS or bias,
        out_bias=bias and kind not in _WITH_QKV_BIAS,
        qk_norm=kind in _WITH_QK_NORM,
        experts=_experts(language),
        vision=vision_parameters(configuration, hidden),
        stored_scheme=quantization.word("quant_method") if quantization else "16",
        group_size=quantization.positive("group_size", 128) if quantization else 128,
        own_code=configuration.section("auto_map") is not None,
        classes=configuration.words("architectures"),
    )


def _require_decoder(language: Configuration) -> None:
    for key, what in _NO_LLAMA.items():
        if language.values.get(key):
            raise UnknownShape(
                f"{language.name}: {language.word('model_type') or 'the model'} has {what} "
                f"({key}), whose cache is not computed here; start it with a small "
                f"--cache-max-entry-count and read the blocks from LMDeploy's log"
            )


def _tied(whole: Configuration, language: Configuration) -> bool:
    inner = language.values.get("tie_word_embeddings")
    return inner if isinstance(inner, bool) else whole.flag("tie_word_embeddings")


def _experts(language: Configuration) -> Experts | None:
    key = "num_local_experts" if "num_local_experts" in language.values else "num_experts"
    count = language.whole(key, 0)
    if count < 2:
        return None
    if language.values.get("mlp_only_layers") or language.whole("decoder_sparse_step", 1) != 1:
        raise UnknownShape(f"{language.name}: only some layers have experts; that is not computed")
    width = language.positive("moe_intermediate_size", language.positive("intermediate_size"))
    active = language.positive("num_experts_per_tok", 1)
    return Experts(count, width, active, language.whole("shared_expert_intermediate_size", 0))
