"""The shape of a language model, as far as memory depends on it, and its number of parameters.

The number is exact for decoders of Llama's kind (gated feed-forward, RMS norms), dense or with
experts, and for InternVL's vision model (InternViT and its projector); tests compare it with the
published checkpoints to the parameter. Other kinds are rejected, because a wrong plan is worse than
none: another vision model, for example, takes gigabytes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

from agentcall_server.errors import UnknownArchitecture
from agentcall_server.model_files import LANGUAGE_MODEL_KEYS, ModelConfig, read_quant_config
from agentcall_server.releases import LMDeployRelease
from agentcall_server.rope import ContextExtension, RopeScaling, RopeSettings, read_rope

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
    """The experts of each layer: their number, the width of one, and how many a token uses.

    `shared` is the width of an expert that every token uses in addition, or 0.
    """

    count: int
    width: int
    active: int
    shared: int = 0


@dataclass(frozen=True, slots=True)
class ModelArchitecture:
    """The shape of one model.

    kind: `model_type` of the language model. width: of the feed-forward layers.
    trained_length: in tokens. stored_scheme: quantization of the checkpoint, '16' if none.
    has_custom_code: the model needs --trust-remote-code.
    """

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
    class_names: tuple[str, ...] = ()

    @property
    def attention_parameters(self) -> int:
        """Parameters of one layer's attention matrices."""
        return self.hidden * self.head_dim * 2 * (self.heads + self.kv_heads)

    @property
    def feed_forward_parameters(self) -> int:
        """Parameters of one layer's feed-forward matrices, including all experts."""
        if self.experts is None:
            return 3 * self.hidden * self.width
        return 3 * self.hidden * (self.experts.count * self.experts.width + self.experts.shared)

    @property
    def linear_parameters(self) -> int:
        """Parameters that weight quantization affects: the matrices of all layers."""
        return self.layers * (self.attention_parameters + self.feed_forward_parameters)

    @property
    def embedding_parameters(self) -> int:
        """Parameters of the token embedding; the output head has the same number."""
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
        """All parameters, including the vision model."""
        embeddings = self.embedding_parameters * (1 if self.has_tied_embeddings else 2)
        return self.linear_parameters + embeddings + self.small_parameters + self.vision_parameters

    def plan_rope_scaling(self, length: int, release: LMDeployRelease) -> RopeScaling | None:
        """Return the scaling for sessions of `length` tokens, or None if none is needed."""
        extension = ContextExtension(
            self.rope, self.kind, self.head_dim, self.trained_length, length
        )
        return extension.plan_scaling(release)


def read_architecture(configuration: ModelConfig, name: str) -> ModelArchitecture:
    """Return the shape that a config.json describes. Raises UnknownArchitecture."""
    language = configuration.get_section(*LANGUAGE_MODEL_KEYS) or configuration
    kind = language.get_str("model_type") or "llama"
    for key, feature in _UNSUPPORTED_FEATURES.items():
        if language.values.get(key):
            raise UnknownArchitecture(
                f"{language.name}: {language.get_str('model_type') or 'the model'} has {feature} "
                f"({key}), whose cache is not computed here; start it with a small "
                f"--cache-max-entry-count and read the blocks from LMDeploy's log"
            )
    heads = language.get_positive_int("num_attention_heads")
    hidden = language.get_positive_int("hidden_size")
    quantization = read_quant_config(configuration)
    bias = language.get_bool("bias") or language.get_bool("attention_bias")
    tied = configuration.get_bool("tie_word_embeddings")
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
        has_tied_embeddings=language.get_bool("tie_word_embeddings", default=tied),
        qkv_bias=kind in _WITH_QKV_BIAS or bias,
        out_bias=bias and kind not in _WITH_QKV_BIAS,
        qk_norm=kind in _WITH_QK_NORM,
        experts=_read_experts(language),
        vision_parameters=_count_vision_parameters(configuration, hidden),
        stored_scheme=quantization.get_str("quant_method") if quantization else "16",
        group_size=quantization.get_positive_int("group_size", 128) if quantization else 128,
        has_custom_code=configuration.get_section("auto_map") is not None,
        class_names=configuration.get_strs("architectures"),
    )


def _read_experts(language: ModelConfig) -> ExpertLayout | None:
    key = "num_local_experts" if "num_local_experts" in language.values else "num_experts"
    count = language.get_int(key, 0)
    if count < 2:
        return None
    if language.values.get("mlp_only_layers") or language.get_int("decoder_sparse_step", 1) != 1:
        raise UnknownArchitecture(
            f"{language.name}: only some layers have experts, which is not supported here"
        )
    width = language.get_positive_int(
        "moe_intermediate_size", language.get_positive_int("intermediate_size")
    )
    active = language.get_positive_int("num_experts_per_tok", 1)
    shared = language.get_int("shared_expert_intermediate_size", 0)
    return ExpertLayout(count, width, active, shared)


def _count_vision_parameters(configuration: ModelConfig, language_hidden: int) -> int:
    """Return the parameters of the vision model and its projector; 0 if there is none."""
    vision = configuration.get_section("vision_config")
    if vision is None:
        return 0
    if configuration.get_str("model_type") not in ("internvl_chat", "internvl"):
        raise UnknownArchitecture(
            f"{configuration.name}: the vision model of {configuration.get_str('model_type')!r} is "
            f"not computed here, only InternVL's; to leave it out of the estimate, give a "
            f"config.json with its text_config only"
        )
    hidden = vision.get_positive_int("hidden_size")
    width = vision.get_positive_int("intermediate_size")
    patch = _read_side(vision, "patch_size")
    positions = (_read_side(vision, "image_size") // patch) ** 2 + 1
    embeddings = hidden + (3 * patch * patch * hidden + hidden) + positions * hidden
    attention = 3 * hidden * hidden + hidden * hidden + hidden
    if vision.get_bool("qkv_bias"):
        attention += 3 * hidden
    if vision.get_bool("qk_normalization"):
        attention += 2 * hidden
    feed_forward = 2 * hidden * width + width + hidden
    norms = 2 * hidden * (1 if vision.get_str("norm_type") == "rms_norm" else 2)
    scales = 2 * hidden
    layers = vision.get_positive_int("num_hidden_layers")
    # the projector: a layer norm and two matrices, over pixels that are shuffled together
    ratio = configuration.get_float("downsample_ratio", 0.5)
    joined, out = int(hidden / ratio / ratio), language_hidden
    projector = 2 * joined + (joined * out + out) + (out * out + out)
    return embeddings + layers * (attention + feed_forward + norms + scales) + projector


def _read_side(vision: ModelConfig, key: str) -> int:
    """Return a side in pixels, which newer files give as a pair."""
    value = vision.values.get(key)
    if isinstance(value, list) and value:
        side = cast("list[object]", value)[0]
        return ModelConfig({key: side}, vision.name).get_positive_int(key)
    return vision.get_positive_int(key)
