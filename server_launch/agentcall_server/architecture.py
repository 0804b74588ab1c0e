"""A language model's shape, as far as memory depends on it, and its count of parameters.

The count is exact for decoders of Llama's kind (gated feed-forward, RMS norms), dense or with
experts, and for InternVL's vision model; tests compare it with the published checkpoints to the
parameter. What is not of that kind is refused, because a plan that is wrong is worse than none.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from agentcall_server.errors import UnknownArchitecture
from agentcall_server.model_config import LANGUAGE_MODEL_KEYS, ModelConfig
from agentcall_server.rope import RopeSettings, read_rope
from agentcall_server.vision import count_vision_parameters

_WITH_QKV_BIAS = ("qwen2", "qwen2_moe", "qwen2_vl", "qwen2_5_vl")
_WITH_QK_NORM = ("qwen3", "qwen3_moe")
_UNSUPPORTED_FEATURES = {
    "kv_lora_rank": "multi-head latent attention",
    "ssm_cfg": "a state space",
    "linear_num_value_heads": "linear attention",
    "num_kv_shared_layers": "layers that share their cache",
}


@dataclass(frozen=True, slots=True)
class ExpertLayout:
    """The experts of each layer: how many, the width of one, and how many a token passes.

    `shared` is the width of the one that every token passes besides, or 0.
    """

    count: int
    width: int
    active: int
    shared: int = 0


@dataclass(frozen=True, slots=True)
class ModelArchitecture:
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
    trained_length: int
    rope: RopeSettings
    has_tied_embeddings: bool = False
    qkv_bias: bool = False
    out_bias: bool = False
    qk_norm: bool = False
    experts: ExpertLayout | None = None
    vision_parameters: int = 0
    stored_scheme: str = "16"
    group_size: int = 128
    has_custom_code: bool = False
    class_names: tuple[str, ...] = field(default=())

    @property
    def attention_parameters(self) -> int:
        """Parameters of one layer's attention matrices."""
        return self.hidden * self.head_dim * 2 * (self.heads + self.kv_heads)

    @property
    def feed_forward_parameters(self) -> int:
        """Parameters of one layer's feed-forward matrices, all experts of it."""
        if self.experts is None:
            return 3 * self.hidden * self.width
        return 3 * self.hidden * (self.experts.count * self.experts.width + self.experts.shared)

    @property
    def linear_parameters(self) -> int:
        """Parameters that weight quantization reaches: the matrices of all layers."""
        return self.layers * (self.attention_parameters + self.feed_forward_parameters)

    @property
    def embedding_parameters(self) -> int:
        """Parameters of the token embedding; the output head has as many."""
        return self.vocabulary * self.hidden

    @property
    def small_parameters(self) -> int:
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
    def total_parameters(self) -> int:
        """All parameters, those of the vision model too."""
        embeddings = self.embedding_parameters * (1 if self.has_tied_embeddings else 2)
        return self.linear_parameters + embeddings + self.small_parameters + self.vision_parameters


def read_architecture(configuration: ModelConfig, name: str) -> ModelArchitecture:
    """The shape that a config.json describes. Raises UnknownShape."""
    language = configuration.get_section(*LANGUAGE_MODEL_KEYS) or configuration
    _require_decoder(language)
    kind = language.get_str("model_type") or "llama"
    heads = language.get_positive_int("num_attention_heads")
    hidden = language.get_positive_int("hidden_size")
    quantization = configuration.get_section("quantization_config") or language.get_section(
        "quantization_config"
    )
    bias = language.get_bool("bias") or language.get_bool("attention_bias")
    return ModelArchitecture(
        name=name,
        kind=kind,
        layers=language.get_positive_int("num_hidden_layers"),
        hidden=hidden,
        heads=heads,
        kv_heads=language.get_positive_int("num_key_value_heads", heads),
        head_dim=language.get_positive_int("head_dim", hidden // heads),
        width=language.get_positive_int("intermediate_size"),
        vocabulary=language.get_positive_int("vocab_size"),
        trained_length=language.get_positive_int("max_position_embeddings"),
        rope=read_rope(language),
        has_tied_embeddings=_has_tied_embeddings(configuration, language),
        qkv_bias=kind in _WITH_QKV_BIAS or bias,
        out_bias=bias and kind not in _WITH_QKV_BIAS,
        qk_norm=kind in _WITH_QK_NORM,
        experts=_read_experts(language),
        vision_parameters=count_vision_parameters(configuration, hidden),
        stored_scheme=quantization.get_str("quant_method") if quantization else "16",
        group_size=quantization.get_positive_int("group_size", 128) if quantization else 128,
        has_custom_code=configuration.get_section("auto_map") is not None,
        class_names=configuration.get_strs("architectures"),
    )


def _require_decoder(language: ModelConfig) -> None:
    for key, what in _UNSUPPORTED_FEATURES.items():
        if language.values.get(key):
            raise UnknownArchitecture(
                f"{language.name}: {language.get_str('model_type') or 'the model'} has {what} "
                f"({key}), whose cache is not computed here; start it with a small "
                f"--cache-max-entry-count and read the blocks from LMDeploy's log"
            )


def _has_tied_embeddings(whole: ModelConfig, language: ModelConfig) -> bool:
    inner = language.values.get("tie_word_embeddings")
    return inner if isinstance(inner, bool) else whole.get_bool("tie_word_embeddings")


def _read_experts(language: ModelConfig) -> ExpertLayout | None:
    key = "num_local_experts" if "num_local_experts" in language.values else "num_experts"
    count = language.get_int(key, 0)
    if count < 2:
        return None
    if language.values.get("mlp_only_layers") or language.get_int("decoder_sparse_step", 1) != 1:
        raise UnknownArchitecture(
            f"{language.name}: only some layers have experts; that is not computed"
        )
    width = language.get_positive_int(
        "moe_intermediate_size", language.get_positive_int("intermediate_size")
    )
    active = language.get_positive_int("num_experts_per_tok", 1)
    return ExpertLayout(
        count, width, active, language.get_int("shared_expert_intermediate_size", 0)
    )
